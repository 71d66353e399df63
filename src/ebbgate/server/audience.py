"""Those to whom the decider speaks: who asked, who is concerned, and who looks on."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ebbgate.core.book import Book
from ebbgate.core.commands import Outcome, Told
from ebbgate.core.model import Stored
from ebbgate.errors import EbbgateError

Answered = Callable[[Sequence[Outcome] | EbbgateError], None]
"""Called once, on the loop, with one outcome for each command, or with why nobody knows."""

Watcher = Callable[[Sequence[Stored] | None, int], None]
"""Called with what was committed, by whomever, and the store's time; None: everything may be different."""


class Audience(Protocol):
    """Those who are told what becomes of leases."""

    def tell(self, told: Told) -> bool:
        """Pass a word on; False: it is none of theirs."""

    def hurry(self) -> None:
        """Have every lease renewed now."""

    def reloaded(self, book: Book) -> None:
        """Everything was loaded anew: what was known before may not be true."""
