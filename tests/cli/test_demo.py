"""The demo: what it takes for proof, that it proves it, and that it leaves nothing behind."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ebbgate.cli.demo import demo
from ebbgate.cli.demo_proof import (
    Visit,
    at_the_rate,
    in_order,
    most_within,
    never_too_many,
    nothing_left,
    passed_on,
)
from ebbgate.errors import InvalidRequest

MS = 1_000_000
SECOND = 1_000 * MS


def visit(entered_ms: int, left_ms: int, *, slots: int = 1, killed: bool = False, token: int = 0) -> Visit:
    """A visit that was asked for when it began."""
    return Visit(
        worker=1,
        slots=slots,
        asked_ns=entered_ms * MS,
        entered_ns=entered_ms * MS,
        left_ns=left_ms * MS,
        token=token,
        arrival=token,
        killed=killed,
    )


def test_the_limit_must_be_reached_and_not_passed() -> None:
    two, one = visit(0, 10, slots=2), visit(5, 15)
    assert never_too_many([two, one], 3).proven
    assert not never_too_many([two, one], 2).proven, "one too many"
    assert not never_too_many([two, one], 4).proven, "nobody contended"
    assert never_too_many([two, visit(10, 15)], 2).proven, "who leaves goes before who enters"


def test_slots_have_passed_on_when_the_living_use_more_than_the_dead_one_left_them() -> None:
    dead = visit(0, 100, slots=2, killed=True)
    before, later = visit(90, 200), visit(130, 200)
    found = passed_on([dead, before, later], 3)
    assert found.proven
    assert found.seen == "the killed worker's 2 slots passed on after 30 ms"
    assert not passed_on([dead, before], 3).proven
    assert not passed_on([before, later], 3).proven, "nobody was killed"


def test_whoever_asked_earlier_and_got_in_later_is_counted() -> None:
    first, second = visit(0, 10, token=1), visit(300, 310, token=2)
    assert in_order([second, first]).proven
    assert not in_order([first._replace(token=3), second]).proven, "by the count of the store"
    assert not in_order([first._replace(token=3, arrival=3), second]).proven, "by their own clocks"
    assert not in_order([]).proven


def test_no_window_of_a_second_holds_more_than_the_burst_and_a_second_of_rate() -> None:
    fair = [0, 0, *range(100 * MS, 3 * SECOND, 100 * MS)]
    assert [finding.proven for finding in at_the_rate(fair, 2, 10.0)] == [True, True]
    twice = sorted([*fair, *range(150 * MS, 3 * SECOND, 100 * MS)])
    assert [finding.proven for finding in at_the_rate(twice, 2, 10.0)] == [False, False]
    assert [finding.proven for finding in at_the_rate(fair[::2], 2, 10.0)] == [False, True], "too slow"
    assert not any(finding.proven for finding in at_the_rate([], 2, 10.0))


def test_a_window_holds_both_its_ends() -> None:
    assert most_within([0, 1, 10, 11, 20], 10) == 3
    assert most_within([], 10) == 0


def test_the_end_is_clean_only_if_nothing_is_held_and_nobody_waits_or_failed() -> None:
    assert nothing_left(0, 0, 0).proven
    assert not any(nothing_left(*counts).proven for counts in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e9, float("nan")])
def test_a_demo_without_end_or_without_time_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="seconds must be from 3 to 600"):
        demo(seconds=seconds)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder for temporary files, with a short name."""
    with tempfile.TemporaryDirectory(prefix="d-") as name:
        yield Path(name)


def start(folder: Path, seconds: float, *flags: str) -> subprocess.Popen[str]:
    """Start the demo where files are called like modules that it needs."""
    for name in ("random.py", "ebbgate.py"):
        (folder / name).write_text("raise SystemExit('the wrong file')\n", encoding="utf-8")
    command = Path(sys.executable).with_name("ebbgate")
    environment = {**os.environ, "TMPDIR": str(folder), "EBBGATE_URL": "memory://", "COLUMNS": "100"}
    return subprocess.Popen(
        [str(command), "demo", "--seconds", str(seconds), *flags],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(folder: Path) -> list[str]:
    """Name the files in `folder`, and the processes whose environment names it."""
    left = [path.name for path in folder.iterdir() if path.suffix != ".py"]
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:
            continue
        if f"TMPDIR={folder}\0".encode() in environment:
            left.append(f"process {path.parent.name}")
    return left


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Wait for `condition`, 10 s at most."""
    until = time.monotonic() + 10
    pause = threading.Event()
    while not condition():
        if time.monotonic() > until:
            return False
        pause.wait(0.05)
    return True


@pytest.mark.slow
def test_the_demo_proves_everything_without_a_terminal_and_leaves_nothing_behind(folder: Path) -> None:
    output, errors = start(folder, 8).communicate(timeout=60)
    assert errors == ""
    verdicts = [line for line in output.splitlines() if re.match(r"(NOT )?PROVEN|proven", line)]
    assert len(verdicts) == 7, output
    assert [line for line in verdicts if not line.startswith("proven ")] == []
    assert "is killed (SIGKILL) while it holds 2 slots" in output
    assert "\x1b" not in output
    assert left_behind(folder) == []


@pytest.mark.slow
def test_the_demo_begins_with_where_its_pages_are_and_there_is_something_to_see(folder: Path) -> None:
    process = start(folder, 60)
    assert process.stdout is not None
    first = process.stdout.readline()
    told = re.fullmatch(r"Look at it in a browser: (http://127\.0\.0\.1:\d+/)\n", first)
    assert told, first
    assert "<title>Ebbgate</title>" in httpx.get(told[1]).text
    limits = httpx.get(f"{told[1]}v1/limits").json()["items"]
    assert [limit["name"] for limit in limits] == ["api", "workshop"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.slow
def test_on_a_terminal_the_pages_stay_until_enter_is_pressed(folder: Path) -> None:
    ours, theirs = os.openpty()
    command = Path(sys.executable).with_name("ebbgate")
    environment = {**os.environ, "TMPDIR": str(folder), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [str(command), "demo", "--seconds", "3"], cwd=folder, env=environment,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while b"press Enter" not in said:
            assert select.select([ours], [], [], 60)[0], said
            said += os.read(ours, 65_536)
        address = re.search(rb"look at (http://127\.0\.0\.1:\d+/)", re.sub(rb"\x1b\[[0-9;]*m", b"", said))
        assert address, said
        api = f"{address[1].decode()}v1/limits/api"
        granted = httpx.get(api).json()["granted"]
        assert becomes_true(lambda: bool(httpx.get(api).json()["granted"] > granted)), "they go on"
        os.write(ours, b"\n")
        assert process.wait(30) in {0, 1}
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert left_behind(folder) == []


@pytest.mark.slow
def test_the_demo_tells_programs_what_it_has_proven(folder: Path) -> None:
    process = start(folder, 3, "--output", "json")
    output, messages = process.communicate(timeout=60)
    findings = json.loads(output)
    assert [finding["what"] for finding in findings][:2] == ["never too many", "nothing leaks"]
    assert process.returncode == (0 if all(finding["proven"] for finding in findings) else 1)
    assert "is killed" in messages


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_demo_leaves_nothing_behind_when_it_is_stopped(folder: Path, number: int, code: int) -> None:
    process = start(folder, 60)
    assert process.stdout is not None
    assert any("slots in use" in line for line in process.stdout), "it runs"
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, ""), output
    assert left_behind(folder) == []


@pytest.mark.slow
def test_the_workers_end_when_the_demo_is_killed(folder: Path) -> None:
    process = start(folder, 60)
    assert process.stdout is not None
    assert any("slots in use" in line for line in process.stdout), "it runs"
    process.kill()
    process.communicate(timeout=30)
    assert becomes_true(lambda: not any(what.startswith("process") for what in left_behind(folder)))
