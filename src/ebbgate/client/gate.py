"""What the two faces need of the way to the store, whether it leads to a file or to a server."""

from collections.abc import Sequence
from typing import Protocol

from ebbgate.client.renewal import Renewer
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Command, Held, Outcome, Release
from ebbgate.wire.questions import Answer, Question


class Place(Protocol):
    """Where callers of one kind ask from: the threads of a process, or the tasks of one event loop."""

    @property
    def session(self) -> str:
        """The session that its leases belong to."""

    @property
    def epoch(self) -> int:
        """The epoch of that session."""

    @property
    def address(self) -> str:
        """Where its waiters are told something; "": by the gate itself."""

    def forget(self, waiter: Waiter) -> None:
        """Stop listening for what becomes of a waiter."""

    def counted_from(self, held: Held, started_us: int) -> int:
        """Return the local instant from which the countdown of a new lease is surely counted.

        Args:
            held: the grant.
            started_us: when its caller began to ask, by the local clock.
        """


class ThreadPlace(Place, Protocol):
    """Where threads ask from; each call blocks its thread alone."""

    def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """Carry out one command; `waiter` hears what becomes of its lease if it has to wait.

        Raises:
            StoreUnavailable, ServerUnavailable: it is not known whether it was carried out.
        """

    def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """Return when `waiter` has its outcome, or at `until_us` by the local clock."""

    def give_back(self, command: Release) -> None:
        """Release a lease within 100 ms, or have the renewer see to it."""

    def see(self, question: Question) -> Answer | None:
        """Answer a question as far as that is quick; None: nobody answers within a second."""


class LoopPlace(Place, Protocol):
    """Where the tasks of one event loop ask from; nothing blocks the loop. See `ThreadPlace`."""

    async def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """Carry out one command."""

    async def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """Return when `waiter` has its outcome, or at `until_us`."""

    async def give_back(self, command: Release) -> None:
        """Release a lease; a cancellation does not keep it from being released."""

    async def see(self, question: Question) -> Answer | None:
        """Answer a question as far as that is quick."""


class Gate(Protocol):
    """The way of one process to one store, for all its threads and loops."""

    name: str  # random, of this gate alone
    renewer: Renewer

    @property
    def threads(self) -> ThreadPlace:
        """Where the threads of this process ask from."""

    def loop_place(self) -> LoopPlace:
        """Return where the tasks of the running event loop ask from."""

    def clock(self) -> int:
        """Return the local time in microseconds; it never steps."""

    def is_mine(self) -> bool:
        """Tell whether this process opened the gate, and did not inherit it by a fork."""

    def call(self, commands: Sequence[Command]) -> list[Outcome]:
        """Carry out commands that are about limits, or about leases by an operator's word.

        Raises:
            StoreUnavailable, ServerUnavailable: it is not known whether they were carried out.
        """

    def question(self, question: Question) -> Answer:
        """Answer a question from the newest records.

        Raises:
            InvalidRequest: it makes no sense.
            StoreUnavailable, ServerUnavailable: nobody answers.
        """

    def close(self, *, at_exit: bool = False) -> None:
        """Release what is held, leave the queue, and say good-bye.

        With `at_exit`, the interpreter exits while daemon threads may still run inside their blocks: their slots
        are kept until the process has ended, or the leases are lost first.
        """

    def abandon(self) -> None:
        """Forget everything in a child after a fork: the parent keeps it."""
