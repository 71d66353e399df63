"""A process that decides for itself, on a store that it shares with the others of its machine."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ebbgate.client.embedded.hearing import Hearing
from ebbgate.client.embedded.timing import ALIVE_EVERY_US, GIVE_BACK_US
from ebbgate.client.renewal import Upkeep
from ebbgate.client.waiting import Waiter
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Away, Command, Ended, Held, Hello, Outcome, Release, Told, Waiting
from ebbgate.core.model import Settings, Stored
from ebbgate.errors import EbbgateError
from ebbgate.testing import history as h
from ebbgate.testing.simulated.client import LATER_US, Steps, renew_for_ever
from ebbgate.testing.simulated.decider import Decider, Job
from ebbgate.testing.simulated.kernel import STARTED_US, Bell, Kernel, Process, Until
from ebbgate.testing.simulated.store import Access


class Machine(Protocol):
    """What the processes of a world share beside the store."""

    kernel: Kernel
    access: Access
    settings: Settings

    def record(self, event: h.AnyEvent) -> None:
        """Write down what a client saw."""

    def is_alive(self, presence: int) -> bool:
        """Tell what the kernel knows of an embedded process."""

    def push(self, address: str) -> None:
        """Hint to whoever listens there that it should look."""


class EmbeddedProcess:
    """A client that is its own decider: both die together."""

    def __init__(self, machine: Machine, name: str, presence: int) -> None:
        """Start, with an id of its own; it greets with its first command."""
        kernel = machine.kernel
        self.machine = machine
        self.name = name
        self.presence = presence
        self.process = Process(kernel, name, machine.access.call)
        self.session = kernel.new_id()
        self.epoch = 1
        self.hearing = Hearing()
        self.holding = self.hearing.holding
        self.upkeep = Upkeep(self.holding, kernel.random.uniform)
        self.renew = Bell()
        self.decider = Decider(
            self.process,
            machine.access,
            machine.settings,
            greeting=self._greeting,
            took_in=self._took_in,
            tell=self._tell,
            is_mine=lambda session: session == self.session,
            serves=False,
        )
        self.decider.before_poll = self._find_dead
        self._checked_us = 0
        self.process.start(self.decider.run())
        self.process.start(renew_for_ever(self))

    def _greeting(self, book: Book) -> list[Command]:
        hello = Hello(
            self.session, self.epoch, self.name, 1, None, self.presence, self.name, remembers="nothing"
        )
        return [*self._dead(book), hello]

    def _dead(self, book: Book) -> list[Away]:
        others = [s for s in book.sessions.values() if s.presence >= 0 and s.id != self.session]
        return [Away(s.id, s.epoch, certain=True) for s in others if not self.machine.is_alive(s.presence)]

    def _find_dead(self) -> Sequence[Command]:
        now_us = self.machine.kernel.now_us
        if now_us - self._checked_us < ALIVE_EVERY_US:
            return []
        self._checked_us = now_us
        return self._dead(self.decider.book)

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        if stored is not None:
            self.hearing.took_in(stored)
            return
        book = self.decider.book
        self.decider.greeted = self.decider.greeted and self.session in book.sessions
        self.hearing.took_in_everything(book)

    def _tell(self, told: Told) -> None:
        if told.session == self.session:
            self.hearing.hear(told.id, told.outcome)
        elif told.wake:
            self.machine.push(told.wake)

    # --- what clients need

    def clock(self) -> int:
        """Return the monotonic clock of the machine."""
        return self.machine.kernel.now_us - STARTED_US

    def true_us(self, local_us: int) -> int:
        """Return the true instant at which the local clock shows this."""
        return local_us + STARTED_US

    def wake(self) -> str:
        """Return where waiting callers can be told."""
        return self.name

    def call(self, commands: Sequence[Command], until_us: int | None) -> Steps[Sequence[Outcome | None]]:
        """See `Keeper`."""
        job = Job(commands)
        bell = job.bell
        self.decider.submit(job)
        yield Until(bell, until_us)
        if job.error is not None:
            raise job.error
        return job.outcomes or [None] * len(commands)

    def ask(
        self, command: Acquire, waiter: Waiter, until_us: int | None, cancel_us: int | None
    ) -> Steps[Outcome | None]:
        """See `Gate`."""
        del until_us
        job = Job((command,), self._registers(waiter))
        bell = job.bell
        self.decider.submit(job)
        yield Until(bell, cancel_us)
        if job.error is not None:
            raise job.error
        return job.outcomes[0] if job.outcomes else None

    def forget(self, waiter: Waiter) -> None:
        """See `Gate`."""
        self.hearing.waiters.pop(waiter.lease_id, None)

    def give_back(self, command: Release) -> Steps[bool]:
        """See `Gate`."""
        try:
            (outcome,) = yield from self.call((command,), self.machine.kernel.now_us + GIVE_BACK_US)
        except EbbgateError:
            outcome = None
        if not isinstance(outcome, Ended):
            self.upkeep.releases.append((command, self.clock() + LATER_US))
            self.renew.ring()
            return False
        return True

    def _registers(self, waiter: Waiter) -> Callable[[Job], None]:
        def register(job: Job) -> None:
            if job.outcomes and isinstance(job.outcomes[-1], Waiting):
                self.hearing.waiters[waiter.lease_id] = waiter

        return register

    def wait(self, waiter: Waiter, bell: Bell, until_us: int | None) -> Steps[None]:
        """Return when `waiter` has its outcome, at the true instant `until_us` at most."""
        if waiter.outcome is None:
            yield Until(bell, until_us)

    def counted_from(self, held: Held, started_us: int, duration_us: int) -> int:
        """Return the local instant from which the countdown of a new lease is surely counted."""
        del duration_us
        granted_us = self.clock() - (self.machine.access.clock() - held.at_us)
        return min(max(granted_us, started_us), self.clock())

    def record(self, event: h.AnyEvent) -> None:
        """Write down what this client saw."""
        self.machine.record(event)
