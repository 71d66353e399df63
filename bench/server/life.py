"""Start, restart and idling of a server."""

import asyncio
import time
from collections.abc import Iterator

from bench.background import processor_seconds, resident_bytes
from bench.crew import Result, Start, Task, crew, store
from bench.report import Line, Options, at_most
from bench.server.raw import RawClient
from bench.server.serving import serving

MB = 1_000_000


def fill(task: Task, start: Start) -> Result:
    """Leave so many leases behind."""

    async def main() -> Result:
        async with RawClient(task["port"]) as client:
            await client.fill("many", task["held"])
            start()
        return {}

    return asyncio.run(main())


def run(options: Options) -> Iterator[Line]:
    """Measure an empty server, then one that comes back to many leases."""
    starts: list[float] = []
    memory: list[float] = []
    load: list[float] = []
    with store(many=10**9) as kept:
        with serving(kept):
            pass  # its byte code is kept now
        for _ in range(options.repeats):
            with serving(kept) as server:
                starts.append(server.ready_s)
                time.sleep(1)
                begun, before = time.monotonic(), processor_seconds(server.pid)
                time.sleep(options.scaled(10, 2))
                spent_s = processor_seconds(server.pid) - before
                load.append(100 * spent_s / (time.monotonic() - begun))
                memory.append(resident_bytes(server.pid) / MB)
    yield Line("from the start of the process until it is ready", starts, "s", at_most(1))
    yield Line("memory when idle", memory, "MB", at_most(90))
    yield Line("processor when idle", load, "% of a core", at_most(0.5))
    number = round(options.scaled(100_000, 5_000))
    back: list[float] = []
    memory = []
    with store(many=10**9) as kept:
        with serving(kept) as server:
            crew(fill, [{"port": server.port, "held": number}])
        for _ in range(options.repeats):
            with serving(kept) as server:
                back.append(server.ready_s)
                memory.append(resident_bytes(server.pid) / MB)
    yield Line(f"restart with {number:,} leases, until it is ready", back, "s", at_most(3))
    yield Line("memory then", memory, "MB")
