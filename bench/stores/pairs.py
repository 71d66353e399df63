"""Acquire and release, no contention, through one server and through three that share a namespace."""

from collections.abc import Iterator, Sequence
from statistics import median

from bench.background import processor_seconds
from bench.crew import Result, Start, Task, crew
from bench.pairs import pairs_async, waiting
from bench.report import Line, Options, Remark, at_least
from bench.server.serving import Server
from bench.server.stream import SLOTS, TASKS
from bench.stores.sharing import at_its_server, conditions, databases, fleet

TOGETHER = 3
ALONE = {"PostgreSQL, synchronous_commit=on": 12_000, "Valkey, AOF everysec": 15_000}


def pairs(task: Task, start: Start) -> Result:
    """Count pairs of many asyncio tasks."""
    return at_its_server(pairs_async, task, start)


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure one server, then three."""
    yield from conditions(options)
    seconds = options.scaled(5, 0.5)
    with databases() as found:
        for database in found:
            alone: list[Result] = []
            together: list[list[Result]] = []
            for _ in range(options.repeats):
                for number in (1, TOGETHER):
                    with fleet(database.namespace(), number, a=SLOTS) as servers:
                        results = _measured(servers, seconds)
                    if number == 1:
                        alone += results
                    else:
                        together.append(results)
            one = [result["rate"] for result in alone]
            yield Line(
                f"{database.name}: one server, 64 tasks, pairs", one, "/s", at_least(ALONE[database.name]),
                note=_note(alone),
            )  # fmt: skip
            rates = [[result["rate"] for result in results] for results in together]
            sums = [sum(row) for row in rates]
            what = f"{database.name}: {TOGETHER} servers on one namespace"
            flat = [result for results in together for result in results]
            yield Line(f"{what}, pairs in all", sums, "/s", note=_note(flat))
            parts = [three / single for three, single in zip(sums, one, strict=True)]
            yield Line(f"{what}, in all / one server", parts, "x", at_least(0.6))
            yield Line(
                f"{what}, slowest / fastest", [min(row) / max(row) for row in rates], "", at_least(0.5)
            )


def _measured(servers: Sequence[Server], seconds: float) -> list[Result]:
    before = [processor_seconds(server.pid) for server in servers]
    tasks: list[Task] = [{**TASKS, "url": server.url, "seconds": seconds} for server in servers]
    results = crew(pairs, tasks)
    for task, result, server, before_s in zip(tasks, results, servers, before, strict=True):
        number = result["count"] + task["warm_up"]
        result["server_us"] = 1e6 * (processor_seconds(server.pid) - before_s) / number
    return results


def _note(results: Sequence[Result]) -> str:
    client, server = (median(r[what] for r in results) for what in ("used_us", "server_us"))
    return f"processor for a pair: client {client:.0f} us, server {server:.0f} us; {waiting(results)}"
