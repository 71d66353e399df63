"""The benchmark runs; how fast is not a test's business."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bench", "--quick", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.slow
def test_the_benchmark_prints_each_number_beside_its_target(tmp_path: Path) -> None:
    written = tmp_path / "numbers.json"
    ran = bench("core", "--json", str(written))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = [line for line in ran.stdout.splitlines() if re.search(r"target .*(ok|MISS)\b", line)]
    lines = json.loads(written.read_text())["lines"]
    assert len(shown) == len([line for line in lines if line["verdict"]]) == 5
    assert all(line["values"] and line["value"] > 0 for line in lines)
    for condition in ("processor", "load average", "Python", "SQLite", "file system", "date"):
        assert re.search(rf"^{condition}: +\S", ran.stdout, re.MULTILINE), f"{condition} is not shown"
    command = [sys.executable, "-m", "bench.page", str(written)]
    page = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert "## `core`" in page
    assert all(f"| {line['name']}" in page for line in lines)


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


@pytest.mark.slow
def test_a_server_is_measured_and_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="e-") as folder:  # short: the name of a socket is
        ran = bench("server.life", TMPDIR=folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "from the start of the process until it is ready" in ran.stdout
        assert not list(Path(folder).iterdir())


@pytest.mark.slow
def test_servers_that_share_a_store_are_measured_and_leave_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="e-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL does not run as root
        ran = bench("stores.handover", TMPDIR=folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        for name in ("PostgreSQL", "Valkey"):
            assert re.search(rf"{name}.*hand-over across two servers, p99", ran.stdout)
        assert not list(Path(folder).iterdir())


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_is_said_and_fails_nothing(tmp_path: Path) -> None:
    written = tmp_path / "numbers.json"
    nowhere = {"UV_OFFLINE": "1", "UV_NO_CACHE": "1", "PIP_NO_INDEX": "1"}
    ran = bench("peers.dask", "--json", str(written), BENCH_CACHE=str(tmp_path / "cache"), **nowhere)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "not measured here: dask cannot be installed" in ran.stdout
    assert list(json.loads(written.read_text())["not_here"]) == ["peers.dask"]


def test_a_group_means_all_of_its_workloads() -> None:
    from bench.__main__ import WORKLOADS, _asked_for

    assert _asked_for("server.rest") == ["server.rest"]
    assert _asked_for("peers") == [name for name in WORKLOADS if name.startswith("peers.")]
    with pytest.raises(argparse.ArgumentTypeError):
        _asked_for("serv")


def test_a_server_that_does_not_start_is_ended_and_its_log_is_told(tmp_path: Path) -> None:
    from bench.background import DidNotStartError, background

    told = tmp_path / "pid"
    program = (
        f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); print('no luck', flush=True)"
    )
    command = [sys.executable, "-c", f"{program}; time.sleep(60)"]
    with pytest.raises(DidNotStartError, match="no luck"), background(command, lambda: False, patience_s=1):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_a_client_is_served_again_with_the_first_pair_that_it_began_after_the_kill() -> None:
    from bench.stores.failover import away_ms

    spans = {"pairs": [(0.0, 1.0), (1.0, 2.5), (2.5, 2.75), (3.0, 3.5)]}
    goes_on = {"pairs": [(1.9, 2.01), (2.01, 2.02)]}
    assert away_ms([2.0], [spans, goes_on]) == pytest.approx([750, 20])
    assert away_ms([9.0], [spans]) == []


def test_hand_overs_count_only_between_processes_and_only_for_who_waited() -> None:
    from bench.handover import gaps_ms_of

    first = {"turns": [(1, 0.0, 0.0, 1.0), (3, 1.0, 2.2, 3.0), (4, 3.0, 3.5, 4.0)]}
    second = {"turns": [(2, 0.5, 1.1, 2.0), (5, 4.5, 4.6, 5.0)]}
    assert gaps_ms_of([first, second]) == pytest.approx([100, 200])
