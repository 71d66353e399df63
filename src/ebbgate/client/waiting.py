"""What a gate promises to a caller that waits, whichever gate it is."""

from collections.abc import Callable

from ebbgate.core.commands import Ended, Held, Refused

Heard = Held | Ended | Refused


class Gone:
    """The store does not know the waiter any more: ask again, with the same id."""


class Waiter:
    """One lease that waits in the queue, as its own process sees it."""

    __slots__ = ("lease_id", "notify", "outcome")

    def __init__(self, lease_id: str) -> None:
        """Make one; `notify` is called, from any thread, after `outcome` is set."""
        self.lease_id = lease_id
        self.notify: Callable[[], None] = _nobody_waits_yet
        self.outcome: Heard | Gone | None = None

    def hear(self, outcome: Heard | Gone) -> None:
        """Set what became of it; the first word counts."""
        if self.outcome is None:
            self.outcome = outcome
            self.notify()


def _nobody_waits_yet() -> None:
    """Do nothing: who begins to wait looks at the outcome first."""
