"""The gate that needs no server: this process decides, on a file that it shares with the others.

One gate serves all threads and event loops of a process. Commands that come while another thread decides are
taken along by whoever decides next, in one commit.

Known limit: a process that is stopped in the middle of SQLite's own commit (some 20 us) holds its write lock,
and everybody waits for it.
"""

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from ebbgate.client.embedded.presence import OFFSET_MAX, Presence
from ebbgate.client.embedded.push import Mailbox, Pusher, remove_mailboxes, wake_folder
from ebbgate.client.waiting import Gone, Heard, Holding, Waiter
from ebbgate.core.book import Book
from ebbgate.core.commands import Away, Command, Ended, Hello, Outcome, Refused, Release, Tick, Told, Waiting
from ebbgate.core.ledger import outcome_of
from ebbgate.core.model import Lease, Stored
from ebbgate.engine.drive import drive
from ebbgate.engine.engine import Engine
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.stores.sqlite import Busy, SQLiteStore

TURN_SECONDS: Final = 0.05
"""The longest wait for the other processes' turns; then this one goes ahead without its own."""

ALIVE_EVERY_US: Final = 400_000
"""How often a process that waits looks whether the others live: a death is noticed within a second."""

OVERDUE_US: Final = 20_000
"""After this, what another process should have seen to is seen to by any process that waits."""


class Job:
    """Commands of one caller, and what became of them."""

    __slots__ = ("commands", "done", "error", "outcomes", "waiter")

    def __init__(self, commands: Sequence[Command], waiter: Waiter | None) -> None:
        self.commands = commands
        self.waiter = waiter
        self.outcomes: list[Outcome] = []
        self.error: EbbgateError | None = None
        self.done = False


class EmbeddedGate:
    """Carries commands to the book of this process and outcomes back."""

    def __init__(self, store: SQLiteStore, book: Book, *, labels: dict[str, str] | None = None) -> None:
        """Take part in what `store` keeps; the gate closes it in the end."""
        self.store = store
        self.book = book
        self.pid = os.getpid()
        self.session = new_id()
        self.holding: dict[str, Holding] = {}
        self.waiters: dict[str, Waiter] = {}
        self._engine = Engine(book, new_tag=lambda: os.urandom(8).hex(), took_in=self._took_in)
        self._mutex = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._folder = wake_folder(store.path)
        self._pusher = Pusher()
        self._boxes = 0
        self.mailbox = self.new_mailbox()  # for what happens to held leases; the renewer listens
        self._presence = Presence(store.path.with_name(store.path.name + "-presence"), int.from_bytes(os.urandom(8), "big") % OFFSET_MAX)
        self._hello = Hello(
            self.session, 1, socket.gethostname(), self.pid, labels, self._presence.offset, self.mailbox.address,
            remembers=False,
        )  # fmt: skip
        self._greeted = False
        self._checked_us = 0
        self._closed = False

    # --- commands

    def call(self, commands: Sequence[Command], waiter: Waiter | None = None) -> list[Outcome]:
        """Carry out `commands`; blocks while other processes have their turns.

        Args:
            commands: what to do, in order.
            waiter: hears what becomes of the last command's lease if it has to wait.

        Raises:
            StoreUnavailable: it is not known whether they were carried out: ask again with the same ones.
        """
        job = Job(commands, waiter)
        self._jobs.append(job)
        with self._mutex:
            if not job.done:
                jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
                self._work(jobs, locked=self.store.lock(TURN_SECONDS))
        if job.error is not None:
            raise job.error
        return job.outcomes

    def try_call(self, commands: Sequence[Command], waiter: Waiter | None = None) -> list[Outcome] | None:
        """Do as `call` does if it can be done without waiting for anybody; else return None."""
        if not self._mutex.acquire(blocking=False):
            return None
        job = Job(commands, waiter)
        try:
            if not self.store.try_lock():
                return None
            self.store.blocking = False
            self._work([job], locked=True)
        finally:
            self.store.blocking = True
            self._mutex.release()
        if isinstance(job.error, Busy):
            return None
        if job.error is not None:
            raise job.error
        return job.outcomes

    def _work(self, jobs: list[Job], *, locked: bool) -> None:
        """Carry out jobs in one commit; the mutex is held."""
        told: list[Told] = []
        try:
            if self.store.moved():
                drive(self._engine.refresh(), self.store)
            told = self._carry_out(jobs)
            if any(_is_refused(outcome, "unknown_session") for job in jobs for outcome in job.outcomes):
                self._greeted = False  # others took this process for dead, or the store lost its tail
                told += self._carry_out(jobs)
        except EbbgateError as error:
            for job in jobs:
                job.error = error
        finally:
            if locked:
                self.store.unlock()
            for job in jobs:
                job.done = True
        for tell in told:
            self._deliver(tell)

    def _carry_out(self, jobs: list[Job]) -> list[Told]:
        commands: list[Command] = [] if self._greeted else [self._hello]
        before = len(commands)
        for job in jobs:
            commands.extend(job.commands)
        if self.book.is_tick_due(self.store.clock()):
            commands.append(Tick())
        batch = drive(self._engine.carry_out(commands), self.store)
        self._greeted = True
        place = before
        for job in jobs:
            job.outcomes = batch.outcomes[place : place + len(job.commands)]
            place += len(job.commands)
            if job.waiter is not None and isinstance(job.outcomes[-1], Waiting):
                self.waiters[job.waiter.lease_id] = job.waiter
        return batch.told

    # --- hearing

    def look(self) -> None:
        """Take in what other processes did, and do what time calls for; those concerned are told."""
        with self._mutex:
            if self.store.moved():
                try:
                    drive(self._engine.refresh(), self.store)
                except StoreUnavailable:
                    return  # whoever waits keeps waiting
            due = self.due_us()
        if 0 <= due <= self.store.clock():
            self.call([Tick()])

    def due_us(self) -> int:
        """Return when this process should look, by the store's clock; -1: not until it is told."""
        due = self.book.next_due(self.store.clock())
        if due.at_us < 0 or due.session in {"", self.session}:
            return due.at_us
        return due.at_us + OVERDUE_US

    def _deliver(self, told: Told) -> None:
        if told.session != self.session:
            if told.wake:
                self._pusher.push(told.wake)
        else:
            self._hear(told.id, told.outcome)

    def _hear(self, lease_id: str, outcome: Heard | Gone) -> None:
        waiter = self.waiters.pop(lease_id, None)
        if waiter is not None:
            waiter.hear(outcome)
            return
        holding = self.holding.get(lease_id)
        if holding is not None and isinstance(outcome, Ended):
            holding.lose(outcome.why)

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        """See what others' commits mean for the leases of this process; None: everything was loaded anew."""
        if stored is None:
            self._took_in_everything()
            return
        for entry in stored:
            lease = entry.record
            if isinstance(lease, Lease) and lease.state != "waiting":
                if lease.id in self.waiters:
                    self._hear(lease.id, outcome_of(lease))
                elif lease.state == "ended" and lease.id in self.holding:
                    self.holding[lease.id].lose(lease.why)

    def _took_in_everything(self) -> None:
        self._greeted = self._greeted and self.session in self.book.sessions
        for lease_id in list(self.waiters):
            lease = self.book.leases.get(lease_id)
            if lease is None:
                self._hear(lease_id, Gone())
            elif lease.state != "waiting":
                self._hear(lease_id, outcome_of(lease))
        for lease_id, holding in list(self.holding.items()):
            lease = self.book.leases.get(lease_id)
            if lease is None or lease.state != "held":
                holding.lose(lease.why if lease else "lost by the store")

    # --- waiting

    def new_mailbox(self) -> Mailbox:
        """Return a new socket for pushes to this process."""
        self._boxes += 1
        return Mailbox(self._folder, f"{self.session[:13]}-{self._boxes}")

    def forget(self, waiter: Waiter) -> None:
        """Stop listening for what becomes of a waiter."""
        self.waiters.pop(waiter.lease_id, None)

    def bury_the_dead(self) -> None:
        """Find out which other processes have died, and have their slots passed on; twice a second at most."""
        now_us = self.store.clock()
        if now_us - self._checked_us < ALIVE_EVERY_US:
            return
        self._checked_us = now_us
        with self._mutex:
            others = [s for s in self.book.sessions.values() if s.presence >= 0 and s.id != self.session]
            dead = [session for session in others if not self._presence.is_alive(session.presence)]
        if dead:
            self.call([Away(session.id, session.epoch, certain=True) for session in dead])
            for session in dead:
                remove_mailboxes(self._folder, session.id[:13])

    # --- the end

    def close(self) -> None:
        """Release what is held, leave the queue, and say good-bye."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(EbbgateError):
            if self._greeted:
                releases = [Release(lease_id, self.session, 1) for lease_id in [*self.holding, *self.waiters]]
                self.call([*releases, Away(self.session, 1, certain=True)])
        self.store.close()
        self.mailbox.close()
        self._pusher.close()
        self._presence.end()

    def abandon(self) -> None:
        """Forget everything in a child after a fork: the parent keeps it."""
        self._closed = True
        self.store.abandon()
        self.mailbox.abandon()
        self._pusher.close()
        self._presence.end()


def _is_refused(outcome: Outcome, code: str) -> bool:
    return isinstance(outcome, Refused) and outcome.code == code


def new_id() -> str:
    """Return a random UUID; quicker than `uuid.uuid4`, which every acquisition would pay for."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
