"""Taking in what another process committed, as the gate does before a decision."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from bench.crew import Result, Start, Task, crew, store
from bench.report import Line, Options, at_most
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Command, Hello, Release
from ebbgate.core.model import SECOND, Stored

SESSION = "00000000-0000-4000-a000-000000000001"


def _ignored(_stored: Sequence[Stored] | None) -> None:
    """What was taken in concerns nobody here."""


def take_in(task: Task, start: Start) -> Result:
    """Commit on one connection, take in on another: two engines, each with a book of its own.

    Both are in this process, so that nothing but the work is measured: no lock, no other process on the core.
    """
    from ebbgate.engine.drive import drive
    from ebbgate.engine.engine import Engine
    from ebbgate.stores import open_store

    stores = [open_store(os.environ["EBBGATE_URL"]) for _ in range(2)]
    engines = [Engine(Book(), new_tag=lambda: os.urandom(8).hex(), took_in=_ignored) for _ in range(2)]
    (writer, reader), (source, target) = engines, stores
    for engine, its_store in zip(engines, stores, strict=True):
        drive(engine.refresh(), its_store)
    drive(writer.carry_out([Hello(SESSION, 1, "here", 1, remembers="nothing")]), source)
    commits, burst = task["commits"], task["burst"]
    start()
    spent_ns = 0
    ask: Command | None = None
    for _ in range(commits // burst):
        for _ in range(burst):
            if isinstance(ask, Acquire):
                command: Command = Release(ask.id, SESSION, 1)
            else:
                command = Acquire(str(uuid4()), SESSION, 1, (("a", 1),), 300 * SECOND)
            drive(writer.carry_out([command]), source)
            ask = command
        begun = time.perf_counter_ns()
        assert reader.version is not None, "loaded above"
        if target.moved(reader.version):
            drive(reader.refresh(), target)
        spent_ns += time.perf_counter_ns() - begun
        assert reader.version == writer.version, "everything was taken in"
    for its_store in stores:
        its_store.close()
    size = Path(os.environ["EBBGATE_URL"].removeprefix("sqlite:///")).stat().st_size
    return {"us": spent_ns / 1000 / (commits // burst * burst), "size": size}


def run(options: Options) -> Iterator[Line]:
    """Measure changes that come one by one, and sixteen at a time."""
    for burst, what in ((1, "one at a time"), (16, "16 at a time, each")):
        task = {"commits": round(options.scaled(8_000, 1_600)), "burst": burst}
        spent_us: list[float] = []
        for _ in range(options.repeats):
            with store(a=5) as url:
                spent_us.append(crew(take_in, [task], url)[0]["us"])
        yield Line(f"taking in another process's change, {what}", spent_us, "us", at_most(10))
