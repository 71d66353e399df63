"""The benchmark runs; how fast is not a test's business."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_benchmark_prints_each_number_beside_its_target(tmp_path: Path) -> None:
    written = tmp_path / "numbers.json"
    command = [sys.executable, "-m", "bench", "--quick", "--only", "core", "--json", str(written)]
    ran = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = [line for line in ran.stdout.splitlines() if re.search(r"target .*(ok|MISS)\b", line)]
    lines = json.loads(written.read_text())["lines"]
    assert len(shown) == len([line for line in lines if line["verdict"]]) == 5
    assert all(line["values"] and line["value"] > 0 for line in lines)
    for condition in ("processor", "load average", "Python", "SQLite", "file system", "date"):
        assert re.search(rf"^{condition}: +\S", ran.stdout, re.MULTILINE), f"{condition} is not shown"


def test_the_worst_window_is_found() -> None:
    from bench.rate import window_excess

    even = [index / 10 for index in range(50)]
    assert window_excess(even, limit=1, rate=10) == pytest.approx(0, abs=1e-6)
    burst = [*even, 4.95, 5.0]  # three in the last 0.1 s: one more than 1 + 10 * 0.1
    assert window_excess(burst, limit=1, rate=10) == pytest.approx(1, abs=1e-6)


def test_who_was_overtaken_is_counted() -> None:
    from bench.handover import Turn, overtakings

    in_order = [Turn(token, 0, asked=token, got=token + 5, released=token + 6) for token in range(5)]
    assert overtakings(in_order) == 0
    late = Turn(5, 1, asked=1.5, got=11, released=12)
    assert overtakings([*in_order, late]) == 1
