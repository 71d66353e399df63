"""Eight processes parse modules of the Python standard library, at most five at a time.

    python examples/parallel_data_processing.py

Nothing has to be started or set up: the limit lives in a file that all processes share. Every process notes
when it was inside; at the end the notes show how many ever were inside at once.
"""

import ast
import multiprocessing
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ebbgate import Client
from ebbgate.sync import concurrency

LIMIT = "example-parse"
AT_ONCE = 5
PROCESSES = 8


class Parsed(NamedTuple):
    """One module, and when its process was inside, by the clock that all processes of a machine share."""

    nodes: int
    pid: int
    entered_ns: int
    left_ns: int


def parse(path: Path) -> Parsed:
    """Parse a module while holding one of the five slots."""
    with concurrency(LIMIT):
        return parse_at_once(path)


def parse_at_once(path: Path) -> Parsed:
    """Parse a module, no matter who else does."""
    entered_ns = time.monotonic_ns()
    nodes = sum(1 for _ in ast.walk(ast.parse(path.read_bytes(), filename=str(path))))
    return Parsed(nodes, os.getpid(), entered_ns, time.monotonic_ns())


def main() -> int:
    modules = standard_library()
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(LIMIT, AT_ONCE)
            started = time.monotonic()
            parsed = in_processes(parse, modules)
            seconds = time.monotonic() - started
            held = client.read_limit(LIMIT).held_slots
        unlimited = in_processes(parse_at_once, modules[::2])

    highest = most_at_once(parsed)
    nodes = sum(module.nodes for module in parsed)
    print(f"{len(parsed)} of {len(modules)} modules, {nodes:,} nodes, in {seconds:.1f} s")
    processes = len({module.pid for module in parsed})
    print(f"{processes} processes, at most {highest} inside at once, limit {AT_ONCE}")
    print(f"{held} slots still held at the end")
    print(f"without the limit: {most_at_once(unlimited)} at once")
    proven = len(parsed) == len(modules) and 0 < highest <= AT_ONCE and held == 0
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


def standard_library() -> list[Path]:
    """Return every third module of the standard library; its own tests hold broken ones on purpose."""
    folder = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    modules = sorted(folder.rglob("*.py"))
    return [path for path in modules if left_out.isdisjoint(path.relative_to(folder).parts)][::3]


def in_processes(work: Callable[[Path], Parsed], modules: list[Path]) -> list[Parsed]:
    """Do `work` on every module in eight processes, each taking the next few when it is free."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        return list(pool.map(work, modules, chunksize=4))


def most_at_once(parsed: list[Parsed]) -> int:
    """Walk through all notes in order of time and count who is inside; who leaves goes before who enters."""
    events = [(module.entered_ns, +1) for module in parsed] + [(module.left_ns, -1) for module in parsed]
    inside = highest = 0
    for _, change in sorted(events):
        inside += change
        highest = max(highest, inside)
    return highest


if __name__ == "__main__":
    sys.exit(main())
