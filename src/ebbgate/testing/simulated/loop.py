"""As much of an event loop as the code of a server needs that is run in a simulation."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from ebbgate.testing.simulated.kernel import Process

# What is called is the server's own; its arguments are passed through.
Callback = Callable[..., object]


class Timer:
    """Something that happens later, unless it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Have it not happen."""
        self.cancelled = True


class SimulatedLoop:
    """Calls back in virtual time, as part of one process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def call_soon(self, call: Callback, *arguments: Any) -> Timer:  # noqa: ANN401 - passed through
        """See `asyncio.AbstractEventLoop`."""
        return self.call_later(0, call, *arguments)

    def call_later(self, seconds: float, call: Callback, *arguments: Any) -> Timer:  # noqa: ANN401 - passed through
        """See `asyncio.AbstractEventLoop`."""
        timer = Timer()

        def happen() -> bool | None:
            if timer.cancelled:
                return False
            with self.running():
                call(*arguments)
            return None

        self.process.soon(happen, round(seconds * 1_000_000))
        return timer

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop for the length of the block."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", self))
        try:
            yield
        finally:
            asyncio._set_running_loop(before)
