"""The stream without the SDK: what the server alone carries, and clients by the thousand."""

import asyncio
import time
from itertools import count
from types import TracebackType
from typing import Self

from websockets.asyncio.client import connect

from bench.background import HOST
from bench.crew import Result, Start, Task
from bench.pairs import outcome, run_loop
from bench.report import Waited
from ebbgate.core.model import SECOND
from ebbgate.wire import stream
from ebbgate.wire.ids import new_id

BATCH = 500
LEASE_US = 3_600 * SECOND


class RawClient:
    """One connection with a session of its own."""

    def __init__(self, port: int) -> None:
        self.session = new_id()
        self._connecting = connect(
            f"ws://{HOST}:{port}{stream.PATH}", compression=None, max_size=None, ping_interval=None
        )
        self._number = count(1)

    async def __aenter__(self) -> Self:
        """Connect and greet."""
        self._socket = await self._connecting.__aenter__()
        await self.send([stream.HelloItem(0, stream.VERSION, self.session, 1, "main", "bench", 1)])
        await self.hear()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go without a word."""
        await self._connecting.__aexit__(kind, error, trace)

    def acquire(self, limit: str) -> stream.AcquireItem:
        """Return a new question for one slot."""
        return stream.AcquireItem(next(self._number), new_id(), ((limit, 1),), LEASE_US)

    def release(self, lease_id: str) -> stream.ReleaseItem:
        """Return what gives it back."""
        return stream.ReleaseItem(next(self._number), lease_id, self.session)

    async def send(self, items: list[stream.Up]) -> None:
        """Send one message."""
        await self._socket.send(stream.encode_up(items), text=True)

    async def hear(self) -> list[stream.Down]:
        """Return the items of the next message."""
        items = stream.decode_down(await self._socket.recv(decode=False))[1]
        for item in items:
            assert not isinstance(item, stream.RefusedItem | stream.FailedItem), item
        return items

    async def fill(self, limit: str, number: int) -> None:
        """Acquire so many slots, or wait for them, one lease each."""
        for begin in range(0, number, BATCH):
            asked = min(BATCH, number - begin)
            await self.send([self.acquire(limit) for _ in range(asked)])
            while asked:
                asked -= len(await self.hear())


def pairs(task: Task, start: Start) -> Result:
    """Acquire and release with so many in flight as the task says, on one connection."""

    async def main() -> Result:
        async with RawClient(task["port"]) as client:
            await client.fill("a", 1)
            begun = start()
            before, until, done, used_s = Waited.now(), begun + task["seconds"], 0, time.process_time()
            await client.send([client.acquire("a") for _ in range(task["tasks"])])
            while time.monotonic() < until:
                items = await client.hear()
                said: list[stream.Up] = []
                for item in items:
                    if isinstance(item, stream.HeldItem):
                        said.append(client.release(item.id))
                    else:
                        said.append(client.acquire("a"))
                        done += 1
                await client.send(said)
            return outcome(done, begun, before, used_s)

    return run_loop(main(), task)


async def keep_open(client: RawClient, seconds: float) -> None:
    """Hear what comes for so long."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                await client.hear()
    except TimeoutError:
        pass
