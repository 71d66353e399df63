"""The commands of one event loop: the first of a turn is carried out at once, the rest of the turn in one commit.

So a lone task pays nothing for a hundred others, and a hundred tasks that ask in one turn of the loop pay for
one commit. Nothing blocks the loop: where another thread or process is in the way, a worker thread carries
out what has come, in its order.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from ebbgate.background import call_in_thread
from ebbgate.client.embedded.jobs import Job, fail
from ebbgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate

BATCH_MAX: Final = 64
"""How many commands one turn of the loop carries out at most, some 0.5 ms of work."""


class LoopTurn:
    """The queue between the tasks of a loop and its gate."""

    def __init__(self, gate: "EmbeddedGate", loop: asyncio.AbstractEventLoop) -> None:
        """Nothing has come in this turn yet."""
        self._gate = gate
        self._loop = loop
        self._queue: list[tuple[Job, asyncio.Future[None]]] = []
        self._begun = False  # whether a command was carried out in this turn already
        self._in_thread = False  # whether a worker thread is at it

    async def carry_out(self, job: Job) -> None:
        """Return when `job` is done. It will be, even if the waiting for it is cancelled."""
        if not (self._begun or self._in_thread):
            self._begun = True
            self._loop.call_soon(self._end)
            if self._gate.try_jobs([job]):
                return
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.append((job, done))
        await done

    def _end(self) -> None:
        """Carry out what has come since the first command of the turn."""
        self._begun = False
        if not self._queue or self._in_thread:
            return
        batch, self._queue = self._queue[:BATCH_MAX], self._queue[BATCH_MAX:]
        jobs = [job for job, _ in batch]
        try:
            is_carried_out = self._gate.try_jobs(jobs)
        except BaseException:  # from outside: a signal handler raised
            _tell(batch)  # that it failed
            raise
        if is_carried_out:
            _tell(batch)
            if self._queue:
                self._begun = True
                self._loop.call_soon(self._end)
            return
        patience_us = min(job.patience_us for job in jobs)
        try:
            helper = call_in_thread(self._gate.do_jobs, jobs, patience_us)
        except RuntimeError as error:
            fail(jobs, StoreUnavailable(f"the store is busy, and there is no thread to wait for it: {error}"))
            self._back(batch)
            return
        self._in_thread = True
        helper.add_done_callback(lambda _: self._back(batch))

    def _back(self, batch: list[tuple[Job, "asyncio.Future[None]"]]) -> None:
        """Go on after the worker thread."""
        self._in_thread = False
        _tell(batch)
        self._end()


def _tell(batch: list[tuple[Job, "asyncio.Future[None]"]]) -> None:
    for _, done in batch:
        if not done.done():
            done.set_result(None)
