"""`rate_limit`: how close a full queue runs to the configured rate, and what any window sees.

The total time runs from the return of the first call to the return of the last. The windows are counted on
the instants that the grants themselves carry (`at`), read out of the store afterwards.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence

from bench.crew import Place, Result, Start, Task, crew, store
from bench.report import Line, Options, around_one, at_most


def spend_sync(task: Task, start: Start) -> Result:
    """Spend one slot after the other, in one thread."""
    from ebbgate.sync import concurrency, rate_limit

    with concurrency("warm"):
        pass
    returned: list[float] = []
    start()
    for _ in range(task["calls"]):
        rate_limit("r")
        returned.append(time.monotonic())
    return {"returned": returned}


def spend_async(task: Task, start: Start) -> Result:
    """Spend one slot in each of many tasks, all asking at once."""
    return asyncio.run(_spend_async(task, start))


async def _spend_async(task: Task, start: Start) -> Result:
    from ebbgate.asyncio import concurrency, rate_limit

    async with concurrency("warm"):
        pass
    returned: list[float] = []

    async def call() -> None:
        await rate_limit("r")
        returned.append(time.monotonic())

    start()
    await asyncio.gather(*(call() for _ in range(task["calls"])))
    return {"returned": returned}


def granted_at(url: str) -> list[float]:
    """Return the instants that the grants carry, in order, in seconds."""
    from ebbgate.client.client import Client

    with Client(url) as client:
        leases = client.list_leases("r", state="ended")
    return sorted(lease.granted.timestamp() for lease in leases if lease.granted is not None)


def window_excess(instants: Sequence[float], limit: int, rate: float) -> float:
    """Return by how much the worst of all windows exceeds `limit + rate * window`, in grants."""
    worst = -float(limit)
    most = -float("inf")  # over all windows that begin earlier: rate * begin - index
    for index, instant in enumerate(instants):
        most = max(most, rate * instant - index)
        worst = max(worst, most + index + 1 - rate * instant - limit)
    return worst


def run(options: Options) -> Iterator[Line]:
    """Measure on a file."""
    yield from measured(options, store)


def measured(options: Options, place: Place) -> Iterator[Line]:
    """Measure two rates, two limits, one and four processes; asyncio for one of them."""
    cases = [
        (rate, limit, processes, False) for rate in (10, 200) for limit in (1, 10) for processes in (1, 4)
    ]
    cases.append((200, 10, 4, True))
    for rate, limit, processes, tasks in cases:
        calls = round(rate * options.scaled(4 if rate == 10 else 2, 1)) + limit
        calls += -calls % processes
        ratios: list[float] = []
        excess: list[float] = []
        for _ in range(options.repeats):
            with place(r=(limit, float(rate)), warm=10) as url:
                task = {"calls": calls // processes}
                results = crew(spend_async if tasks else spend_sync, [task] * processes, url)
                instants = granted_at(url)
            returned = [instant for result in results for instant in result["returned"]]
            assert len(returned) == len(instants) == calls, "every call was granted once"
            ratios.append((max(returned) - min(returned)) / ((calls - limit) / rate))
            excess.append(window_excess(instants, limit, rate))
        who = f"{processes} process{'es' if processes > 1 else ''}{', asyncio' if tasks else ''}"
        what = f"{rate}/s, limit {limit}, {who}"
        exact = around_one(0.03 if (rate, limit) == (200, 1) else 0.01)
        yield Line(f"{what}: time / ideal, {calls} calls", ratios, "x", exact)
        yield Line(
            f"{what}: worst window above limit + rate * window",
            excess,
            "grants",
            at_most(0.1),
            judged="worst",
        )
