"""What a gate promises to a caller that waits, whichever gate it is."""

from collections.abc import Callable
from typing import Protocol

from ebbgate.core.commands import Ended, Held, Refused

Heard = Held | Ended | Refused


class Gone:
    """The store does not know the waiter any more: ask again, with the same id."""


class Waiter:
    """One lease that waits in the queue, as its own process sees it."""

    __slots__ = ("lease_id", "notify", "outcome")

    def __init__(self, lease_id: str, notify: Callable[[], None]) -> None:
        """Call `notify`, from any thread, when `outcome` is set."""
        self.lease_id = lease_id
        self.notify = notify
        self.outcome: Heard | Gone | None = None

    def hear(self, outcome: Heard | Gone) -> None:
        """Set what became of it; the first word counts."""
        if self.outcome is None:
            self.outcome = outcome
            self.notify()


class Holding(Protocol):
    """A held lease, as the renewer and the gate see it."""

    id: str
    duration_us: int
    retake: bool

    def renewed(self, outcome: Held, sent_us: int) -> None:
        """It was renewed by a command sent at `sent_us` of the local clock."""

    def lose(self, why: str) -> None:
        """It has ended by another's doing, or by time."""
