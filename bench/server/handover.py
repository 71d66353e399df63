"""From a holder's release to the next waiter in another process, through a server; see `bench.handover`."""

from collections.abc import Iterator

from bench.crew import crew
from bench.handover import gaps_ms_of, late_overtakings, lines_of, turns, turns_in_tasks
from bench.report import Line, Options, at_most
from bench.server.serving import Durability, served

P50_MS: dict[Durability, float] = {"full": 0.8, "normal": 0.4}
P99_MS = 4
PROCESSES = 4
"""In which a thousand waiters live, as asyncio tasks."""


def run(options: Options) -> Iterator[Line]:
    """Measure with 2 and with 32 waiting processes, and with 1,000 tasks of four."""
    for durability, p50_ms in P50_MS.items():
        for waiters, seconds in (
            (2, options.scaled(3, 0.5)),
            (32, options.scaled(5, 1.5)),
            (1_000, options.scaled(10, 5)),
        ):
            gaps: list[list[float]] = []
            overtaken: list[float] = []
            for _ in range(options.repeats):
                with served(durability, a=1, warm=100) as server:
                    if waiters > 100:
                        tasks = [{"seconds": seconds, "tasks": waiters // PROCESSES}] * PROCESSES
                        results = crew(turns_in_tasks, tasks, server.url)
                    else:
                        results = crew(turns, [{"seconds": seconds}] * (waiters + 1), server.url)
                gaps.append(gaps_ms_of(results))
                overtaken.append(late_overtakings(results))
            what = f"{durability.upper()}, hand-over, {waiters:,} waiters"
            yield from lines_of(what, gaps, at_most(p50_ms), at_most(P99_MS))
            none = at_most(0)
            yield Line(f"{what}, overtaken by one who asked > 5 ms later", overtaken, "grants", none, "worst")
