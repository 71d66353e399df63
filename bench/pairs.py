"""Acquire and release without contention: how many pairs a second, counted over a fixed time."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from bench.crew import Result, Start, Task, crew, store
from bench.report import Line, Options, Target, Waited, at_least

WARM_UP = 300
BURST = 20
"""So many pairs between two looks at the clock."""


def outcome(count: int, begun: float, before: Waited, used_s: float) -> Result:
    """Return what so many pairs since then say.

    Args:
        count: how many.
        begun: when, by the monotonic clock.
        before: the state of this thread then.
        used_s: what this process had used of a processor then; what a pair takes of it is the number that a
            busy machine changes least.
    """
    spent_s, used_s = time.monotonic() - begun, time.process_time() - used_s
    return {
        "count": count,
        "rate": count / spent_s,
        "waited": before.share_since(),
        "used_us": 1e6 * used_s / max(count, 1),
    }


def counted(pair: Callable[[], object], task: Task, start: Start) -> Result:
    """Do pairs in one thread, and count."""
    for _ in range(task.get("warm_up", WARM_UP)):
        pair()
    begun = start()
    until, before, used_s, count = begun + task["seconds"], Waited.now(), time.process_time(), 0
    while time.monotonic() < until:
        for _ in range(task.get("burst", BURST)):
            pair()
            count += 1
    return outcome(count, begun, before, used_s)


async def counted_in_tasks(pair: Callable[[], Awaitable[object]], task: Task, start: Start) -> Result:
    """Do pairs in so many asyncio tasks as the task says, all at once, and count."""
    tasks, burst = task.get("tasks", 1), task.get("burst", BURST)
    warm_up = range(-(-task.get("warm_up", WARM_UP) // tasks))
    count, until = 0, 0.0

    async def warm() -> None:
        for _ in warm_up:
            await pair()

    async def worker() -> None:
        nonlocal count
        while time.monotonic() < until:
            for _ in range(burst):
                await pair()
                count += 1

    await asyncio.gather(*(warm() for _ in range(tasks)))
    count, begun = 0, start()
    until, before, used_s = begun + task["seconds"], Waited.now(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(tasks)))
    return outcome(count, begun, before, used_s)


def run_loop(main: Coroutine[Any, Any, Result], task: Task) -> Result:
    """Run a coroutine on the event loop that the task names: Python's own, or uvloop's."""
    if not task.get("uvloop"):
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def pairs_sync(task: Task, start: Start) -> Result:
    """Acquire and release one limit in one thread."""
    from ebbgate.sync import concurrency

    name = task["limit"]

    def pair() -> None:
        with concurrency(name):
            pass

    return counted(pair, task, start)


def pairs_async(task: Task, start: Start) -> Result:
    """Acquire and release one limit in asyncio tasks, one if the task does not say how many."""
    from ebbgate.asyncio import concurrency

    name = task["limit"]

    async def pair() -> None:
        async with concurrency(name):
            pass

    return run_loop(counted_in_tasks(pair, task, start), task)


def waiting(results: Sequence[Result]) -> str:
    """Say which part of the time the workers waited for a core: what other programs took from the number."""
    return f"waited for a core {statistics.median(r['waited'] for r in results):.0%} of the time"


def run(options: Options) -> Iterator[Line]:
    """Measure one process, one task, and four processes together."""
    seconds = options.scaled(2.0, 0.3)
    for what, function, target in (
        ("one process, sync", pairs_sync, at_least(10_000)),
        ("one process, asyncio, one task", pairs_async, at_least(7_000)),
    ):
        results: list[Result] = []
        for _ in range(options.repeats):
            with store(a=5) as url:
                results += crew(function, [{"limit": "a", "seconds": seconds}], url)
        yield Line(f"{what}, pairs", [r["rate"] for r in results], "/s", target, note=waiting(results))
    yield from _four("four limits", ("a", "b", "c", "d"), options, at_least(10_000), at_least(0.5))
    yield from _four("one limit with room for all", ("a", "a", "a", "a"), options, None, None)


def _four(
    what: str, limits: tuple[str, ...], options: Options, total: Target | None, fairness: Target | None
) -> Iterator[Line]:
    seconds = options.scaled(3.0, 0.5)
    totals: list[float] = []
    shares: list[float] = []
    everybody: list[Result] = []
    for _ in range(options.repeats):
        with store(a=5, b=5, c=5, d=5) as url:
            results = crew(pairs_sync, [{"limit": limit, "seconds": seconds} for limit in limits], url)
        rates = [result["rate"] for result in results]
        totals.append(sum(rates))
        shares.append(min(rates) / max(rates))
        everybody += results
    yield Line(f"four processes on {what}, pairs together", totals, "/s", total, note=waiting(everybody))
    yield Line(f"four processes on {what}, slowest / fastest", shares, "", fairness)
