"""What people who look on cost those who work: pairs through a server with nobody looking, and with 100 viewers.

Most look at the list of limits, some at the limit that is in use, some at what happens. Who works takes turns
with and without them, so that a slow spell of the machine meets both.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from urllib.parse import quote

from bench.background import HOST, processor_seconds
from bench.crew import Result, Task, crew, store
from bench.report import Line, Options, Remark, at_least, at_most
from bench.server import raw
from bench.server.serving import Server, serving

SLOTS = 10_000
VIEWERS = 100
BUSY = 50
STEADY = 1_000
TURNS = 20
LIMITS: dict[str, int | tuple[int, float]] = {
    "a": SLOTS,
    **{f"busy{number:03}": 100 for number in range(BUSY)},
    **{f"idle{number:03}": 5 for number in range(200)},
}

OVERVIEW = [{"kind": "limits", "first": 0, "count": 50}]
LIMIT = [{"kind": "limit", "limit": "a", "leases": 100}]
EVENTS = [{"kind": "events"}]
LOOKED_AT = [*[OVERVIEW] * 8, LIMIT, EVENTS]
"""What ten viewers look at."""


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure 64 pairs in flight, with 0 and with 100 viewers in turn."""
    task = {"limit": "a", "slots": SLOTS, "tasks": 64, "burst": 5, "seconds": options.scaled(4, 0.5)}
    alone: list[Result] = []
    watched: list[Result] = []
    heard: list[float] = []
    shares: list[float] = []
    with store(**LIMITS) as kept, serving(kept) as server:
        for _ in range(options.repeats + 2):
            alone.append(_pairs(server, task))
            quiet = _share(server, options)
            with _viewers(server, VIEWERS) as viewers:
                watched.append(_pairs(server, task))
                viewers.bytes, begun = 0, time.monotonic()
                shares.append(_share(server, options) - quiet)
                heard.append(viewers.bytes / VIEWERS / (time.monotonic() - begun))
    yield _line("64 pairs in flight, nobody looks", alone)
    yield _line(f"64 pairs in flight, {VIEWERS} viewers", watched)
    rates = [b["rate"] / a["rate"] for a, b in zip(alone, watched, strict=True)]
    yield Line("throughput with viewers / without", rates, "x", at_least(0.9))
    what = f"{STEADY:,} pairs a second at {BUSY} limits"
    yield Line(f"{what}: {VIEWERS} viewers take of a core", shares, "", at_most(0.1))
    yield Line(f"{what}: sent to a viewer", [rate / 1024 for rate in heard], "KiB/s")


def _share(server: Server, options: Options) -> float:
    """Return what a steady load takes of a core at the server: what a busy machine changes least."""
    begun, before_s = time.monotonic(), processor_seconds(server.pid)
    asyncio.run(_steady(server.port, options.scaled(3, 1)))
    return (processor_seconds(server.pid) - before_s) / (time.monotonic() - begun)


async def _steady(port: int, seconds: float) -> None:
    async with raw.RawClient(port) as client:
        for turn in range(round(seconds * TURNS)):
            until = time.monotonic() + 1 / TURNS
            number = STEADY // TURNS
            asked = [client.acquire(f"busy{(turn * number + one) % BUSY:03}") for one in range(number)]
            await client.send([*asked])
            await _hear(client, number)
            await client.send([client.release(item.id) for item in asked])
            await _hear(client, number)
            await asyncio.sleep(until - time.monotonic())


async def _hear(client: raw.RawClient, number: int) -> None:
    while number > 0:
        number -= len(await client.hear())


def _pairs(server: Server, task: Task) -> Result:
    before_s = processor_seconds(server.pid)
    (result,) = crew(raw.pairs, [{**task, "port": server.port, "warm_up": 0}])
    used_s = processor_seconds(server.pid) - before_s
    return {**result, "server_us": 1e6 * used_s / result["count"]}


def _line(what: str, results: list[Result]) -> Line:
    used = f"server {median(result['server_us'] for result in results):.1f} us for a pair"
    return Line(what, [result["rate"] for result in results], "/s", note=used)


class Viewers:
    """Who reads and forgets, on a thread of its own."""

    def __init__(self, port: int, number: int) -> None:
        """Look on as soon as the thread runs."""
        self.bytes = 0
        self._port = port
        self._number = number
        self._open = threading.Semaphore(0)
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="viewers")

    def start(self) -> None:
        """Return when all of them look on."""
        self._thread.start()
        for _ in range(self._number):
            if not self._open.acquire(timeout=30):
                raise RuntimeError("the viewers are not let in")
        self.bytes = 0

    def stop(self) -> None:
        """Have all of them go."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._look())

    async def _look(self) -> None:
        tasks = [asyncio.create_task(self._view(number)) for number in range(self._number)]
        await self._over.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _view(self, number: int) -> None:
        views = quote(json.dumps(LOOKED_AT[number % len(LOOKED_AT)]))
        reader, writer = await asyncio.open_connection(HOST, self._port, limit=1 << 26)
        try:
            writer.write(
                f"GET /v1/events?views={views} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n\r\n".encode()
            )
            await reader.readuntil(b"event: totals")
            self._open.release()
            while data := await reader.read(1 << 20):
                self.bytes += len(data)
        finally:
            writer.close()


@contextmanager
def _viewers(server: Server, number: int) -> Iterator[Viewers]:
    viewers = Viewers(server.port, number)
    viewers.start()
    try:
        yield viewers
    finally:
        viewers.stop()
