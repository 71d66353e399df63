"""What a new process pays: the import, as the interpreter itself counts it, and the first acquire."""

import subprocess
import sys
from collections.abc import Iterator

from bench.crew import ROOT, environment, store, with_byte_code
from bench.report import Line, Options, at_most

# Prints the milliseconds from the call to its return.
FIRST = """
import time
from ebbgate.sync import concurrency
begun = time.perf_counter()
with concurrency("a"):
    spent = time.perf_counter() - begun
print(1000 * spent)
"""


def _import_ms(module: str) -> float:
    """Return the cumulative time of an import in a new process."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    told = subprocess.run(command, cwd=ROOT, env=with_byte_code(), text=True, capture_output=True, check=True)
    for line in told.stderr.splitlines():
        _, cumulative, name = line.rsplit("|", 2)
        if name.strip() == module:
            return int(cumulative) / 1000
    raise RuntimeError(f"the interpreter did not tell of {module}")


def _first_ms(url: str) -> float:
    """Return how long the first acquire of a new process takes, the import not included."""
    told = subprocess.run(
        [sys.executable, "-c", FIRST],
        cwd=ROOT,
        env=environment(url),
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(told.stdout)


def run(options: Options) -> Iterator[Line]:
    """Measure fresh processes, after one that warms the disk cache."""
    times = 3 if options.quick else 9
    for module, target in (("ebbgate.sync", at_most(60)), ("ebbgate.asyncio", None)):
        _import_ms(module)
        yield Line(
            f"import {module}, -X importtime", [_import_ms(module) for _ in range(times)], "ms", target
        )
    _import_ms("apsw")
    yield Line("for comparison: import apsw", [_import_ms("apsw") for _ in range(times)], "ms")
    with store(a=5) as url:
        _first_ms(url)
        values = [_first_ms(url) for _ in range(times)]
    yield Line("first acquire of a new process, existing file", values, "ms", at_most(20))
