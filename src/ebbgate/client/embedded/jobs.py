"""What callers want of the gate, and where they wait."""

from collections.abc import Sequence

from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Command, Outcome, Refused
from ebbgate.errors import EbbgateError
from ebbgate.stores.base import PATIENCE_US


class Job:
    """Commands of one caller, and what became of them."""

    __slots__ = ("commands", "done", "error", "outcomes", "patience_us", "waiter")

    def __init__(
        self, commands: Sequence[Command], waiter: Waiter | None, patience_us: int = PATIENCE_US
    ) -> None:
        self.commands = commands
        self.patience_us = patience_us
        self.waiter = waiter
        self.outcomes: list[Outcome] = []
        self.error: EbbgateError | None = None
        self.done = False


def fail(jobs: list[Job], error: EbbgateError) -> None:
    """Have all callers meet this error."""
    for job in jobs:
        job.error = error


def is_unknown(jobs: list[Job]) -> bool:
    """Tell whether a command was refused because the store does not know this process's session."""
    for job in jobs:
        for outcome in job.outcomes:
            if type(outcome) is Refused and outcome.code == "unknown_session":
                return True
    return False
