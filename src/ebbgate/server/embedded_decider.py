"""Deciding on a store of this machine: a file, or one in memory.

Deciding takes microseconds and a commit little more, so both are done on the loop itself: a thread would cost more
than it saves, until a disk is slow, and then everybody waits for the disk anyway.

Other processes may decide on the same file: embedded ones that were there before the server.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ebbgate.core.grace import RECOVERY_US
from ebbgate.core.model import SECOND, Settings, Stored
from ebbgate.engine.drive import drive
from ebbgate.engine.engine import Batch
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.neighbours.neighbours import Neighbours
from ebbgate.server.audience import Job
from ebbgate.server.decider import PULSE_SECONDS, RECENT_MAX, Decider
from ebbgate.stores.base import EmbeddedStore, Past
from ebbgate.wire.questions import Answer, Question, answer

PATIENCE_US: Final = 1_000_000
"""How long a decision waits for another process to let go of the file; nobody else is served meanwhile."""

TURN_US: Final = 50_000

SHARED_US: Final = SECOND
"""How long after another process's commit the server expects the next one."""

MAILBOX: Final = "server"
"""How the names end of the sockets at which other processes of the machine wake servers."""


class EmbeddedDecider(Decider):
    """See `Decider`."""

    store: EmbeddedStore
    jobs_max = 256

    def __init__(
        self,
        store: EmbeddedStore,
        path: Path | None,
        settings: Settings | None = None,
        *,
        recovery_grace_us: int = RECOVERY_US,
    ) -> None:
        """See `Decider`; `path` is the store's file, None for one in memory."""
        super().__init__(store, settings, recovery_grace_us=recovery_grace_us)
        self._neighbours = Neighbours(path, f"{os.urandom(3).hex()}{MAILBOX}")
        self.address = self._neighbours.mailbox.address
        self._shared_until_us = 0  # others decide on the same store, for all that is known
        self._misplaced: StoreUnavailable | None = None  # its file is not there any more

    async def start(self) -> None:
        """See `Decider`."""
        drive(self.engine.refresh(), self.store)
        self._begin()
        asyncio.get_running_loop().add_reader(self._neighbours.mailbox.fileno(), self._pushed)

    async def close(self) -> None:
        """See `Decider`."""
        while self._jobs:
            self._work()
        self._end()
        asyncio.get_running_loop().remove_reader(self._neighbours.mailbox.fileno())
        with contextlib.suppress(StoreUnavailable):
            self.store.close()
        self._neighbours.mailbox.close()
        self._neighbours.close()

    # --- questions

    async def ask(self, question: Question) -> Answer:
        """See `Decider`."""
        return self._answer(question)

    def ask_for(self, question: Question, told: Callable[[Answer | EbbgateError], None]) -> None:
        """See `Decider`."""
        try:
            found = self._answer(question)
        except EbbgateError as error:
            told(error)
        else:
            told(found)

    def _answer(self, question: Question) -> Answer:
        self._work()
        while self._jobs:
            self._work()
        if self._failed is not None:
            raise self._failed
        return answer(question, self.book, self.store.clock(), self._recent)

    def _recent(self) -> list[Past]:
        return self.store.recent(RECENT_MAX)

    @property
    def is_at_rest(self) -> bool:
        """See `Decider`: nobody sees the middle of a turn."""
        return True

    async def rest(self) -> None:
        """See `Decider`."""

    # --- the work of one turn

    def _plan(self) -> None:
        self._planned = True
        assert self._loop is not None, "started"
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        if self._closed:
            self._planned = False
            return
        jobs = self._begin_turn()
        self.lasts.begin()
        try:
            batch = None if self._is_refusing(jobs) else self._decide(jobs)
            if batch is not None:
                self._tell_all(jobs, batch)
        finally:
            self.lasts.end()
        self._end_turn(batch)

    def _decide(self, jobs: list[Job]) -> Batch | None:
        if self._misplaced is not None:
            self._fail(jobs, self._misplaced)
            return None
        locked = self.store.try_lock() or self.store.lock(TURN_US)
        try:
            patience_us = PATIENCE_US if self._failed is None else TURN_US
            return drive(self._steps(jobs), self.store, patience_us=patience_us)
        except Exception as error:  # noqa: BLE001 - see there
            self._defect(jobs, error)
            return None
        finally:
            if locked:
                self.store.unlock()

    def _looks(self, jobs: list[Job]) -> bool:
        """See `Decider`: who is alone need not look before a commit, which fails if somebody was quicker."""
        version = self.engine.version
        assert version is not None, "asked only where something is loaded"
        return (not jobs or self.store.clock() <= self._shared_until_us) and self.store.moved(version)

    # --- the others

    def _beat(self) -> None:
        assert self._loop is not None, "started"
        self._pulse = self._loop.call_later(PULSE_SECONDS, self._beat)
        self._watch()
        self._misplaced = self.store.misplaced()
        version = self.engine.version
        troubled = self._misplaced is not None or self._failed is not None
        try:
            if version is None or troubled or self.store.moved(version):
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

    def _wake_up(self, address: str) -> None:
        if address and address != self.address:
            self._neighbours.push(address)

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        super()._took_in(stored)
        if stored is not None:
            self._shared_until_us = self.store.clock() + SHARED_US
