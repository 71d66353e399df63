"""From a holder's release call to the acquire of the next waiter, in another process, returning.

Every process asks, works 3 ms, releases and asks again at once, so that all but one wait all the time. What
lies between two neighbouring grants counts only if the second had asked before the first was released.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import NamedTuple

from bench.crew import Result, Start, Task, crew, store
from bench.report import Line, Options, Target, at_most, percentile

WORK_S = 0.003
SETTLED_S = 0.5
BEFORE_S = 0.005
"""Who asked so much earlier than another was first, whatever happened between clock and call."""


class Turn(NamedTuple):
    """One acquisition: instants of the machine's monotonic clock, in seconds."""

    token: int
    process: int
    asked: float
    got: float
    released: float


def taken(turn: Callable[[], AbstractContextManager[object]], task: Task, start: Start) -> Result:
    """Take turns with the other processes for a fixed time; `turn` holds the slot."""
    work_s = task.get("work_s", WORK_S)
    found: list[tuple[int, float, float, float]] = []
    until = start() + task["seconds"]
    while (asked := time.monotonic()) < until:
        with turn() as held:
            got = time.monotonic()
            time.sleep(work_s)
            released = time.monotonic()
        # Who gives no numbers is put in order by the clock.
        found.append((getattr(held, "fencing_token", None) or int(got * 1e9), asked, got, released))
    return {"turns": found}


def turns(task: Task, start: Start) -> Result:
    """Take turns with the other processes for a fixed time."""
    from ebbgate.sync import concurrency

    with concurrency("warm"):
        pass
    return taken(lambda: concurrency("a"), task, start)


def turns_in_tasks(task: Task, start: Start) -> Result:
    """Take turns in so many asyncio tasks, with those of the other processes, for a fixed time."""
    return asyncio.run(_turns_in_tasks(task, start))


async def _turns_in_tasks(task: Task, start: Start) -> Result:
    from ebbgate.asyncio import concurrency

    found: list[tuple[int, float, float, float]] = []
    until = 0.0

    async def take(number: int) -> None:
        await asyncio.sleep(SETTLED_S * number / task["tasks"])  # so that those of the processes mix
        while (asked := time.monotonic()) < until:
            async with concurrency("a") as lease:
                got = time.monotonic()
                await asyncio.sleep(WORK_S)
                released = time.monotonic()
            found.append((lease.fencing_token or 0, asked, got, released))

    async with concurrency("warm"):
        pass
    until = start() + task["seconds"]
    await asyncio.gather(*(take(number) for number in range(task["tasks"])))
    return {"turns": found}


def turns_in_threads(task: Task, start: Start) -> Result:
    """Take turns with the other threads of this process for a fixed time."""
    with ThreadPoolExecutor(task["threads"]) as pool:
        begun = start()
        parts = [pool.submit(turns, task, lambda: begun) for _ in range(task["threads"])]
    return {"parts": [part.result() for part in parts]}


def _turns_of(results: Sequence[Result]) -> list[Turn]:
    """Return all turns in the order of their grants."""
    return sorted(
        Turn(token, process, asked, got, released)
        for process, result in enumerate(results)
        for token, asked, got, released in result["turns"]
    )


def gaps_ms_of(results: Sequence[Result]) -> list[float]:
    """Return what lay between a release and the next grant, in another process, in milliseconds."""
    found = _turns_of(results)
    assert all(one.released <= other.got for one, other in pairwise(found)), "one at a time"
    return [
        1000 * (other.got - one.released)
        for one, other in pairwise(found)
        if one.process != other.process and other.asked < one.released
    ]


def lines_of(
    what: str, gaps_ms: Sequence[Sequence[float]], p50: Target | None = None, p99: Target | None = None
) -> Iterator[Line]:
    """Yield the lines of some hand-overs, one row of gaps a repeat."""
    note = f"{sum(len(row) for row in gaps_ms):,} hand-overs"
    yield Line(f"{what}, p50", [percentile(row, 0.5) for row in gaps_ms], "ms", p50, note=note)
    yield Line(f"{what}, p99", [percentile(row, 0.99) for row in gaps_ms], "ms", p99)


def overtakings(found: Sequence[Turn]) -> int:
    """Count the grants before which somebody had got in who had asked clearly later."""
    count, latest = 0, 0.0
    for turn in found:
        count += latest > turn.asked + BEFORE_S
        latest = max(latest, turn.asked)
    return count


def late_overtakings(results: Sequence[Result]) -> int:
    """Count the overtakings after the start: then all ask at once, and who came first the store alone knows."""
    found = _turns_of(results)
    settled = min(turn.asked for turn in found) + 2 * SETTLED_S
    return overtakings([turn for turn in found if turn.asked > settled])


def out_of_order(url: str) -> int:
    """Count the neighbouring grants that the store's own numbers show out of the order of arrival."""
    from ebbgate.client.client import Client

    with Client(url) as client:
        leases = [lease for lease in client.list_leases("a", state="ended") if lease.fencing_token]
    leases.sort(key=lambda lease: lease.fencing_token or 0)
    return sum(1 for one, other in pairwise(leases) if one.arrival > other.arrival)


def run(options: Options) -> Iterator[Line]:
    """Measure with 2 and with 32 waiting processes."""
    for waiters, seconds in ((2, options.scaled(4, 0.5)), (32, options.scaled(6, 1.5))):
        gaps: list[list[float]] = []
        overtaken: list[float] = []
        disorder: list[float] = []
        for _ in range(options.repeats):
            with store(a=1, warm=100) as url:
                results = crew(turns, [{"seconds": seconds}] * (waiters + 1), url)
                disorder.append(out_of_order(url))
            gaps.append(gaps_ms_of(results))
            overtaken.append(late_overtakings(results))
        who = f"{waiters} waiting processes"
        yield from lines_of(f"hand-over, {who}", gaps, at_most(0.5), at_most(5))
        yield Line(f"hand-over, {who}, longest", [max(row) for row in gaps], "ms")
        none = at_most(0)
        yield Line(
            f"overtaken by one who asked > 5 ms later, {waiters} waiting", overtaken, "grants", none, "worst"
        )
        yield Line(
            f"neighbours not in order of arrival, {waiters} waiting", disorder, "grants", none, "worst"
        )
    gaps = []
    for _ in range(options.repeats):
        with store(a=1, warm=100) as url:
            task = {"seconds": options.scaled(2, 0.5), "threads": 10}
            found = _turns_of(crew(turns_in_threads, [task], url)[0]["parts"])
        gaps.append([1000 * (b.got - a.released) for a, b in pairwise(found) if b.asked < a.released])
    yield from lines_of("hand-over among 10 threads of one process", gaps)
