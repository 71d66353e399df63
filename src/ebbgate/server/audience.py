"""Those to whom the decider speaks: who asked, who is concerned, and who looks on."""

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ebbgate.core.book import Book
from ebbgate.core.commands import Command, Outcome, Refused, Told
from ebbgate.core.model import Stored
from ebbgate.errors import EbbgateError

_log: Final = logging.getLogger("ebbgate.server")

Answered = Callable[[Sequence[Outcome] | EbbgateError], None]
"""Called once, on the loop, with one outcome for each command, or with why nobody knows."""

Job = tuple[Sequence[Command], Answered]

Watcher = Callable[[Sequence[Stored] | None, int], None]
"""Called with what was committed, by whomever, and the instant of the last of it; None: everything may be different."""


class Clocked(Protocol):
    """Whoever knows the time."""

    def clock(self) -> int:
        """Return the store's own time: microseconds since 1970."""


class Watched(Protocol):
    """Whoever decides, for those who only look on."""

    @property
    def book(self) -> Book:
        """What is."""

    @property
    def store(self) -> Clocked:
        """Where it is kept."""

    @property
    def watchers(self) -> list[Watcher]:
        """Who hears of what was committed."""

    @property
    def own_watchers(self) -> list[Watcher]:
        """Who hears, before them, of what this one committed, and not another server."""

    @property
    def refused(self) -> list[Callable[[Refused], None]]:
        """Who hears of each refusal."""


class Audience(Protocol):
    """Those who are told what becomes of leases."""

    def tell(self, told: Told) -> bool:
        """Pass a word on; False: it is none of theirs."""

    def hurry(self) -> None:
        """Have every lease renewed now."""

    def reloaded(self, book: Book) -> None:
        """Everything was loaded anew: what was known before may not be true."""


def answer_all(jobs: Sequence[Job], outcomes: Sequence[Outcome] | EbbgateError) -> None:
    """Answer jobs that were carried out together, in their order; or tell all of them why nobody knows."""
    before = 0
    for asked, answered in jobs:
        after = before + len(asked)
        try:
            answered(outcomes if isinstance(outcomes, EbbgateError) else outcomes[before:after])
        except Exception:  # noqa: BLE001 - the others must have theirs
            _log.exception("a defect: an answer could not be passed on")
        before = after
