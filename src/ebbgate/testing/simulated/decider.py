"""A process that decides: its own `Book` and the real `Engine`, in batches, as the embedded gate and a server do.

It does what `client.embedded.gate` does around the engine, with time and the store simulated.

Known limit: the gate's own threads and locks are not simulated; the tests with real processes cover those.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from ebbgate.client.embedded.timing import OVERDUE_US, RETRY_US
from ebbgate.core.book import Book
from ebbgate.core.commands import Command, Outcome, Refused, Tick, Told
from ebbgate.core.grace import STALL_US, Grace
from ebbgate.core.model import Settings, Stored
from ebbgate.engine.engine import Batch, Engine, StoreCall
from ebbgate.errors import EbbgateError
from ebbgate.testing.simulated.kernel import Bell, Process, Sleep, Task, Until
from ebbgate.testing.simulated.store import Access

Steps = Generator[Sleep | Until | StoreCall, Any, None]

POLL_US: Final = 3_000_000
"""How often a decider looks although nothing calls for it: hints may be lost."""


class Job:
    """Commands of one caller, and what became of them."""

    __slots__ = ("answered", "bell", "commands", "error", "outcomes")

    def __init__(self, commands: Sequence[Command], answered: Callable[["Job"], None] | None = None) -> None:
        self.commands = commands
        self.outcomes: list[Outcome] = []
        self.error: EbbgateError | None = None
        self.bell = Bell()
        self.answered = answered


class Decider:
    """One book, brought up to date, asked and committed in turn."""

    def __init__(
        self,
        process: Process,
        access: Access,
        settings: Settings,
        *,
        greeting: Callable[[Book], list[Command]],
        took_in: Callable[[Sequence[Stored] | None], None],
        tell: Callable[[Told], None],
        is_mine: Callable[[str], bool],
        serves: bool,
    ) -> None:
        """Decide in `process`.

        Args:
            process: what it dies with.
            access: the way to the store.
            settings: the same for all.
            greeting: returns what is to be said before anything else, and again when the session is unknown.
            took_in: see `Engine`.
            tell: passes on what happened to a lease.
            is_mine: tells whether a session is that of this process, or connected to it.
            serves: whether it decides for others, as a server: then expiry is suspended after its own stalls.
        """
        self.process = process
        self.access = access
        self.book = Book(settings)
        self.engine = Engine(self.book, new_tag=process.kernel.new_id, took_in=took_in)
        self.grace = Grace()
        self.bell = Bell()
        self.plan_us = -1
        self.greeted = False
        self.poll_us = POLL_US
        self.before_poll: Callable[[], Sequence[Command]] = list
        self.stalled: Callable[[], None] = (
            _nothing  # called after a stall, and when the store's clock ran ahead
        )
        self.decided: Callable[[Decider, Batch], None] = _ignore  # called after every committed decision
        self.committed: Callable[[Sequence[Stored]], None] = _keep  # called with what it changed
        self.planned_us = 0  # the instant up to which the book has taken in what time brought
        self._jobs: list[Job] = []
        self._look_wanted = False
        self._retry_us = -1
        self._greeting = greeting
        self._tell = tell
        self._is_mine = is_mine
        self._serves = serves
        self._ran_us = process.kernel.now_us
        self._ahead_us = self.clock() - process.kernel.now_us

    def clock(self) -> int:
        """Return the time that decisions use."""
        return self.access.time_of(self.process)

    def submit(self, job: Job) -> Job:
        """Have a job done."""
        self._jobs.append(job)
        self.bell.ring()
        return job

    def look(self) -> None:
        """Have the process take in what others did, soon: a hint arrived."""
        self._look_wanted = True
        self.bell.ring()

    def run(self) -> Task:
        """Work for as long as the process lives."""
        while True:
            if not self._jobs and not self._look_wanted:
                yield Until(self.bell, self._until_us())
            self._watch()
            self._look_wanted = False
            if not self._jobs and (commands := self.before_poll()):
                self._jobs.append(Job(commands))
            jobs, self._jobs = self._jobs, []
            if jobs or (yield from self._look()):
                yield from self._work(jobs)

    def _until_us(self) -> int:
        now_us = self.access.kernel.now_us
        until_us = now_us + round(self.poll_us * self.access.kernel.random.uniform(0.5, 1.0))
        if self.plan_us >= 0:
            until_us = min(until_us, now_us + max(self.plan_us - self.clock(), 0))
        return until_us

    def _watch(self) -> None:
        """Notice a stall of this process, and a store clock that ran ahead of its own."""
        now_us = self.access.kernel.now_us
        if self._serves:
            late = now_us - self._ran_us > self.poll_us + STALL_US
            if late or self.clock() - now_us - self._ahead_us > STALL_US:
                self.grace.begin(self.clock())
                self.stalled()
        self._ran_us = now_us
        self._ahead_us = self.clock() - now_us

    def _work(self, jobs: list[Job]) -> Steps:
        told: list[Told] = []
        try:
            yield from self._refresh()
            told = yield from self._carry_out(jobs)
            if not self._serves and any(_is_unknown(outcome) for job in jobs for outcome in job.outcomes):
                self.greeted = False
                told += yield from self._carry_out(jobs)
            self.grace.succeeded(self.clock())
        except EbbgateError as error:
            self.grace.failed(self.clock())
            self._retry_us = self.clock() + RETRY_US
            for job in jobs:
                job.error = error
        for job in jobs:
            if job.answered is not None:
                job.answered(job)
            job.bell.ring()
        for tell in told:
            self._tell(tell)

    def _refresh(self) -> Steps:
        version = self.engine.version
        if version is None or self.access.store.version != version or self.book.undecided():
            yield from self.engine.refresh()

    def _carry_out(self, jobs: list[Job]) -> Generator[Sleep | Until | StoreCall, Any, list[Told]]:
        commands: list[Command] = [] if self.greeted else self._greeting(self.book)
        before = len(commands)
        for job in jobs:
            commands.extend(job.commands)
        now_us = self.clock()
        if self.book.is_tick_due(now_us):
            commands.append(Tick(self.grace.is_over(now_us), until_us=now_us))
        batch = yield from self.engine.carry_out(commands)
        defects = [it for it in batch.outcomes if isinstance(it, Refused) and it.code == "internal"]
        assert not defects, f"a defect of {self.process.name}: {defects}"
        self.greeted = True
        self.decided(self, batch)
        self.committed(batch.changes)
        place = before
        for job in jobs:
            job.outcomes = batch.outcomes[place : place + len(job.commands)]
            place += len(job.commands)
        self._plan()
        return batch.told

    def _look(self) -> Generator[Sleep | Until | StoreCall, Any, bool]:
        try:
            yield from self._refresh()
        except EbbgateError:
            self.grace.failed(self.clock())
            self._retry_us = self.clock() + RETRY_US
            self.plan_us = self._retry_us
            return False
        self._plan()
        return 0 <= self.plan_us <= self.clock()

    def _plan(self) -> None:
        """Find out when to look again, though nobody calls: see `EmbeddedGate`."""
        self.planned_us = now_us = self.clock()
        may_expire = self.grace.is_over(now_us)
        due = self.book.next_due(now_us, expire=may_expire)
        plan_us = due.at_us
        if plan_us >= 0 and due.session and not self._is_mine(due.session):
            plan_us += OVERDUE_US
        if not may_expire and not 0 <= plan_us <= self.grace.until_us:
            plan_us = self.grace.until_us
        if plan_us >= 0:
            plan_us = max(plan_us, self._retry_us)
        self.plan_us = plan_us


def _is_unknown(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.code == "unknown_session"


def _ignore(_decider: Decider, _batch: Batch) -> None:
    """Check nothing."""


def _keep(_changes: Sequence[Stored]) -> None:
    """Show nobody what was changed."""


def _nothing() -> None:
    """Tell nobody of a stall."""
