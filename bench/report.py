"""A measured number beside its target, and the conditions under which it was measured."""

import math
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

Judged = Literal["median", "worst"]


@dataclass(frozen=True, slots=True)
class Options:
    """How thoroughly to measure."""

    quick: bool = False

    @property
    def repeats(self) -> int:
        """How often each number is measured; the median counts."""
        return 1 if self.quick else 3

    def scaled(self, full: float, quick: float) -> float:
        """Return how much of something to do."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Target:
    """Where a number should lie, both ends included."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Tell whether a number is where it should be."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """Say it as people read it."""
        if self.high == math.inf:
            return f">= {self.low:,.10g}"
        if self.low == -math.inf:
            return f"<= {self.high:,.10g}"
        return f"{self.low:,.10g} to {self.high:,.10g}"


def at_least(low: float) -> Target:
    """Return the target of a number that should be high."""
    return Target(low=low)


def at_most(high: float) -> Target:
    """Return the target of a number that should be low."""
    return Target(high=high)


def around_one(part: float) -> Target:
    """Return the target of a ratio that should be 1, give or take `part`."""
    return Target(1 - part, 1 + part)


@dataclass(frozen=True, slots=True)
class Line:
    """One number: what it is, its value in every repeat, and where it should lie."""

    name: str
    values: Sequence[float]  # one a repeat
    unit: str
    target: Target | None = None  # None: shown for comparison only
    judged: Judged = "median"
    note: str = ""

    @property
    def value(self) -> float:
        """The number that counts."""
        if self.judged == "median" or self.target is None:
            return statistics.median(self.values)
        return max(self.values) if self.target.low == -math.inf else min(self.values)

    @property
    def verdict(self) -> str:
        """Whether it is where it should be; empty without a target."""
        if self.target is None:
            return ""
        return "ok" if self.target.holds(self.value) else "MISS"

    def __str__(self) -> str:
        """Show it in one line, the verdict last."""
        shown = f"{digits(self.value):>9} {self.unit}"
        spread = f"({digits(min(self.values))} .. {digits(max(self.values))})" if len(self.values) > 1 else ""
        note = f"  [{self.note}]" if self.note else ""
        aim = f"target {self.target}" if self.target else ""
        return f"  {self.name:<70}{shown:<22}{spread:<22} {aim:<22}{self.verdict:<4}{note}".rstrip()


def digits(value: float) -> str:
    """Write a number as precisely as it was measured."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"


@dataclass(frozen=True, slots=True)
class Remark:
    """What readers should know about the lines around it: versions, what was left out, and why."""

    text: str

    def __str__(self) -> str:
        """Show it in one line."""
        return f"  - {self.text}"


class NotHereError(Exception):
    """What would be measured cannot be installed or started on this machine; the text says why."""


Workload = Callable[[Options], Iterator[Line | Remark]]


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that `part` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


# --- conditions


def conditions() -> dict[str, str]:
    """Return what whoever reads the numbers has to know."""
    import apsw

    return {
        "ebbgate": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load average": load_average(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "SQLite": f"{apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()}), WAL, synchronous=NORMAL",
        "file system": _file_system(Path(tempfile.gettempdir())),
    }


def _commit() -> str:
    """Return which commit is measured, where git tells."""
    git = shutil.which("git")
    if git is None:
        return "unknown commit"
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown commit"


def load_average() -> str:
    """Return how busy the machine was in the last 1, 5 and 15 minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def sync_ms(kib: int, times: int = 200) -> float:
    """Return how long this disk takes to keep so much for good (`fdatasync`), the median.

    Whatever else writes to it lengthens that, and nothing that is committed at FULL can be faster.
    """
    spent_ms: list[float] = []
    with tempfile.TemporaryFile(prefix="ebbgate-bench-") as file:
        for _ in range(times):
            os.pwrite(file.fileno(), os.urandom(kib * 1024), 0)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            spent_ms.append(1000 * (time.perf_counter() - begun))
    return percentile(spent_ms, 0.5)


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds `folder`, where the system tells."""
    found, name = "", "unknown"
    try:
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            _, point, kind = line.split()[:3]
            inside = folder == Path(point) or Path(point) in folder.parents
            if inside and len(point) >= len(found):
                found, name = point, kind
    except (OSError, ValueError):
        pass
    return name


class Waited(NamedTuple):
    """An instant, and how long this thread was ready to run so far while others had the cores."""

    at: float
    waited: float

    @classmethod
    def now(cls) -> "Waited":
        """Return the state of the calling thread; without the kernel's word it never waited."""
        return cls(time.monotonic(), waited_for_core())

    def share_since(self) -> float:
        """Return which part of the time since then the thread waited for a core."""
        now = Waited.now()
        return (now.waited - self.waited) / max(now.at - self.at, 1e-9)


def waited_for_core() -> float:
    """Return for how many seconds the calling thread was ready to run and was not run."""
    try:
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return 0.0
    try:
        return int(os.read(descriptor, 200).split()[1]) / 1e9
    finally:
        os.close(descriptor)
