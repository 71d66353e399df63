"""The one who decides for all clients of a server: commands in, committed outcomes out, on one event loop.

Whatever arrives in one turn of the loop is decided and committed together. Deciding takes microseconds and a
commit little more, so both are done on the loop itself: a thread would cost more than it saves, until a disk
is slow, and then everybody waits for the disk anyway.

Other processes may decide on the same file: embedded ones that were there before the server.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Command, Outcome, Refused, Tick, Told
from ebbgate.core.grace import RECOVERY_US, Grace
from ebbgate.core.ledger import outcome_of
from ebbgate.core.model import SECOND, Lease, Settings, Stored
from ebbgate.engine.drive import drive
from ebbgate.engine.engine import Batch, Engine
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.neighbours.neighbours import Neighbours
from ebbgate.server.audience import Answered, Audience, Job, Watcher, answer_all
from ebbgate.server.doing import Doers
from ebbgate.server.lasts import Lasts
from ebbgate.server.stalls import Stalls
from ebbgate.stores.base import EmbeddedStore, Past
from ebbgate.wire.questions import Answer, Question, answer

_log: Final = logging.getLogger("ebbgate.server")

PATIENCE_US: Final = 1_000_000
"""How long a decision waits for another process to let go of the file; nobody else is served meanwhile."""

TURN_US: Final = 50_000
PULSE_SECONDS: Final = 0.25
"""How often the server makes sure that it runs, that the store's clock is where it was, and who has died."""

EARLY_US: Final = 1_200
"""How early the loop is woken for what is due: its timers are no more precise than that."""

SHARED_US: Final = SECOND
"""How long after another process's commit the server expects the next one."""

RETRY_US: Final = 100_000
RECENT_MAX: Final = 1_000
JOBS_MAX: Final = 256
"""How many callers are answered by one decision; the others by the next one."""

MAILBOX: Final = "server"
"""How the names end of the sockets at which other processes of the machine wake servers."""


class Decider:
    """A book, its store, and the loop that they run on."""

    def __init__(
        self,
        store: EmbeddedStore,
        path: Path | None,
        settings: Settings | None = None,
        *,
        recovery_grace_us: int = RECOVERY_US,
    ) -> None:
        """Decide on what `store` keeps; nothing happens before `start`.

        Args:
            store: opened; closed by `close`.
            path: its file, None for one in memory.
            settings: of the book.
            recovery_grace_us: for how long nothing expires after a time in which nobody could renew.
        """
        self.store = store
        self.book = Book(settings)
        self.grace = Grace(recovery_grace_us)
        self.audiences: list[Audience] = []
        self.watchers: list[Watcher] = []
        self.refused: list[Callable[[str], None]] = []  # called with the code of each refusal
        self.doers = Doers()
        self.engine = Engine(self.book, new_tag=lambda: os.urandom(8).hex(), took_in=self._took_in)
        self._neighbours = Neighbours(path, f"{os.urandom(3).hex()}{MAILBOX}")
        self.address = self._neighbours.mailbox.address
        self._jobs: list[Job] = []
        self._planned = False  # whether the work of this turn is scheduled
        self._closed = False
        self.turn = 0  # rises with every decision
        self._timer: asyncio.Handle | None = None
        self._timer_us = -1  # by the store's clock; -1: there is none
        self._stalls = Stalls(store)
        self._shared_until_us = 0  # others decide on the same store, for all that is known
        self.lasts = Lasts()
        self._failed: EbbgateError | None = None
        self._retry_us = -1
        self._pulse: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- life

    def start(self) -> None:
        """Load everything and begin; the running loop is the one that decides.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        self._loop = loop = asyncio.get_running_loop()
        drive(self.engine.refresh(), self.store)
        now_us = self.store.clock()
        self.grace.begin(now_us)
        self._stalls.begin(now_us)
        loop.add_reader(self._neighbours.mailbox.fileno(), self._pushed)
        self._pulse = loop.call_later(PULSE_SECONDS, self._beat)
        self._schedule()

    def close(self) -> None:
        """Stop deciding and close the store; whoever still asks is told that the server stops."""
        assert self._loop is not None, "started"
        while self._jobs:
            self._work()
        self._closed = True
        self._loop.remove_reader(self._neighbours.mailbox.fileno())
        for handle in (self._pulse, self._timer):
            if handle is not None:
                handle.cancel()
        with contextlib.suppress(StoreUnavailable):
            self.store.close()
        self._neighbours.mailbox.close()
        self._neighbours.close()

    @property
    def why_not_ready(self) -> str | None:
        """Why nothing can be granted at present; None: all is well."""
        if self.engine.version is None:
            return "the store is not loaded yet"
        return None if self._failed is None else str(self._failed)

    # --- commands and questions

    def submit(self, commands: Sequence[Command], answered: Answered) -> None:
        """Have commands carried out with all others of this turn of the loop."""
        if self._closed:
            answered(StoreUnavailable("the server stops; ask again, here when it runs or at another one"))
            return
        self._jobs.append((commands, answered))
        if not self._planned:
            self._plan()

    def _plan(self) -> None:
        self._planned = True
        assert self._loop is not None, "started"
        self._loop.call_soon(self._work)

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

    def ask(self, question: Question) -> Answer:
        """Answer a question from the newest records.

        Raises:
            InvalidRequest: it makes no sense.
            StoreUnavailable: the store cannot be read.
        """
        self._work()
        while self._jobs:
            self._work()
        if self._failed is not None:
            raise self._failed
        now_us = self.store.clock()
        return answer(question, self.book, now_us, self._recent)

    def _recent(self) -> list[Past]:
        return self.store.recent(RECENT_MAX)

    # --- the work of one turn

    def _work(self) -> None:
        self._planned = False
        if self._closed:
            return
        self._watch()
        self.turn += 1
        jobs, self._jobs = self._jobs, []
        if len(jobs) > JOBS_MAX:
            jobs, self._jobs = jobs[:JOBS_MAX], jobs[JOBS_MAX:]
        self.lasts.begin()
        try:
            batch = self._carried_out(jobs)
        finally:
            self.lasts.end()
        if batch is not None:
            self._pass_on(batch)
        self._schedule()
        if self._jobs and not self._planned:
            self._plan()

    def _carried_out(self, jobs: list[Job]) -> Batch | None:
        """Answer all jobs, and tell whom it concerns what came of them."""
        if self._failed is not None and self.store.clock() < self._retry_us:
            answer_all(jobs, self._failed)
            return None
        batch = self._decide(jobs)
        if batch is not None:
            answer_all(jobs, batch.outcomes)
            self.lasts.turn_to_others()
            for told in batch.told:
                self._tell(told)
        return batch

    def _decide(self, jobs: list[Job]) -> Batch | None:
        """Commit what was asked and what is due; None: there was nothing to do, or it could not be done."""
        locked = self.store.try_lock() or self.store.lock(TURN_US)
        try:
            # Who is alone need not look before a commit, which fails if somebody was quicker.
            self._refresh(looks=not jobs or self.store.clock() <= self._shared_until_us)
            batch = self._commit(jobs) if jobs or self._is_due() else None
            self._succeeded()
            return batch
        except EbbgateError as error:
            self._fail(jobs, error)
        except Exception as error:  # noqa: BLE001 - one defect must not be the end of everything
            _log.exception("a defect: a decision failed, and everything is loaded anew")
            self.engine.forget()
            self._fail(jobs, StoreUnavailable(f"a defect of the server: {type(error).__name__}"))
        finally:
            if locked:
                self.store.unlock()
        return None

    def _is_due(self) -> bool:
        due_us = self.book.next_due(self.store.clock(), expire=self.grace.is_over(self.store.clock())).at_us
        return 0 <= due_us <= self.store.clock()

    def _commit(self, jobs: list[Job]) -> Batch:
        commands: list[Command] = []
        for asked, _ in jobs:
            commands.extend(asked)
        now_us = self._watch()  # by this very instant it is judged what is due
        patience_us = PATIENCE_US if self._failed is None else TURN_US
        if not self.book.is_tick_due(now_us):
            return drive(self.engine.carry_out(commands), self.store, patience_us=patience_us)
        # After renewals and releases that have arrived, but before who asks for what they leave.
        place = 0 if all(type(command) is Acquire for command in commands) else len(commands)
        commands.insert(place, Tick(self.grace.is_over(now_us), until_us=now_us))
        batch = drive(self.engine.carry_out(commands), self.store, patience_us=patience_us)
        del batch.outcomes[place]
        return batch

    def _pass_on(self, batch: Batch) -> None:
        if batch.changes:
            now_us = self.book.head.instant_us
            for watcher in self.watchers:
                watcher(batch.changes, now_us)
        for lease in batch.promoted:
            if lease.wake and lease.wake != self.address:
                self._neighbours.push(lease.wake)
        for outcome in batch.outcomes:
            if type(outcome) is Refused:
                for refused in self.refused:
                    refused(outcome.code)

    def _fail(self, jobs: list[Job], error: EbbgateError) -> None:
        now_us = self.store.clock()
        if self._failed is None:
            _log.error("the store is out of reach, nothing is granted: %s", error)
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

    def _refresh(self, *, looks: bool) -> None:
        version = self.engine.version
        if version is None or not self.engine.is_settled or (looks and self.store.moved(version)):
            patience_us = PATIENCE_US if self._failed is None else TURN_US
            drive(self.engine.refresh(), self.store, patience_us=patience_us)

    # --- time

    def _schedule(self) -> None:
        """Set the timer for what is due next, unless it is set for that already."""
        now_us = self.store.clock()
        may_expire = self.grace.is_over(now_us)
        due_us = self.book.next_due(now_us, expire=may_expire).at_us
        if not may_expire and not 0 <= due_us <= self.grace.until_us:
            due_us = self.grace.until_us
        if due_us >= 0:
            due_us = max(due_us, self._retry_us)
        if due_us == self._timer_us and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_us = due_us
        if due_us >= 0:
            self._sleep_until_due(now_us)

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
            self.grace.begin(now_us)
            for audience in self.audiences:
                audience.hurry()
        return now_us

    def _beat(self) -> None:
        assert self._loop is not None, "started"
        self._pulse = self._loop.call_later(PULSE_SECONDS, self._beat)
        self._watch()
        version = self.engine.version
        try:
            if version is None or self._failed is not None or self.store.moved(version):
                self._work()
            dead = self._neighbours.find_dead(self.book.sessions.values())
        except EbbgateError as error:
            self._fail([], error)
            return
        if dead:
            self.submit(dead, lambda _: self._neighbours.clean_up_after(dead))

    def _pushed(self) -> None:
        """Look at what another process of this machine has done."""
        self._neighbours.mailbox.empty()
        self._work()

    # --- who is told

    def _tell(self, told: Told) -> None:
        for audience in self.audiences:
            if audience.tell(told):
                return
        if told.wake and told.wake != self.address:
            self._neighbours.push(told.wake)

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        """Pass on what others have committed."""
        for watcher in self.watchers:
            watcher(stored, self.store.clock())
        if stored is None:
            for audience in self.audiences:
                audience.reloaded(self.book)
            return
        self._shared_until_us = self.store.clock() + SHARED_US
        for entry in stored:
            lease = entry.record
            if isinstance(lease, Lease) and lease.state != "waiting" and lease.why != "released":
                told = Told(lease.id, lease.session, "", outcome_of(lease))
                for audience in self.audiences:
                    if audience.tell(told):
                        break


def ignore(_: object) -> None:
    """Take no notice of an answer."""
