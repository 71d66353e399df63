"""Calls of any executor keep to limits."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from ebbgate import Client, errors
from ebbgate.client.connect import close_gate
from ebbgate.integrations.executor import LimitedExecutor

SLOTS = 3


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    url = f"sqlite:///{tmp_path / 'limits.db'}"
    monkeypatch.setenv("EBBGATE_URL", url)
    yield Client(url)
    close_gate(url)


def pool(kind: str) -> Executor:
    if kind == "threads":
        return ThreadPoolExecutor(8)
    return ProcessPoolExecutor(4, mp_context=get_context("spawn"))


def note(folder: str, number: int) -> int:
    """Be inside for a moment, and leave a mark meanwhile; return how many were inside at once."""
    mark = Path(folder) / str(number)
    mark.touch()
    inside = len(list(Path(folder).iterdir()))
    threading.Event().wait(0.02)
    mark.unlink()
    return inside


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_no_more_calls_run_at_once_than_the_limit_has_slots(
    client: Client, tmp_path: Path, kind: str
) -> None:
    client.create_limit("database", SLOTS)
    folder = tmp_path / "inside"
    folder.mkdir()
    with LimitedExecutor(pool(kind), "database") as executor:
        seen = list(executor.map(note, [str(folder)] * 24, range(24)))
    assert max(seen) <= SLOTS
    assert client.read_limit("database").held_slots == 0


def test_calls_are_handed_on_at_the_rate(client: Client) -> None:
    client.create_limit("api", 1, slot_decay_per_second=50.0)
    handed: list[float] = []
    with LimitedExecutor(ThreadPoolExecutor(8), rate_limit="api") as executor:
        for _ in range(11):
            executor.submit(lambda: handed.append(time.monotonic()))
    assert handed[-1] - handed[0] >= 0.18, "ten intervals of 20 ms, but for the first call's lateness"


def test_results_and_errors_come_through(client: Client) -> None:
    client.create_limit("database", 1)
    with LimitedExecutor(ThreadPoolExecutor(2), "database") as executor:
        assert executor.submit(divmod, 7, 2).result(10) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 7, 0).result(10)


def test_a_call_that_does_not_get_in_in_time_fails_and_was_not_made(client: Client) -> None:
    client.create_limit("database", 1)
    made: list[int] = []
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        inside.set()
        leave.wait(10)

    with LimitedExecutor(ThreadPoolExecutor(2), "database", timeout_seconds=0.05) as executor:
        executor.submit(stay)
        assert inside.wait(10)
        late = executor.submit(made.append, 1)
        assert isinstance(late.exception(10), errors.AcquireTimeout)
        leave.set()
    assert made == []


def test_a_submission_whose_turn_does_not_come_fails_at_once(client: Client) -> None:
    client.create_limit("api", 1, slot_decay_per_second=0.001)
    with LimitedExecutor(ThreadPoolExecutor(1), rate_limit="api", timeout_seconds=0) as executor:
        assert executor.submit(abs, -1).result(10) == 1
        with pytest.raises(errors.AcquireTimeout):
            executor.submit(abs, -1)


def test_arguments_in_the_wrong_order_are_answered_with_the_right_one() -> None:
    with pytest.raises(errors.InvalidRequest, match=r'LimitedExecutor\(ThreadPoolExecutor\(\), "name"\)'):
        LimitedExecutor("database", ThreadPoolExecutor(1))  # type: ignore[arg-type]  # the mistake
