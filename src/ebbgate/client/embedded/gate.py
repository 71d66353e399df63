"""The gate that needs no server: this process decides, on a file that it shares with the others.

One gate serves all threads and event loops of a process. Commands that come while another thread decides are
taken along by whoever decides next, in one commit.

Known limit: a process that is stopped in the middle of SQLite's own commit (some 20 us) holds its write lock,
and everybody waits for it.
"""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from ebbgate.client.embedded.deaths import Deaths
from ebbgate.client.embedded.hearing import Hearing
from ebbgate.client.embedded.heritage import Heritage, greetings
from ebbgate.client.embedded.jobs import Job, fail, is_unknown
from ebbgate.client.embedded.plan import Plan
from ebbgate.client.embedded.thread_port import ThreadPort
from ebbgate.client.embedded.timing import COMPANY_CALLS, GIVE_BACK_US, PRESENT_EVERY_US, RECENT_MAX, TURN_US
from ebbgate.client.locks import TrackedLock
from ebbgate.client.renewal import Renewer
from ebbgate.client.waiting import Waiter
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Away, Command, Held, Hello, Outcome, Release, Tick, Told, Waiting
from ebbgate.core.model import SECOND, Lease, Stored
from ebbgate.engine.drive import drive
from ebbgate.engine.engine import Engine
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.neighbours.neighbours import Neighbours
from ebbgate.stores.base import PATIENCE_US, Busy, EmbeddedStore
from ebbgate.wire.ids import new_id
from ebbgate.wire.questions import Answer, Question, answer

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ebbgate.client.embedded.loop_port import LoopPort

T = TypeVar("T")

_log: Final = logging.getLogger("ebbgate")


class EmbeddedGate:
    """Carries commands to the book of this process and outcomes back."""

    def __init__(
        self, store: EmbeddedStore, path: Path | None, book: Book, heritage: Heritage | None = None
    ) -> None:
        """Take part in what `store` keeps; the gate closes it in the end.

        Args:
            store: opened.
            path: its file; None: nobody but this process knows it.
            book: empty.
            heritage: of the owner of the file, who has died.
        """
        self.store = store
        self.book = book
        self.sessions = heritage.sessions if heritage else (new_id(),)
        self.session = self.name = self.sessions[0]
        self.epoch = heritage.epoch if heritage else 1
        self.hearing = Hearing(heritage.holding if heritage else {})
        self.holding = self.hearing.holding
        self.waiters = self.hearing.waiters
        self.plan = Plan(self.sessions)
        self.ports = self.plan.ports
        self.engine = Engine(
            book, new_tag=lambda: os.urandom(8).hex(), took_in=self._took_in, is_interruptible=True
        )
        self._mutex = TrackedLock()
        self._has_turn = False  # whether the file lock may be taken
        self._jobs: deque[Job] = deque()
        self._neighbours = Neighbours(path, self.session)
        self.push = self._neighbours.push
        self.new_mailbox = self._neighbours.new_mailbox
        self._mailbox = self._neighbours.mailbox
        self._hellos = self._greetings()
        self._greeted = False
        self._company = 0  # for so many calls more, another process is expected to have written before
        self._promoted: list[Lease] = []  # who stands first in its line since the last commit
        self._closed = False
        self.deaths = Deaths(self, self._neighbours, self._mutex)
        self.renewer = heritage.renewer if heritage else Renewer(self)
        self._threads: ThreadPort | None = None
        self._loops: dict[AbstractEventLoop, LoopPort] = {}

    # --- commands

    def call(
        self, commands: Sequence[Command], waiter: Waiter | None = None, *, patience_us: int = PATIENCE_US
    ) -> list[Outcome]:
        """Carry out `commands`; blocks while other processes have their turns.

        Args:
            commands: what to do, in order.
            waiter: hears what becomes of the last command's lease if it has to wait.
            patience_us: how long to wait for others to let go of the file.

        Raises:
            StoreUnavailable: it is not known whether they were carried out: ask again with the same ones.
        """
        until_us = self.clock() + patience_us
        job = Job(commands, waiter)
        led = self.do_jobs([job], patience_us)
        if job.error is None:
            return job.outcomes
        if led or self.clock() >= until_us:
            raise job.error
        return self.call(commands, waiter, patience_us=until_us - self.clock())  # who led had less patience

    def do_jobs(self, jobs: list[Job], patience_us: int) -> bool:
        """Carry out jobs and what other threads have brought; their errors stand in them.

        Returns:
            Whether this thread carried them out, or gave up; else another one did, with its own patience.
        """
        self._mutex.refuse_reentry()
        self._jobs.extend(jobs)
        try:
            if not self._mutex.acquire(patience_us):
                fail(
                    jobs,
                    StoreUnavailable("timed out: other threads of this process are using the store; retry"),
                )
                return True
            if jobs[-1].done:
                return False
            together = [self._jobs.popleft() for _ in range(len(self._jobs))]
            if jobs[-1] not in together:  # a thread took them and was interrupted
                together += jobs
            self._work(together, self._turn(patience_us), patience_us)
        finally:
            try:
                self._mutex.release()
            except RuntimeError:
                pass  # not acquired
        return True

    def try_jobs(self, jobs: list[Job]) -> bool:
        """Do as `do_jobs` does if it can be done without waiting for anybody; else return False."""
        if self._mutex.is_mine():
            return False
        try:
            if not self._mutex.acquire(0):
                return False
            self._has_turn = True
            if not self.store.try_lock():
                return False
            self._work(jobs, True, 0)
        except Busy:
            for job in jobs:
                job.done = False
            return False
        finally:
            try:
                self._mutex.release()
            except RuntimeError:
                pass  # not acquired
        return True

    def _turn(self, patience_us: int) -> bool:
        """Wait for the turn to write; who has to wait takes in meanwhile what the others have written."""
        self._has_turn = True
        if self.store.try_lock():
            return True
        with contextlib.suppress(EbbgateError):
            self._refresh(patience_us)
        return self.store.lock(TURN_US)

    def _work(self, jobs: list[Job], locked: bool, patience_us: int | None) -> None:
        """Carry out jobs in one commit; the mutex is held."""
        try:
            told = self._decided(jobs, locked, patience_us)
            for tell in told:
                self._deliver(tell)
            for lease in self._promoted:
                if lease.wake and lease.session not in self.sessions:
                    self.push(lease.wake)  # to take in what it missed and to plan for its turn
        except Busy:
            raise
        except BaseException:
            # A defect, or an exception from outside, as from a signal handler. It is for the caller of this thread,
            # as it is. The callers of other threads try again; outcomes not delivered are found when all is loaded.
            self.engine.forget()
            fail(jobs, StoreUnavailable("another thread was interrupted while it executed this call; retry"))
            raise

    def _decided(self, jobs: list[Job], locked: bool, patience_us: int | None) -> list[Told]:
        """Carry out jobs in one commit; return what is to be told then."""
        told: list[Told] = []
        self._promoted.clear()
        try:
            if self._company:  # alone, the commit finds out by itself whether another was quicker
                self._company -= 1
                self._refresh(patience_us)
            told = self._carry_out(jobs, patience_us)
            if is_unknown(jobs):
                self._greeted = False  # others took this process for dead, or the store lost its tail
                told += self._carry_out(jobs, patience_us)
            self.plan.succeeded(self.store.clock())
        except EbbgateError as error:
            self.plan.failed(self.store.clock())
            fail(jobs, error)
        finally:
            if locked:
                self._give_up_turn()
            for job in jobs:
                job.done = True
        return told

    def _give_up_turn(self) -> None:
        self.store.unlock()
        self._has_turn = False

    def _refresh(self, patience_us: int | None) -> None:
        version = self.engine.version
        if version is not None and not self.store.moved(version):
            return
        if patience_us != 0:
            drive(self.engine.refresh(), self.store, patience_us=patience_us)
        elif drive(self.engine.refresh_partly(), self.store, patience_us=0):
            raise Busy  # an event loop does not take in more at once: a thread does, and lets it run meanwhile

    def _carry_out(self, jobs: list[Job], patience_us: int | None) -> list[Told]:
        dead = [] if self._greeted else self.deaths.others()
        commands: list[Command] = [*dead] if self._greeted else [*dead, *self._hellos]
        before = len(commands)
        for job in jobs:
            commands.extend(job.commands)
        now_us = self.store.clock()
        if self.book.is_tick_due(now_us):
            # After renewals and releases that have arrived, but before who asks for what they leave.
            asks = all(isinstance(command, Acquire) for command in commands[before:])
            commands.insert(before if asks else len(commands), Tick(self.plan.grace.is_over(now_us)))
            before += asks
        batch = drive(self.engine.carry_out(commands), self.store, patience_us=patience_us)
        self._greeted = True
        self._promoted += batch.promoted
        if dead:
            self._neighbours.clean_up_after(dead)
        place = before
        for job in jobs:
            job.outcomes = batch.outcomes[place : place + len(job.commands)]
            place += len(job.commands)
            job.error = None  # of a thread that took it before, and was interrupted
            if job.waiter is not None and isinstance(job.outcomes[-1], Waiting):
                self.waiters[job.waiter.lease_id] = job.waiter
        if self.waiters:
            if not self._closed:  # those who wait then are told so
                self.hearing.released(commands)
            self.plan.make(self.book, self.store.clock())
        return batch.told

    # --- hearing

    def look(self, patience_us: int = PATIENCE_US) -> None:
        """Take in what other processes did, and do what time calls for; those concerned are told."""
        if self._mutex.is_mine():
            return
        try:
            if not self._mutex.acquire(patience_us):
                return  # whoever decides right now takes it in as well
            if self._has_turn:  # a call was interrupted
                self._give_up_turn()
            due_now = self._look(max(patience_us, 1))
        finally:
            try:
                self._mutex.release()
            except RuntimeError:
                pass  # not acquired
        if due_now:
            with contextlib.suppress(StoreUnavailable):  # whoever waits keeps waiting
                self.call([], patience_us=GIVE_BACK_US)

    def try_look(self) -> bool:
        """Do as `look` does if it can be done without waiting for anybody; else return False."""
        if self._mutex.is_mine():
            return False
        try:
            if not self._mutex.acquire(0):
                return False
            due_now = self._look(0)
        except Busy:
            return False
        finally:
            try:
                self._mutex.release()
            except RuntimeError:
                pass  # not acquired
        return not due_now or self.try_jobs([Job((), None)])  # should it fail, whoever waits keeps waiting

    def _look(self, patience_us: int) -> bool:
        try:
            self._refresh(patience_us)
        except StoreUnavailable:
            return False  # whoever waits keeps waiting
        self.plan.make(self.book, self.store.clock())
        return 0 <= self.plan.at_us <= self.store.clock()

    def clock(self) -> int:
        """Return the local time in microseconds; it never steps."""
        return time.monotonic_ns() // 1000

    def give_back(self, command: Release) -> None:
        """Release a lease within 100 ms, or have the renewer see to it."""
        try:
            self.call((command,), patience_us=GIVE_BACK_US)
        except EbbgateError:
            self.renewer.release_later(command)

    def is_mine(self) -> bool:
        """Tell whether this process opened the gate, and did not inherit it by a fork."""
        return not self._closed

    def local_instant(self, store_us: int) -> int:
        """Return an instant of the store's clock as one of the local clock."""
        return self.clock() - (self.store.clock() - store_us)

    def counted_from(self, held: Held, started_us: int) -> int:
        """Return from when a lease is counted: one that was granted later than it was asked, from then."""
        return min(max(self.local_instant(held.at_us), started_us), self.clock())

    def _deliver(self, told: Told) -> None:
        if told.session in self.sessions:
            self.hearing.hear(told.id, told.outcome)
        elif told.wake:
            self.push(told.wake)

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        """See what others' commits mean for the leases of this process; None: everything was loaded anew."""
        self._company = COMPANY_CALLS
        if stored is not None:
            self.hearing.took_in(stored)
            return
        self._greeted = self._greeted and all(session in self.book.sessions for session in self.sessions)
        self.hearing.took_in_everything(self.book)

    # --- waiting

    @property
    def threads(self) -> ThreadPort:
        """Where the threads of this process wait; made on first use."""
        if self._threads is None:
            self._mutex.refuse_reentry()
            with self._mutex.lock:
                if self._threads is None:
                    self._threads = ThreadPort(self)
        return self._threads

    def loop_place(self) -> "LoopPort":
        """Return where the tasks of the running loop wait, made on first use."""
        # Here, for it brings asyncio along: 16 ms, which a script's first acquire can do without.
        from ebbgate.client.embedded.loop_port import port_of_running_loop

        return port_of_running_loop(self, self._loops)

    def reap(self) -> None:
        """Release what tasks of closed event loops hold and wait for: nothing tells when a loop is closed."""
        ended = [self._loops.pop(loop, None) for loop in list(self._loops) if loop.is_closed()]
        releases = self.renewer.take_left()
        for port in ended:
            if port is not None:
                for lease_id, waiter in list(port.waiting.items()):
                    self.forget(waiter)  # it may have been granted meanwhile: a release ends both
                    releases.append(Release(lease_id, self.session, self.epoch))
                port.waiting.clear()
                port.close()
        for release in releases:
            self.renewer.release_later(release)

    def listen(self, timeout_seconds: float) -> None:
        """Return when something may have become of a held lease, or after the timeout."""
        self.reap()
        self.stay_present()
        self._mailbox.wait(min(timeout_seconds, PRESENT_EVERY_US / SECOND))
        if not self._closed:
            self._mailbox.empty()
            if self.holding and self.store.misplaced() is not None:
                self.hearing.took_in_everything(Book())  # no other process sees what this one holds
                return
            self.look()

    def stay_present(self) -> None:
        """Join the new presence file if it was removed or replaced: until then none notices its end."""
        if not self._closed and self._neighbours.rejoin():
            self._hellos = self._greetings()
            self._greeted = False
            self.try_jobs([Job((), None)])  # if others are in the way, the next call does it

    def _greetings(self) -> list[Hello]:
        return greetings(self.sessions, self.epoch, self._neighbours.presence, self._mailbox.address)

    def interrupt(self) -> None:
        """Make `listen` return now."""
        self.push(self._mailbox.address)

    def forget(self, waiter: Waiter) -> None:
        """Stop listening for what becomes of a waiter."""
        self.waiters.pop(waiter.lease_id, None)

    # --- reading

    def read(self, question: Callable[[Book, int], T]) -> T:
        """Answer a question from the newest records; what the dead held is passed on before."""
        self._mutex.refuse_reentry()
        with self._mutex.lock:
            self._refresh(None)
            dead = self.deaths.others()
        self.deaths.bury(dead)
        with self._mutex.lock:
            self._refresh(None)
            now_us = self.store.clock()
            self.book.next_due(now_us)  # parks whoever came in by others' commits
            return question(self.book, now_us)

    def see(self, question: Question, patience_us: int = SECOND) -> Answer | None:
        """Answer a question from what this process knows, without reading the file; None: others decide so long."""
        if self._mutex.is_mine():
            return None
        try:
            if not self._mutex.acquire(patience_us):
                return None
            now_us = self.store.clock()
            self.book.next_due(now_us)
            return answer(question, self.book, now_us, list)
        finally:
            try:
                self._mutex.release()
            except RuntimeError:
                pass  # not acquired

    def question(self, question: Question) -> Answer:
        """Answer a question from the newest records; see `wire.questions`."""
        return self.read(
            lambda book, now_us: answer(question, book, now_us, lambda: self.store.recent(RECENT_MAX))
        )

    # --- the end

    def close(self, *, at_exit: bool = False) -> None:
        """Release what is held, leave the queue, and say good-bye; at exit, what is held is kept: see `Gate`."""
        if self._closed:
            return
        self.renewer.stop()
        self._closed = True
        keeps = at_exit and bool(self.holding)
        with contextlib.suppress(EbbgateError):
            releases = [Release(id_, self.session, self.epoch) for id_ in list(self.waiters)]
            if self._greeted and keeps:
                self.call(releases)
            elif self._greeted:
                held = list(self.holding.items())
                releases += [Release(id_, lease.session, self.epoch) for id_, lease in held]
                aways = [Away(session, self.epoch, certain=True) for session in self.sessions]
                self.call([*releases, *aways])
        with contextlib.suppress(StoreUnavailable):  # nothing is lost: what was committed is in the log
            self.store.close()
        self.hearing.close()
        for port in list(self.ports):
            port.close()
        self._mailbox.close()
        if not keeps:  # the kernel ends the presence with the process, and then the others see it
            self._neighbours.close()

    def abandon(self) -> None:
        """Forget everything in a child after a fork: the parent keeps it. The store sees to itself."""
        self._closed = True
        for port in self.ports:
            port.abandon()
        self._mailbox.abandon()
        self._neighbours.abandon()
