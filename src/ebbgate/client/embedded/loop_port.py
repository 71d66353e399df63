"""Where the tasks of one event loop ask and wait. Nothing here ever blocks the loop.

A decision on the file takes tens of microseconds, so it is made on the loop itself; only where another
thread or process is in the way, a worker thread makes it.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ebbgate.background import call_in_thread
from ebbgate.client.embedded.jobs import Job
from ebbgate.client.embedded.loop_turn import LoopTurn
from ebbgate.client.embedded.thread_port import pause_us
from ebbgate.client.embedded.timing import GIVE_BACK_US, RETRY_US, patience_of
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Away, Outcome, Release
from ebbgate.core.model import SECOND
from ebbgate.wire.questions import Answer, Question

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate

_log: Final = logging.getLogger("ebbgate")

PRECISE_US: Final = 1_200
"""How early an event loop is woken for what is due: its timers fire up to a millisecond late."""

SEE_AGAIN_US: Final = 10_000
"""How soon to ask again while another thread decides."""


class LoopPort:
    """A socket that pushes arrive at, and a timer for what time brings."""

    def __init__(self, gate: "EmbeddedGate", loop: asyncio.AbstractEventLoop) -> None:
        self._gate = gate
        self._loop = loop
        self._thread = threading.get_ident()
        self._mailbox = gate.new_mailbox()
        self.address = self._mailbox.address
        self._timer: asyncio.Handle | None = None
        self._look_at_us = 0
        self._helper: asyncio.Future[None] | None = None  # looks in a thread, where the loop could not
        self._waiting = 0
        self.waiting: dict[str, Waiter] = {}
        self._turn = LoopTurn(gate, loop)
        self.session = gate.session
        self.epoch = gate.epoch
        self.forget = gate.forget
        self.counted_from = gate.counted_from
        loop.add_reader(self._mailbox.fileno(), self._pushed)
        gate.ports.append(self)

    async def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """Carry out one command on the loop itself, or in a thread where somebody is in the way."""
        job = Job((command,), waiter, patience_of(until_us, self._gate.clock()))
        await self._turn.carry_out(job)
        if job.error is not None:
            raise job.error
        return job.outcomes[0]

    async def give_back(self, command: Release) -> None:
        """Release a lease; a cancellation does not keep it from being released."""
        if asyncio._get_running_loop() is not self._loop:  # the task is collected after its loop was closed
            self._gate.renewer.release_later(command)
            return
        job = Job((command,), None, GIVE_BACK_US)
        is_released = False
        try:
            async with asyncio.timeout(GIVE_BACK_US / SECOND):
                await self._turn.carry_out(job)
                is_released = job.error is None
        except TimeoutError:
            pass
        finally:
            if not is_released:  # it may still be carried out, and may still fail
                self._gate.renewer.release_later(command)

    async def see(self, question: Question) -> Answer | None:
        """Answer a question from what this process knows; None: others decide for a second."""
        until_us = self._gate.clock() + SECOND
        while True:
            found = self._gate.see(question, patience_us=0)
            if found is not None or self._gate.clock() >= until_us:
                return found
            await asyncio.sleep(SEE_AGAIN_US / SECOND)

    async def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """Return when `waiter` has its outcome, or at `until_us`."""
        woken = asyncio.Event()
        waiter.notify = self._waker(woken)
        if waiter.outcome is not None:
            return
        self._waiting += 1
        self.waiting[waiter.lease_id] = waiter
        self._gate.renewer.watch()
        self._schedule()
        timer = None
        if until_us is not None:
            timer = self._loop.call_later(max(until_us - self._gate.clock(), 0) / SECOND, woken.set)
        try:
            await woken.wait()
        finally:
            self._waiting -= 1
            self.waiting.pop(waiter.lease_id, None)
            if timer is not None:
                timer.cancel()

    def _waker(self, woken: asyncio.Event) -> Callable[[], None]:
        """Return what sets `woken`, whatever thread calls it."""

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                if threading.get_ident() == self._thread:
                    woken.set()
                else:
                    self._loop.call_soon_threadsafe(woken.set)

        return wake

    def _pushed(self) -> None:
        self._mailbox.empty()
        self._look()

    def _look(self) -> None:
        """Look without blocking; where that is not possible, have a thread look."""
        if self._timer is not None:
            self._timer.cancel()  # a push was earlier: left alone it would spin on, beside the next one
            self._timer = None
        if self._helper is not None and not self._helper.done():
            return
        dead = self._gate.deaths.find()
        if dead or not self._gate.try_look():
            try:
                self._helper = call_in_thread(self._look_in_thread, dead)
            except RuntimeError:  # there can be no thread now
                self._timer = self._loop.call_later(RETRY_US / SECOND, self._look)
                return
            self._helper.add_done_callback(self._looked)
        else:
            self._schedule()

    def _look_in_thread(self, dead: list[Away]) -> None:
        self._gate.deaths.bury(dead)
        self._gate.look()

    def _looked(self, helper: "asyncio.Future[None]") -> None:
        if not helper.cancelled() and helper.exception() is not None:
            _log.warning("could not look for waiting tasks; it is tried again", exc_info=helper.exception())
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer for the next look, if anybody waits here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        sleep_us = pause_us(self._gate)
        self._look_at_us = self._gate.store.clock() + sleep_us
        if sleep_us > PRECISE_US:
            self._timer = self._loop.call_later((sleep_us - PRECISE_US) / SECOND, self._look_when_due)
        else:
            self._look_when_due()

    def _look_when_due(self) -> None:
        """Look when it is time; until then come back every turn of the loop, for a timer may be late."""
        if self._gate.store.clock() >= self._look_at_us:
            self._look()
        else:
            self._timer = self._loop.call_soon(self._look_when_due)

    def nudge(self) -> None:
        """Set the timer anew, from any thread."""
        with contextlib.suppress(RuntimeError):
            if threading.get_ident() == self._thread:
                self._schedule()
            else:
                self._loop.call_soon_threadsafe(self._schedule)

    def close(self) -> None:
        """Unbind the socket, from any thread."""
        if self in self._gate.ports:
            self._gate.ports.remove(self)
        try:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._close)
                return
        except RuntimeError:
            pass  # it was closed just now
        self._mailbox.close()

    def _close(self) -> None:
        self._loop.remove_reader(self._mailbox.fileno())
        self._mailbox.close()

    def abandon(self) -> None:
        """Close this process's copy of the socket after a fork."""
        self._mailbox.abandon()


def port_of_running_loop(gate: "EmbeddedGate", ports: dict[asyncio.AbstractEventLoop, LoopPort]) -> LoopPort:
    """Return the port of a gate's that the running loop has among `ports`, made on first use."""
    loop = asyncio.get_running_loop()
    port = ports.get(loop)
    if port is None:
        gate.reap()
        port = ports[loop] = LoopPort(gate, loop)
    return port
