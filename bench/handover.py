"""From a holder's release call to the acquire of the next waiter, in another process, returning.

Every process asks, works 3 ms, releases and asks again at once, so that all but one wait all the time. What
lies between two neighbouring grants counts only if the second had asked before the first was released.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

from bench.crew import Result, Start, Task, crew, store
from bench.report import Line, Options, at_most, percentile

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


def turns(task: Task, start: Start) -> Result:
    """Take turns with the other processes for a fixed time."""
    from ebbgate.sync import concurrency

    with concurrency("warm"):
        pass
    found: list[tuple[int, float, float, float]] = []
    until = start() + task["seconds"]
    while (asked := time.monotonic()) < until:
        with concurrency("a") as lease:
            got = time.monotonic()
            time.sleep(WORK_S)
            released = time.monotonic()
        found.append((lease.fencing_token, asked, got, released))
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


def overtakings(found: Sequence[Turn]) -> int:
    """Count the grants before which somebody had got in who had asked clearly later."""
    count, latest = 0, 0.0
    for turn in found:
        count += latest > turn.asked + BEFORE_S
        latest = max(latest, turn.asked)
    return count


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
        p50: list[float] = []
        p99: list[float] = []
        most: list[float] = []
        overtaken: list[float] = []
        disorder: list[float] = []
        count = 0
        for _ in range(options.repeats):
            with store(a=1, warm=100) as url:
                found = _turns_of(crew(turns, [{"seconds": seconds}] * (waiters + 1), url))
                disorder.append(out_of_order(url))
            assert all(one.released <= other.got for one, other in pairwise(found)), "one at a time"
            gaps_ms = [
                1000 * (other.got - one.released)
                for one, other in pairwise(found)
                if one.process != other.process and other.asked < one.released
            ]
            p50.append(percentile(gaps_ms, 0.5))
            p99.append(percentile(gaps_ms, 0.99))
            most.append(max(gaps_ms))
            # At the start all ask at once; who came first then, the store alone knows.
            settled = min(turn.asked for turn in found) + SETTLED_S
            overtaken.append(overtakings([turn for turn in found if turn.asked > settled]))
            count += len(gaps_ms)
        note = f"{count:,} hand-overs"
        yield Line(f"hand-over, {waiters} waiting processes, p50", p50, "ms", at_most(0.5), note=note)
        yield Line(f"hand-over, {waiters} waiting processes, p99", p99, "ms", at_most(5))
        yield Line(f"hand-over, {waiters} waiting processes, longest", most, "ms")
        yield Line(
            f"overtaken by one who asked > 5 ms later, {waiters} waiting",
            overtaken,
            "grants",
            at_most(0),
            judged="worst",
        )
        yield Line(
            f"neighbours not in order of arrival, {waiters} waiting",
            disorder,
            "grants",
            at_most(0),
            judged="worst",
        )
    p50, p99 = [], []
    for _ in range(options.repeats):
        with store(a=1, warm=100) as url:
            task = {"seconds": options.scaled(2, 0.5), "threads": 10}
            found = _turns_of(crew(turns_in_threads, [task], url)[0]["parts"])
        gaps_ms = [1000 * (b.got - a.released) for a, b in pairwise(found) if b.asked < a.released]
        p50.append(percentile(gaps_ms, 0.5))
        p99.append(percentile(gaps_ms, 0.99))
    yield Line("hand-over among 10 threads of one process, p50", p50, "ms")
    yield Line("hand-over among 10 threads of one process, p99", p99, "ms")
