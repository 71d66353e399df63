"""Prefect's own SDK, unmodified: the same programs against Prefect's server and against ebbgate, side by side.

Both servers run for the whole workload, but only one is asked at a time. Prefect's is on SQLite, as it is after
its installation; ebbgate's commits survive a power cut.
"""

import asyncio
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.background import HOST
from bench.crew import Result, Start, Task
from bench.handover import gaps_ms_of, taken
from bench.peers.environments import Environment, environment
from bench.peers.prefect import LIMITS, QUIET, _ask, server
from bench.report import Line, NotHereError, Options, Remark, Target, at_least, percentile
from bench.server.serving import served

RATE = 10.0
SPENDS = 50
PIECES, PIECE_S, SLOTS, PROCESSES = 100, 0.010, 5, 4
CONNECTIONS = 64
LONG_S = 5.0
SCRIPT = Path(__file__).with_name("server") / "prefect-pairs.lua"

NAMES = ("Prefect", "ebbgate")


class Address(NamedTuple):
    """Where a server is, and what its clients are told."""

    port: int

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a client."""
        return {**QUIET, "PREFECT_API_URL": f"http://{HOST}:{self.port}/api"}


def turns(task: Task, start: Start) -> Result:
    """Take turns with other processes."""
    from prefect.concurrency.sync import concurrency  # type: ignore[import-not-found]

    with concurrency("warm"):
        pass
    return taken(lambda: concurrency("one"), task, start)


def pieces(task: Task, start: Start) -> Result:
    """Do every piece of work in an asyncio task of its own, all at once."""
    return asyncio.run(_pieces(task, start))


async def _pieces(task: Task, start: Start) -> Result:
    from prefect.concurrency.asyncio import concurrency  # type: ignore[import-not-found]

    async with concurrency("warm"):
        pass
    spans = []

    async def piece() -> None:
        async with concurrency("five"):
            granted = time.monotonic()
            await asyncio.sleep(PIECE_S)
        spans.append((granted, time.monotonic()))

    start()
    await asyncio.gather(*(piece() for _ in range(task["pieces"])))
    return {"spans": spans}


def spends(task: Task, start: Start) -> Result:
    """Pass a rate limit again and again; the first time is not counted, for it may have been idle."""
    from prefect.concurrency.sync import rate_limit

    rate_limit("rate")
    start()
    rate_limit("rate")
    begun = time.monotonic()
    for _ in range(task["spends"]):
        rate_limit("rate")
    return {"seconds": time.monotonic() - begun}


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure both servers by the same programs."""
    # A newer FastAPI stops the server that this index offers from starting.
    where = environment("prefect", "prefect", "fastapi<0.151")
    yield Remark(where.versions("prefect", "fastapi", "uvicorn"))
    with ExitStack() as stack:
        theirs, _ = stack.enter_context(server(where, None))
        ours = stack.enter_context(served())
        both = (Address(theirs), Address(ours.port))
        for address in both:
            _make_limits(address, is_theirs=address.port == theirs)
        yield from _handover(options, where, both)
        yield from _work(options, where, both)
        yield from _rate(options, where, both)
        yield from _pairs(options, both)


def _make_limits(address: Address, *, is_theirs: bool) -> None:
    import http.client

    connection = http.client.HTTPConnection(HOST, address.port, timeout=30)
    wanted = [("warm", 100, 0.0), ("five", SLOTS, 0.0), ("rate", 1, RATE)]
    if not is_theirs:
        wanted += [("a", 10_000, 0.0), ("one", 1, 0.0)]
    for name, slots, decay in wanted:
        body = {"name": name, "limit": slots, "slot_decay_per_second": decay}
        status, _ = _ask(connection, f"{LIMITS}/", body)
        assert status == 201, f"the limit {name} could not be made: {status}"
    connection.close()


def _compared(
    what: str, unit: str, values: Sequence[Sequence[float]], target: Target | None, *, is_rate: bool = False
) -> Iterator[Line]:
    """Yield a line for each server, and by how much ours is quicker, repeat by repeat."""
    for name, found in zip(NAMES, values, strict=True):
        yield Line(f"{name}: {what}", found, unit)
    theirs, ours = values
    ratios = [
        (our / max(their, 1.0) if is_rate else their / our) for their, our in zip(theirs, ours, strict=True)
    ]
    yield Line(f"ebbgate: {what}, times quicker", ratios, "x", target)


def _handover(options: Options, where: Environment, both: Sequence[Address]) -> Iterator[Line]:
    # Whoever polls does so the less often, the longer slots are held.
    for work_s, seconds, target in (
        (0.3, options.scaled(10, 4), None),
        (LONG_S, options.scaled(8 * LONG_S, 2.5 * LONG_S), at_least(20)),
    ):
        tasks = [{"seconds": seconds, "work_s": work_s}] * (PROCESSES + 1)
        p50: list[list[float]] = [[], []]
        for _ in range(options.repeats):
            for found, address in zip(p50, both, strict=True):
                found.append(percentile(gaps_ms_of(where.crew(turns, tasks, address.variables)), 0.5))
        what = f"hand-over, {PROCESSES} waiting processes, held {work_s:g} s, p50"
        yield from _compared(what, "ms", p50, target)


def _work(options: Options, where: Environment, both: Sequence[Address]) -> Iterator[Line]:
    tasks = [{"pieces": PIECES // PROCESSES}] * PROCESSES
    seconds: list[list[float]] = [[], []]
    for _ in range(options.repeats):
        for found, address in zip(seconds, both, strict=True):
            results = where.crew(pieces, tasks, address.variables)
            spans = [span for result in results for span in result["spans"]]
            assert len(spans) == PIECES, "every piece was done"
            found.append(max(end for _, end in spans) - min(begin for begin, _ in spans))
    what = f"{PIECES} x {PIECE_S * 1000:.0f} ms through {SLOTS} slots, {PROCESSES} processes, asyncio"
    yield from _compared(what, "s", seconds, at_least(5))


def _rate(options: Options, where: Environment, both: Sequence[Address]) -> Iterator[Line]:
    count = round(options.scaled(SPENDS, 20))
    for name, address, target in zip(NAMES, both, (None, Target(0.97, 1.03)), strict=True):
        ratios = []
        for _ in range(options.repeats):
            (result,) = where.crew(spends, [{"spends": count}], address.variables)
            ratios.append(result["seconds"] / (count / RATE))
        yield Line(f"{name}: rate_limit at {RATE:g}/s, 1 process, time / ideal", ratios, "x", target)


def _pairs(options: Options, both: Sequence[Address]) -> Iterator[Line]:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NotHereError("wrk is not installed (on Debian: apt-get install wrk)")
    seconds = round(options.scaled(5, 2))
    rates: list[list[float]] = [[], []]
    refused: list[float] = []
    for _ in range(options.repeats):
        for number, address in enumerate(both):
            command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "60s", "-s", str(SCRIPT)]
            command.append(f"http://{HOST}:{address.port}")
            ran = subprocess.run(command, text=True, capture_output=True, check=True, timeout=seconds + 120)
            line = next(line for line in ran.stdout.splitlines() if line.startswith("result "))
            result = json.loads(line.removeprefix("result "))
            rates[number].append(result["pairs"] / result["seconds"])
            if number == 0:
                refused.append(result["refused"] / max(2 * result["pairs"] + result["refused"], 1))
            else:
                assert result["refused"] == result["broken"] == 0, result
    yield from _compared(f"HTTP pairs, {CONNECTIONS} connections", "/s", rates, at_least(20), is_rate=True)
    yield Line("Prefect: of these refused (503 and others)", [100 * statistics.median(refused)], "%")
