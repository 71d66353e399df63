"""What waiting clients cost a server, and how fast it is with much in its book."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from bench.background import resident_bytes
from bench.crew import Result, Start, Task, crew
from bench.pairs import pairs_async, waiting
from bench.report import Line, Options, at_least, at_most
from bench.server.raw import RawClient, keep_open
from bench.server.serving import served
from bench.server.stream import TASKS

KIB = 1024


def clients(task: Task, start: Start) -> Result:
    """Connect so many clients, each with one waiter; return what each of them takes of the server's memory."""

    async def main() -> Result:
        before = resident_bytes(task["pid"])
        async with AsyncExitStack() as stack:
            for _ in range(task["clients"]):
                client = await stack.enter_async_context(RawClient(task["port"]))
                await client.fill("full", 1)
            start()
            await asyncio.sleep(0.5)  # what the server still does for the last of them
            return {"bytes": (resident_bytes(task["pid"]) - before) / task["clients"]}

    return asyncio.run(main())


def beside(task: Task, start: Start) -> Result:
    """Be the one who fills the book and stays, or the one who measures."""
    return asyncio.run(_fill(task, start)) if "held" in task else pairs_async(task, start)


async def _fill(task: Task, start: Start) -> Result:
    before, begun = resident_bytes(task["pid"]), time.monotonic()
    async with RawClient(task["port"]) as holder, RawClient(task["port"]) as waiter:
        await holder.fill("many", task["held"])
        await waiter.fill("full", task["waiting"])
        took_s = time.monotonic() - begun
        size = resident_bytes(task["pid"]) - before
        start()
        await asyncio.gather(*(keep_open(client, task["seconds"] + 0.5) for client in (holder, waiter)))
    number = task["held"] + task["waiting"]
    return {"bytes": size / number, "rate": number / took_s}


def run(options: Options) -> Iterator[Line]:
    """Measure memory by clients, and throughput with an empty and with a full book."""
    number = round(options.scaled(2_000, 200))
    sizes: list[float] = []
    for _ in range(options.repeats):
        with served(full=0) as server:
            task = {"port": server.port, "pid": server.pid, "clients": number}
            sizes.append(crew(clients, [task])[0]["bytes"] / KIB)
    yield Line(f"memory for each of {number:,} connected clients that wait", sizes, "KiB", at_most(40))
    yield from _full_book(options)


def _full_book(options: Options) -> Iterator[Line]:
    held, waiters = (round(options.scaled(100_000, 5_000)) for _ in range(2))
    seconds = options.scaled(3, 0.5)
    measure = {**TASKS, "seconds": seconds}
    rows: dict[str, list[Any]] = {"empty": [], "full": [], "filled": []}
    for _ in range(options.repeats):
        with served(a=10_000, many=10**9, full=0) as server:
            rows["empty"] += crew(beside, [measure], server.url)
            fill = {"port": server.port, "pid": server.pid, "held": held, "waiting": waiters}
            filled, full = crew(beside, [{**fill, "seconds": seconds}, measure], server.url)
            rows["filled"].append(filled)
            rows["full"].append(full)
    what = f"{waiters:,} waiters and {held:,} leases in the book"
    yield Line("64 tasks, an empty book, pairs", [r["rate"] for r in rows["empty"]], "/s")
    note = waiting(rows["full"])
    yield Line(f"64 tasks, {what}, pairs", [r["rate"] for r in rows["full"]], "/s", note=note)
    ratios = [full["rate"] / empty["rate"] for full, empty in zip(rows["full"], rows["empty"], strict=True)]
    yield Line("the same, full / empty", ratios, "x", at_least(0.5))
    yield Line("asking for them, 500 in a message", [r["rate"] for r in rows["filled"]], "/s")
    yield Line("memory for each of them", [r["bytes"] / KIB for r in rows["filled"]], "KiB")
