"""The one who decides for all clients of a server: commands in, committed outcomes out, on one event loop.

What arrives together is decided and committed together. The story stands here, once; how a store is driven stands
in `embedded_decider` for one on this machine, and in `network_decider` for one that several servers share.
"""

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Final

from ebbgate.core.book import Book, Due
from ebbgate.core.commands import Acquire, Command, DeleteLimit, Done, Outcome, Refused, Tick, Told
from ebbgate.core.grace import RECOVERY_US, Grace
from ebbgate.core.ledger import outcome_of
from ebbgate.core.model import SECOND, Lease, Settings, Stored
from ebbgate.engine.engine import Batch, Engine, Reply, StoreCall
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.server.audience import Answered, Audience, Job, Watcher, answer_all
from ebbgate.server.doing import Doers
from ebbgate.server.lasts import Lasts
from ebbgate.server.stalls import Clocked, Stalls
from ebbgate.wire.questions import Answer, Question

_log: Final = logging.getLogger("ebbgate.server")

PULSE_SECONDS: Final = 0.25
"""How often the server makes sure that it runs, that the store's clock is where it was, and who has died."""

EARLY_US: Final = 1_200
"""How early the loop is woken for what is due: its timers are no more precise than that."""

RETRY_US: Final = 100_000
ENDS_MAX: Final = 64
"""How many leases one decision ends because of time or the end of a session, so that it does not hold the loop."""
RECENT_MAX: Final = 1_000


class Decider(ABC):
    """A book, its store, and the loop that they run on."""

    is_shared = False
    """Whether other servers may decide on the same store."""

    jobs_max: int
    """How many callers are answered by one decision; the others by the next one."""

    def __init__(
        self, store: Clocked, settings: Settings | None, *, recovery_grace_us: int = RECOVERY_US
    ) -> None:
        """Decide on what `store` keeps; nothing happens before `start`.

        Args:
            store: opened; closed by `close`.
            settings: of the book.
            recovery_grace_us: for how long nothing expires after a time in which nobody could renew.
        """
        self.store = store
        self.book = Book(settings)
        self.book.ends_max = ENDS_MAX
        self.grace = Grace(recovery_grace_us)
        self.address = ""  # of this server, where other processes find it in records
        self.audiences: list[Audience] = []
        self.watchers: list[Watcher] = []
        self.own_watchers: list[Watcher] = []  # called before them, with what was committed here
        self.troubled: list[Callable[[EbbgateError], None]] = []  # called when the store is lost
        self.refused: list[Callable[[Refused], None]] = []  # called with each refusal
        self.doers = Doers()
        self.engine = Engine(self.book, new_tag=lambda: os.urandom(8).hex(), took_in=self._took_in)
        self.turn = 0  # rises with every decision
        self.lasts = Lasts()
        self._jobs: list[Job] = []
        self._planned = False  # whether somebody will see to them
        self._closed = False
        self._timer: asyncio.Handle | None = None
        self._timer_us = -1  # by the store's clock; -1: there is none
        self._stalls = Stalls(store)
        self._failed: EbbgateError | None = None
        self._must_write = False  # a look does not show that the store is well: it was a commit that failed
        self._retry_us = -1
        self._pulse: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._losses = 0  # of the engine, as far as they were noted

    # --- life

    @abstractmethod
    async def start(self) -> None:
        """Load everything and begin; the running loop is the one that decides.

        Raises:
            StoreUnavailable: the store cannot be read.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop deciding and close the store; whoever still asks is told that the server stops."""

    def _begin(self) -> None:
        """Everything was loaded: now is the first instant."""
        self._loop = loop = asyncio.get_running_loop()
        self.book.names_in_order()  # sorted now: later it would hold the loop
        now_us = self.store.clock()
        self.grace.begin(now_us)
        self._stalls.begin(now_us)
        self._pulse = loop.call_later(PULSE_SECONDS, self._beat)
        self._schedule()

    def _end(self) -> None:
        """Decide no more."""
        self._closed = True
        for handle in (self._pulse, self._timer):
            if handle is not None:
                handle.cancel()

    @property
    def why_not_ready(self) -> str | None:
        """Why nothing can be granted at present; None: all is well."""
        if self.engine.version is None:
            return "the store is not loaded yet"
        return None if self._failed is None else str(self._failed)

    # --- commands and questions

    def submit(self, commands: Sequence[Command], answered: Answered) -> None:
        """Have commands carried out with all others that wait for the next decision."""
        if self._closed:
            answered(StoreUnavailable("the server stops; ask again, here when it runs or at another one"))
            return
        self._jobs.append((commands, answered))
        if not self._planned:
            self._plan()

    @abstractmethod
    def _plan(self) -> None:
        """Have somebody see to what was asked and what is due, soon."""

    async def carry_out(self, commands: Sequence[Command]) -> Sequence[Outcome]:
        """Carry out commands, in order, as one step.

        Raises:
            StoreUnavailable: it is not known whether they were carried out.
        """
        done: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()

        def answered(outcomes: Sequence[Outcome] | EbbgateError) -> None:
            if done.done():
                return  # who asked has gone
            if isinstance(outcomes, EbbgateError):
                done.set_exception(outcomes)
            else:
                done.set_result(outcomes)

        self.submit(commands, answered)
        return await done

    @abstractmethod
    async def ask(self, question: Question) -> Answer:
        """Answer a question from the newest records.

        Raises:
            InvalidRequest: it makes no sense.
            StoreUnavailable: the store cannot be read.
        """

    @abstractmethod
    def ask_for(self, question: Question, told: Callable[[Answer | EbbgateError], None]) -> None:
        """Have `told` called with the answer to a question, or with why there is none."""

    @property
    @abstractmethod
    def is_at_rest(self) -> bool:
        """Whether the book shows what is committed, and nothing else."""

    @abstractmethod
    async def rest(self) -> None:
        """Return when the book is at rest; it stays so until the caller waits for something else.

        Raises:
            StoreUnavailable: nobody knows what is committed.
        """

    # --- the work of one turn

    def _begin_turn(self) -> list[Job]:
        """Return what is asked this time."""
        self._planned = False
        self._watch()
        self.turn += 1
        jobs, self._jobs = self._jobs, []
        if len(jobs) > self.jobs_max:
            jobs, self._jobs = jobs[: self.jobs_max], jobs[self.jobs_max :]
        return jobs

    def _is_refusing(self, jobs: list[Job]) -> bool:
        """Answer that the store is out of reach, as long as that was found just now."""
        if self._failed is None or self.store.clock() >= self._retry_us:
            return False
        answer_all(jobs, self._failed)
        return True

    def _tell_all(self, jobs: list[Job], batch: Batch) -> None:
        """Answer all jobs, and tell whom it concerns what came of them."""
        answer_all(jobs, batch.outcomes)
        self._log_deletions(jobs, batch.outcomes)
        self.lasts.turn_to_others()
        for told in batch.told:
            self._tell(told)

    def _log_deletions(self, jobs: list[Job], outcomes: Sequence[Outcome]) -> None:
        """Log each deletion of a limit, whichever API asked for it."""
        number = 0
        for commands, _ in jobs:
            for command in commands:
                if type(command) is DeleteLimit and isinstance(outcomes[number], Done):
                    doer = self.doers.of_past(0.0, command.target)
                    fields = {"limit": command.target, "force": command.force}
                    if doer is not None:
                        fields |= {"way": doer.way, "key": doer.key, "host": doer.host}
                    _log.info("limit deleted", extra={"fields": fields})
                number += 1

    def _end_turn(self, batch: Batch | None) -> None:
        if batch is not None:
            self._pass_on(batch)
        self._schedule()
        if self._jobs and not self._planned:
            self._plan()

    def _steps(self, jobs: list[Job]) -> Generator[StoreCall, Reply, Batch | None]:
        """Commit what was asked and what is due; None: there was nothing to do, or it could not be done."""
        is_writing = False
        try:
            if self.engine.version is None or not self.engine.is_settled or self._looks(jobs):
                yield from self.engine.refresh()
            batch = None
            if jobs or self._is_due():
                is_writing = True
                batch = yield from self._commit(jobs)
                self._note_losses()
            self._must_write = self._must_write and not (batch and batch.changes)
            if self._must_write:
                self.grace.failed(self.store.clock())
            else:
                self._succeeded()
            return batch
        except EbbgateError as error:
            self._must_write = is_writing and self.is_shared
            self._fail(jobs, error)
        return None

    def _note_losses(self) -> None:
        """After the store has lost committed state, have every holder renew, and nothing expire meanwhile."""
        if self._losses != self.engine.losses:
            self._losses = self.engine.losses
            _log.error(
                "the store lost what it had confirmed; nothing is granted or expires until holders had time to renew"
            )
            self._recover(self.store.clock())

    def _defect(self, jobs: list[Job], error: Exception) -> None:
        """Go on after what should never happen: one defect must not be the end of everything."""
        _log.error("a defect: a decision failed, and everything is loaded anew", exc_info=error)
        self.engine.forget()
        self._fail(jobs, StoreUnavailable(f"a defect of the server: {type(error).__name__}"))

    @abstractmethod
    def _looks(self, jobs: list[Job]) -> bool:
        """Tell whether to look what others have committed before anything is decided."""

    def _is_due(self) -> bool:
        due_us = self.book.next_due(self.store.clock(), expire=self.grace.is_over(self.store.clock())).at_us
        return 0 <= due_us <= self.store.clock()

    def _commit(self, jobs: list[Job]) -> Generator[StoreCall, Reply, Batch]:
        commands: list[Command] = []
        for asked, _ in jobs:
            commands.extend(asked)
        now_us = self._watch()  # by this very instant it is judged what is due
        if not self.book.is_tick_due(now_us):
            return (yield from self.engine.carry_out(commands))
        # After renewals and releases that have arrived, but before who asks for what they leave.
        place = 0 if all(type(command) is Acquire for command in commands) else len(commands)
        commands.insert(place, Tick(self.grace.is_over(now_us), until_us=now_us))
        batch = yield from self.engine.carry_out(commands)
        del batch.outcomes[place]
        return batch

    def _pass_on(self, batch: Batch) -> None:
        if batch.changes:
            now_us = self.book.head.instant_us
            for watcher in (*self.own_watchers, *self.watchers):
                watcher(batch.changes, now_us)
        for lease in batch.promoted:
            self._wake_up(lease.wake)
        for outcome in batch.outcomes:
            if type(outcome) is Refused:
                for refused in self.refused:
                    refused(outcome)

    def _fail(self, jobs: list[Job], error: EbbgateError) -> None:
        now_us = self.store.clock()
        if self._failed is None:
            _log.error("the store is out of reach, nothing is granted: %s", error)
            for troubled in self.troubled:
                troubled(error)
        self._failed = error
        self.grace.failed(now_us)
        self._retry_us = now_us + RETRY_US
        answer_all(jobs, error)

    def _succeeded(self) -> None:
        if self._failed is not None:
            _log.warning("the store answers again")
            self._failed = None
        self._retry_us = -1
        if self.grace.is_failing:
            self.grace.succeeded(self.store.clock())

    # --- time

    def _schedule(self) -> None:
        """Set the timer for what is due next, unless it is set for that already."""
        now_us = self.store.clock()
        may_expire = self.grace.is_over(now_us)
        due = self.book.next_due(now_us, expire=may_expire)
        due_us = due.at_us
        if not may_expire and not 0 <= due_us <= self.grace.until_us:
            due_us = self.grace.until_us
        if due_us >= 0:
            due_us = max(due_us + self._leave_to_others_us(due), self._retry_us)
        if due_us == self._timer_us and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_us = due_us
        if due_us >= 0:
            self._sleep_until_due(now_us)

    def _leave_to_others_us(self, due: Due) -> int:
        """Return how long to wait for somebody else to do what is due."""
        del due
        return 0

    def _sleep_until_due(self, now_us: int) -> None:
        assert self._loop is not None, "started"
        left_us = self._timer_us - now_us
        if left_us > EARLY_US:
            self._timer = self._loop.call_later((left_us - EARLY_US) / SECOND, self._wake)
        else:
            self._timer = self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        """Do what is due; until then come back every turn of the loop, for a timer may be early or late."""
        self._timer = None
        now_us = self.store.clock()
        if now_us < self._timer_us:
            self._sleep_until_due(now_us)
            return
        self._timer_us = -1
        if not self._planned:  # one turn later, so that what has arrived is read before anything expires
            self._plan()

    def _watch(self) -> int:
        """Have nothing expire for a while after a stall, in which nobody could renew; return the store's time."""
        now_us, stalled = self._stalls.seen()
        if stalled:
            self._recover(now_us)
        return now_us

    def _recover(self, now_us: int) -> None:
        """Have everybody renew, and nothing expire until they can have done so."""
        self.grace.begin(now_us)
        for audience in self.audiences:
            audience.hurry()

    @abstractmethod
    def _beat(self) -> None:
        """Make sure that all is well, and come back."""

    # --- who is told

    def _tell(self, told: Told) -> None:
        for audience in self.audiences:
            if audience.tell(told):
                return
        self._wake_up(told.wake)

    @abstractmethod
    def _wake_up(self, address: str) -> None:
        """Have another process look that can be told so."""

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        """Pass on what others have committed."""
        for watcher in self.watchers:
            watcher(stored, self.book.head.instant_us)
        if stored is None:
            for audience in self.audiences:
                audience.reloaded(self.book)
            return
        for entry in stored:
            lease = entry.record
            if isinstance(lease, Lease) and lease.state != "waiting" and lease.why != "released":
                told = Told(lease.id, lease.session, "", outcome_of(lease))
                for audience in self.audiences:
                    if audience.tell(told):
                        break


def ignore(_: object) -> None:
    """Take no notice of an answer."""
