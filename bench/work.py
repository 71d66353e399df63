"""100 pieces of work of 10 ms each through 5 slots: the ideal is 20 rounds, 0.2 s."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.crew import Place, Result, Start, Task, crew, store
from bench.report import Line, Options, at_most

PIECES = 100
SLOTS = 5
PIECE_S = 0.010
IDEAL_S = PIECES / SLOTS * PIECE_S


def in_threads(task: Task, start: Start) -> Result:
    """Do pieces in threads; each takes the next piece when it has finished one."""
    from ebbgate.sync import concurrency

    with concurrency("warm"):
        pass
    left = list(range(task["pieces"]))
    spans: list[tuple[float, float]] = []
    ready = threading.Event()

    def work() -> None:
        ready.wait()
        while left:
            try:
                left.pop()
            except IndexError:
                return
            with concurrency("a"):
                granted = time.monotonic()
                time.sleep(PIECE_S)
            spans.append((granted, time.monotonic()))

    threads = [threading.Thread(target=work) for _ in range(task["workers"])]
    for thread in threads:
        thread.start()
    start()
    ready.set()
    for thread in threads:
        thread.join()
    return {"spans": spans}


def in_tasks(task: Task, start: Start) -> Result:
    """Do every piece in an asyncio task of its own, all at once."""
    return asyncio.run(_in_tasks(task, start))


async def _in_tasks(task: Task, start: Start) -> Result:
    from ebbgate.asyncio import concurrency

    async with concurrency("warm"):
        pass
    spans: list[tuple[float, float]] = []

    async def piece() -> None:
        async with concurrency("a"):
            granted = time.monotonic()
            await asyncio.sleep(PIECE_S)
        spans.append((granted, time.monotonic()))

    start()
    await asyncio.gather(*(piece() for _ in range(task["pieces"])))
    return {"spans": spans}


class Case(NamedTuple):
    """Who does the pieces."""

    what: str
    function: Callable[[Task, Start], Result]
    processes: int
    workers: int = 0  # threads, where there are any


ONE_PROCESS = (
    Case("1 process, 10 threads", in_threads, 1, 10),
    Case("1 process, 100 asyncio tasks", in_tasks, 1),
)
FOUR_PROCESSES = (
    Case("4 processes, 5 threads each", in_threads, 4, 5),
    Case("4 processes, 25 asyncio tasks each", in_tasks, 4),
)


def run(options: Options) -> Iterator[Line]:
    """Measure one process and four, threads and tasks."""
    yield from measured(options, store, (*ONE_PROCESS, *FOUR_PROCESSES))


def measured(options: Options, place: Place, cases: Sequence[Case]) -> Iterator[Line]:
    """Measure some cases at a place."""
    repeats = options.repeats if options.quick else 2 * options.repeats + 1
    for what, function, processes, workers in cases:
        ratios: list[float] = []
        for _ in range(repeats):
            with place(a=SLOTS, warm=10) as url:
                task = {"pieces": PIECES // processes, "workers": workers}
                spans = [s for result in crew(function, [task] * processes, url) for s in result["spans"]]
            assert len(spans) == PIECES, "every piece was done"
            assert _most_at_once(spans) <= SLOTS, "never more at once than there are slots"
            ratios.append((max(end for _, end in spans) - min(begin for begin, _ in spans)) / IDEAL_S)
        yield Line(f"{what}: first grant to last release / ideal", ratios, "x", at_most(1.10))


def _most_at_once(spans: list[tuple[float, float]]) -> int:
    """Return how many worked at the same time, their work alone counted."""
    changes = sorted([(begin, 1) for begin, _ in spans] + [(begin + PIECE_S, -1) for begin, _ in spans])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
