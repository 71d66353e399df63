"""What callers want of the gate, and where they wait."""

from collections.abc import Sequence
from typing import Protocol

from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Command, Outcome, Refused
from ebbgate.errors import EbbgateError


class Port(Protocol):
    """Where callers of one kind wait."""

    def nudge(self) -> None:
        """Have it look at the plan again: something is due sooner."""

    def close(self) -> None:
        """Give back what it holds open."""

    def abandon(self) -> None:
        """The same in a child after a fork."""


class Job:
    """Commands of one caller, and what became of them."""

    __slots__ = ("commands", "done", "error", "outcomes", "waiter")

    def __init__(self, commands: Sequence[Command], waiter: Waiter | None) -> None:
        self.commands = commands
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
