"""Acquire and release over REST: `wrk` with 64 keep-alive connections, each of which acquires and releases in turn."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.background import HOST, processor_seconds
from bench.report import Line, NotHereError, Options, Remark, at_least, at_most
from bench.server.serving import served

SCRIPT = Path(__file__).with_name("pairs.lua")
CONNECTIONS = 64


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure pairs a second, and how long a request takes."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NotHereError("wrk is not installed (on Debian: apt-get install wrk)")
    yield Remark(_version(wrk))
    seconds = round(options.scaled(5, 1))
    with served(a=10_000) as server:
        before_s = processor_seconds(server.pid)
        found = [_measured(wrk, server.port, seconds) for _ in range(options.repeats)]
        used_s = processor_seconds(server.pid) - before_s
    note = f"processor for a pair: server {1e6 * used_s / sum(r['pairs'] for r in found):.0f} us"
    rates = [r["rate"] for r in found]
    yield Line(f"REST, {CONNECTIONS} connections, FULL, pairs", rates, "/s", at_least(5_000), note=note)
    yield Line(f"REST, {CONNECTIONS} connections, a request, p50", [r["p50"] for r in found], "ms")
    yield Line(
        f"REST, {CONNECTIONS} connections, a request, p99", [r["p99"] for r in found], "ms", at_most(30)
    )


def _version(wrk: str) -> str:
    said = subprocess.run([wrk, "--version"], text=True, capture_output=True, check=False)  # it ends with 1
    return said.stdout.partition("[")[0].strip() or "wrk"


def _measured(wrk: str, port: int, seconds: int) -> dict[str, Any]:
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(SCRIPT), f"http://{HOST}:{port}"]
    ran = subprocess.run(command, text=True, capture_output=True, check=True, timeout=seconds + 60)
    line = next(line for line in ran.stdout.splitlines() if line.startswith("result "))
    result: dict[str, Any] = json.loads(line.removeprefix("result "))
    assert result["refused"] == result["broken"] == 0, result
    return {**result, "rate": result["pairs"] / result["seconds"]}
