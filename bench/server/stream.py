"""Acquire and release through a server, over its stream; Redis with a Lua semaphore in the same run.

ebbgate and Redis take turns, so that a slow spell of the machine meets both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from statistics import median

from bench.background import processor_seconds
from bench.crew import Result, Start, Task, crew
from bench.pairs import WARM_UP, pairs_async, pairs_sync, waiting
from bench.peers import redis
from bench.report import Line, NotHereError, Options, Remark, Target, at_least, sync_ms
from bench.server import raw
from bench.server.serving import Durability, Server, served

SLOTS = 10_000
TASKS = {"limit": "a", "slots": SLOTS, "tasks": 64, "burst": 5, "warm_up": 6_400}
ONE = {"limit": "a", "slots": SLOTS}
SYNC: dict[int, dict[Durability, Target]] = {
    1: {"full": at_least(1_500), "normal": at_least(3_000)},
    4: {"full": at_least(4_000), "normal": at_least(9_000)},
}


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure one process with 64 tasks, one thread, four processes; at FULL and at NORMAL."""
    seconds = options.scaled(3, 0.4)
    with ExitStack() as stack:
        full = stack.enter_context(served(a=SLOTS))
        normal = stack.enter_context(served("normal", a=SLOTS))
        try:
            port, version = stack.enter_context(redis.server())
            yield Remark(f"{version}, in memory only; {redis.packages().versions('redis', 'hiredis')}")
        except NotHereError as reason:
            port = 0
            yield Remark(f"Redis: not measured here: {reason}")
        syncs = [sync_ms(64) for _ in range(options.repeats)]
        yield Line("disk, 64 KiB kept for good (fdatasync): FULL waits for that", syncs, "ms")
        for loop in ("asyncio's loop", "uvloop"):
            yield from _many_tasks(options, full, normal, port, seconds, loop)
        servers: dict[Durability, Server] = {"full": full, "normal": normal}
        for processes, targets in SYNC.items():
            yield from _sync(options, processes, targets, servers, port, seconds)


def _many_tasks(
    options: Options, full: Server, normal: Server, port: int, seconds: float, loop: str
) -> Iterator[Line]:
    task = {**TASKS, "seconds": seconds, "uvloop": loop == "uvloop"}
    rows: dict[str, list[Result]] = {"full": [], "normal": [], "raw": [], "redis": []}
    for _ in range(options.repeats):
        rows["full"].append(_through(full, pairs_async, [task]))
        rows["normal"].append(_through(normal, pairs_async, [task]))
        rows["raw"].append(_through(full, raw.pairs, [{**task, "port": full.port, "warm_up": 0}]))
        if port:
            rows["redis"] += redis.packages().crew(redis.pairs_async, [{**task, "port": port}])
    what = f"64 tasks on {loop}"
    yield _line(f"{what}, FULL, pairs", rows["full"], at_least(25_000), "aim 45,000")
    yield _line(f"{what}, NORMAL, pairs", rows["normal"])
    yield _line(f"the server alone, 64 pairs in flight, client on {loop}, FULL", rows["raw"])
    if port:
        yield _line(f"{what}, Redis with Lua, redis.asyncio, pairs", rows["redis"])
        ratios = [a["rate"] / b["rate"] for a, b in zip(rows["full"], rows["redis"], strict=True)]
        yield Line(f"{what}, FULL, ebbgate / Redis", ratios, "x", at_least(1.5), note="aim 3")


def _sync(
    options: Options,
    processes: int,
    targets: dict[Durability, Target],
    servers: dict[Durability, Server],
    port: int,
    seconds: float,
) -> Iterator[Line]:
    what = "one sync thread" if processes == 1 else f"{processes} sync processes"
    tasks = [{**ONE, "seconds": seconds, "port": port}] * processes
    rows: dict[str, list[Result]] = {"full": [], "normal": [], "redis": []}
    for _ in range(options.repeats):
        for durability, server in servers.items():
            rows[durability].append(_through(server, pairs_sync, tasks))
        if port:
            rows["redis"].append(_together(redis.packages().crew(redis.pairs_sync, tasks)))
    for durability, target in targets.items():
        yield _line(f"{what}, {durability.upper()}, pairs", rows[durability], target)
    if port:
        yield _line(f"{what}, Redis with Lua, redis-py, pairs", rows["redis"])


def _through(server: Server, function: Callable[[Task, Start], Result], tasks: Sequence[Task]) -> Result:
    """Return what the processes of one crew did as if they were one, and what it took of the server."""
    before_s = processor_seconds(server.pid)
    together = _together(crew(function, tasks, server.url))
    used_s = processor_seconds(server.pid) - before_s
    number = together["count"] + sum(task.get("warm_up", WARM_UP) for task in tasks)
    return {**together, "server_us": 1e6 * used_s / number}


def _together(results: Sequence[Result]) -> Result:
    number = len(results)
    return {
        "count": sum(r["count"] for r in results),
        "rate": sum(r["rate"] for r in results),
        "waited": sum(r["waited"] for r in results) / number,
        "used_us": sum(r["used_us"] for r in results) / number,
    }


def _line(what: str, results: Sequence[Result], target: Target | None = None, note: str = "") -> Line:
    used = f"processor for a pair: client {median(r['used_us'] for r in results):.0f} us"
    if "server_us" in results[0]:
        used += f", server {median(r['server_us'] for r in results):.0f} us"
    said = "; ".join(part for part in (note, used, waiting(results)) if part)
    return Line(what, [result["rate"] for result in results], "/s", target, note=said)
