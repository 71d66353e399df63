"""The log stays bounded however much is written, and its thread is there only while there is work."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ebbgate.stores import sqlite_checkpoint
from ebbgate.stores.base import Version
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.testing.stores import PATIENCE_S, applied, count_up, head, in_processes, row, tag
from tests.stores.support import SqlitePlace

START_BYTES, RESET_BYTES = 100_000, 400_000


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlitePlace:
    make_small(monkeypatch)
    return SqlitePlace(tmp_path, kept=100)


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_checkpoint, "START_BYTES", START_BYTES)
    monkeypatch.setattr(sqlite_checkpoint, "RESET_BYTES", RESET_BYTES)
    monkeypatch.setattr(sqlite_checkpoint, "_IDLE_S", 0.05)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ebbgate-checkpoint"]


def write(store: SqliteStore, until: Callable[[], bool]) -> Version:
    """Commit without pause until something is so."""
    version, ends = store.load().version, time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < ends, "did not come to be"
        for _ in range(4):
            number = version.number + 1
            version = store.commit(version, tag(), head(number), [row(f"{number % 50}", "x" * 500)])
    return version


def log_bytes(place: SqlitePlace) -> int:
    return place.path.with_name("test.db-wal").stat().st_size


def test_a_small_log_has_no_thread(place: SqlitePlace) -> None:
    with closing(place.open()) as store:
        write(store, lambda: log_bytes(place) > START_BYTES // 4)
        assert log_bytes(place) < START_BYTES
        assert threads() == []


def test_the_log_starts_over_while_somebody_writes_without_pause(place: SqlitePlace) -> None:
    counts: list[int] = []

    def started_over() -> bool:
        """The log was begun anew three times: each time its header counts one more."""
        with place.path.with_name("test.db-wal").open("rb") as log:
            counts.append(int.from_bytes(log.read(32)[12:16]))
        return len(set(counts)) > 3

    with closing(place.open()) as store:
        version = write(store, started_over)
        assert store.load().version == version
        rows = applied(store.load().rows)
    assert threads() == [], "closing ends the thread"
    with closing(place.open()) as store:
        assert applied(store.load().rows) == rows


def test_a_thread_that_could_not_be_started_is_started_later(
    place: SqlitePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with closing(place.open()) as store:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse)
            write(store, lambda: log_bytes(place) > 2 * START_BYTES)
        write(store, lambda: bool(threads()))


def test_the_thread_ends_when_there_is_nothing_to_do_and_comes_back(place: SqlitePlace) -> None:
    with closing(place.open()) as store:
        for _ in range(2):
            write(store, lambda: bool(threads()))
            for thread in threads():
                thread.join(PATIENCE_S)
            assert threads() == []


def test_a_checkpoint_that_cannot_be_made_troubles_no_commit(
    place: SqlitePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_checkpoint, "_PAUSE_AFTER_TROUBLE_S", 0.01)
    with closing(place.open()) as store:
        place.path.with_name("test.db-checkpoint").mkdir()
        write(store, lambda: bool(threads()))
        for thread in threads():
            thread.join(PATIENCE_S)
        place.path.with_name("test.db-checkpoint").rmdir()
        write(store, lambda: place.path.with_name("test.db-checkpoint").is_file())


def write_much(place: SqlitePlace, answers: Connection) -> None:
    with pytest.MonkeyPatch.context() as patched:
        make_small(patched)
        with closing(place.open()) as store:
            largest = 0
            for _ in range(1_500):
                count_up(store, "sum", 1)
                largest = max(largest, log_bytes(place))
            answers.send(largest)


def test_several_processes_keep_one_log_bounded(place: SqlitePlace) -> None:
    largest = max(in_processes(2, write_much, place))
    with closing(place.open()) as store:
        assert store.load().version.number == 3_000
    assert largest < 3_000 * 4_096, "less than a page a commit: it was begun anew"
