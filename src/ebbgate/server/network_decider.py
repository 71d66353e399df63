"""Deciding on a store behind a network, which several servers share.

One task decides. While it waits for a commit, commands collect, and all of them are the next batch. Another task
listens for what other servers commit; who is about to commit need not look, for a commit that lost a race brings
along what won it.
"""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, cast

from ebbgate.core.book import Due
from ebbgate.core.grace import RECOVERY_US
from ebbgate.core.model import SERVER, Settings, Stored
from ebbgate.engine.drive import drive_async
from ebbgate.engine.engine import Batch
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.server.audience import Job
from ebbgate.server.decider import PULSE_SECONDS, RECENT_MAX, Decider
from ebbgate.stores.base import NetworkStore, Past
from ebbgate.wire.questions import Answer, Question, answer

_log: Final = logging.getLogger("ebbgate.server")

LAST_SECONDS: Final = 5.0
"""How long a server that stops waits for what is being committed."""

OTHERS_US: Final = 20_000
"""How much later than the server it concerns another one does what is due."""


class _NeedsPastError(Exception):
    """The answer lies in the log."""


class NetworkDecider(Decider):
    """See `Decider`."""

    store: NetworkStore
    jobs_max = 1_024
    is_shared = True

    def __init__(
        self, store: NetworkStore, settings: Settings | None = None, *, recovery_grace_us: int = RECOVERY_US
    ) -> None:
        """See `Decider`."""
        super().__init__(store, settings, recovery_grace_us=recovery_grace_us)
        self.address = f"{SERVER}{os.urandom(6).hex()}"
        self._wanted = asyncio.Event()  # there is something to decide, or to look at
        self._resting = asyncio.Event()
        self._resting.set()
        self._has_news = False  # others have committed, for all that is known
        self._late_us = random.randrange(OTHERS_US // 2, OTHERS_US)  # noqa: S311 - so that not all come at once
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """See `Decider`."""
        await drive_async(self.engine.refresh(), self.store)
        self._begin()
        self._tasks = [asyncio.create_task(self._decide_on()), asyncio.create_task(self._listen())]

    async def close(self) -> None:
        """See `Decider`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while self._tasks and (self._jobs or not self.is_at_rest):
                    await self._resting.wait()
                    await asyncio.sleep(0)
        self._end()
        for task in (*self._tasks, *self._asking):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._asking, return_exceptions=True)
        while self._jobs:
            self._is_refusing(self._begin_turn())
        await self.store.close()

    # --- questions

    async def ask(self, question: Question) -> Answer:
        """See `Decider`."""
        await self.carry_out(())  # so that all is known that was committed before
        await self.rest()
        try:
            return answer(question, self.book, self.store.clock(), _needs_past)
        except _NeedsPastError:
            past = await self.store.recent(RECENT_MAX)
            await self.rest()
            return answer(question, self.book, self.store.clock(), lambda: past)

    def ask_for(self, question: Question, told: Callable[[Answer | EbbgateError], None]) -> None:
        """See `Decider`."""

        async def ask() -> None:
            found: Answer | EbbgateError
            try:
                found = await self.ask(question)
            except EbbgateError as error:
                found = error
            told(found)

        task = asyncio.get_running_loop().create_task(ask())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    @property
    def is_at_rest(self) -> bool:
        """See `Decider`."""
        return self._resting.is_set()

    async def rest(self) -> None:
        """See `Decider`."""
        while not self._resting.is_set():
            await self._resting.wait()
        if not self.engine.is_settled:
            raise self._failed or StoreUnavailable("it is not known yet what was committed last")

    # --- the work of one turn

    def _plan(self) -> None:
        self._planned = True
        self._wanted.set()

    async def _decide_on(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            jobs = self._begin_turn()
            batch = None if self._is_refusing(jobs) else await self._decide(jobs)
            try:
                self._finish(jobs, batch)
            except Exception:  # noqa: BLE001 - one defect must not be the end of everything
                _log.exception("a defect: what was decided could not be told to all")
            await asyncio.sleep(0)  # who waited for rest has it now, and what has arrived is read

    async def _decide(self, jobs: list[Job]) -> Batch | None:
        self._resting.clear()
        try:
            return await drive_async(self._steps(jobs), self.store)
        except Exception as error:  # noqa: BLE001 - see there
            self._defect(jobs, error)
            return None
        finally:
            self._resting.set()

    def _finish(self, jobs: list[Job], batch: Batch | None) -> None:
        self.lasts.begin()
        try:
            if batch is not None:
                self._tell_all(jobs, batch)
        finally:
            self.lasts.end()
        self._end_turn(batch)

    def _looks(self, jobs: list[Job]) -> bool:
        had_news, self._has_news = self._has_news, False
        return not jobs and (had_news or self._failed is not None)

    def _leave_to_others_us(self, due: Due) -> int:
        """See `Decider`: a server sees to its own clients; all do, later, if it does not."""
        session = self.book.sessions.get(due.session)
        return 0 if session is not None and session.wake == self.address else self._late_us

    # --- the others

    async def _listen(self) -> None:
        hints = cast("AsyncGenerator[None, Any]", self.store.watch())
        async with contextlib.aclosing(hints):
            async for _ in hints:
                self._has_news = True
                self._plan()

    def _beat(self) -> None:
        assert self._loop is not None, "started"
        self._pulse = self._loop.call_later(PULSE_SECONDS, self._beat)
        self._watch()
        if self._failed is not None:
            self._plan()

    def _wake_up(self, address: str) -> None:
        """See `Decider`: every server hears of every commit."""

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        self._note_losses()
        super()._took_in(stored)


def _needs_past() -> list[Past]:
    raise _NeedsPastError
