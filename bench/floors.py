"""What the machine could do at best, measured in the same run: a busy machine shows here first."""

import asyncio
import fcntl
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.crew import Result, Start, Task, crew
from bench.report import Line, Options, Waited, percentile, sync_ms


def _rate(turn: Callable[[], object], seconds: float) -> float:
    """Return how often `turn` runs in a second."""
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        for _ in range(50):
            turn()
        count += 50
    return count / spent


def alone(task: Task, start: Start) -> Result:
    """Measure what one process can do by itself."""
    import apsw

    seconds = task["seconds"]
    with tempfile.TemporaryDirectory(prefix="ebbgate-bench-") as folder:
        descriptor = os.open(Path(folder) / "lock", os.O_RDWR | os.O_CREAT)
        connection = apsw.Connection(str(Path(folder) / "floor.db"))
        execute = connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        connection.wal_autocheckpoint(0)
        execute("CREATE TABLE log (version INTEGER PRIMARY KEY, rows TEXT)")
        semaphore = multiprocessing.get_context("spawn").Semaphore(1)

        def commit() -> None:
            execute("BEGIN IMMEDIATE")
            execute("INSERT INTO log (rows) VALUES (?)", ("x" * 300,))
            execute("COMMIT")

        def flock() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            fcntl.flock(descriptor, fcntl.LOCK_UN)

        def process_semaphore() -> None:
            semaphore.acquire()
            semaphore.release()

        def python() -> int:
            return sum(range(1_000))

        start()
        before = Waited.now()
        found = {
            "python": _rate(python, seconds),
            "flock": _rate(flock, seconds),
            "semaphore": _rate(process_semaphore, seconds),
            "commit": _rate(commit, seconds),
            "asyncio": asyncio.run(_asyncio_pairs(seconds)),
        }
        found["waited"] = before.share_since()
        connection.close()
        os.close(descriptor)
    return found


async def _asyncio_pairs(seconds: float) -> float:
    semaphore = asyncio.Semaphore(1)
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        for _ in range(50):
            async with semaphore:
                pass
        count += 50
    return count / spent


def ping(task: Task, start: Start) -> Result:
    """Return what half a round trip by datagrams between two processes costs."""
    mine, other = (task["here"], task["there"]) if task["first"] else (task["there"], task["here"])
    spent_us: list[float] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box:
        box.bind(mine)
        box.settimeout(5)
        start()
        for _ in range(task["times"]):
            begun = time.perf_counter_ns()
            if task["first"]:
                box.sendto(b"1", other)
                box.recv(8)
                spent_us.append((time.perf_counter_ns() - begun) / 2000)
            else:
                box.recv(8)
                box.sendto(b"1", other)
    return {"us": spent_us}


def run(options: Options) -> Iterator[Line]:
    """Measure the floors."""
    task = {"seconds": options.scaled(0.4, 0.1)}
    found = [crew(alone, [task])[0] for _ in range(options.repeats)]

    def line(name: str, what: str, unit: str = "/s") -> Line:
        return Line(name, [one[what] for one in found], unit)

    yield line("sum(range(1000)) in Python: falls when the machine is busy", "python")
    yield Line("waited for a core meanwhile", [100 * one["waited"] for one in found], "% of time")
    yield line("asyncio.Semaphore, pairs", "asyncio")
    yield line("multiprocessing.Semaphore, pairs", "semaphore")
    yield line("flock, pairs", "flock")
    yield line("SQLite, commits of one bare row (a pair needs two)", "commit")
    for kib in (4, 64):
        yield Line(
            f"disk, {kib} KiB kept for good (fdatasync)", [sync_ms(kib) for _ in range(options.repeats)], "ms"
        )
    p50: list[float] = []
    p99: list[float] = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix="ebbgate-bench-") as folder:
            ends = {"here": f"{folder}/a", "there": f"{folder}/b", "times": round(options.scaled(3_000, 500))}
            spent_us = crew(ping, [{**ends, "first": True}, {**ends, "first": False}])[0]["us"]
        p50.append(percentile(spent_us, 0.5) / 1000)
        p99.append(percentile(spent_us, 0.99) / 1000)
    yield Line("a datagram that wakes another process, p50", p50, "ms")
    yield Line("a datagram that wakes another process, p99", p99, "ms")
