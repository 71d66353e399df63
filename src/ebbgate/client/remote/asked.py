"""How those who ask hear of the answer: threads that sleep, and tasks that await a future."""

import asyncio
import contextlib
import threading

from ebbgate.client.remote.desk import Asked, Desk, Reply
from ebbgate.client.waiting import Waiter
from ebbgate.core.model import SECOND
from ebbgate.wire.stream import Up


class Sleeper:
    """What one thread waits for."""

    __slots__ = ("_bed", "done")

    def __init__(self) -> None:
        """It has not come yet."""
        self.done = False
        self._bed: threading.Lock | None = None

    def finish(self) -> None:
        """Say that it has come."""
        self.done = True
        self.wake()

    def wake(self) -> None:
        """Have the thread look again, if it sleeps."""
        if self._bed is not None:
            with contextlib.suppress(RuntimeError):  # it was woken before
                self._bed.release()

    def lie_down(self) -> bool:
        """Prepare to sleep: from now on it can be woken. Return whether it has come, and nobody need sleep."""
        if self._bed is None:
            self._bed = threading.Lock()
        self._bed.acquire(blocking=False)
        return self.done

    def sleep(self, duration_us: int) -> None:
        """Return when woken, or after so long."""
        assert self._bed is not None, "it lies down before"
        self._bed.acquire(timeout=duration_us / SECOND)


class ThreadAsked(Asked):
    """A command of a thread."""

    __slots__ = ("reply", "sleeper")

    def __init__(self, item: Up, waiter: Waiter | None = None) -> None:
        """See `Asked`."""
        super().__init__(item, waiter)
        self.reply: Reply | None = None
        self.sleeper = Sleeper()

    def settle(self, desk: Desk, reply: Reply) -> None:  # noqa: ARG002 - as its base has it
        """Wake the thread."""
        self.reply = reply
        self.sleeper.finish()


class LoopAsked(Asked):
    """A command of a task."""

    __slots__ = ("asked_us", "future", "reply")

    def __init__(
        self, item: Up, future: "asyncio.Future[Reply | None]", asked_us: int, waiter: Waiter | None = None
    ) -> None:
        """See `Asked`; None in its future: there was no answer in time."""
        super().__init__(item, waiter)
        self.future = future
        self.asked_us = asked_us
        self.reply: Reply | None = None

    def settle(self, desk: Desk, reply: Reply) -> None:  # noqa: ARG002 - as its base has it
        """Resume the task."""
        self.reply = reply
        if not self.future.done():
            self.future.set_result(reply)


def time_is_up(asked: LoopAsked) -> None:
    """Have a task go on without an answer."""
    if not asked.future.done():
        asked.future.set_result(None)
