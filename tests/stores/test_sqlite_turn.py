"""The turn to write is a courtesy: nobody who stops or dies with it can keep the others out."""

import os
import signal
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ebbgate.stores.base import EMPTY
from ebbgate.testing.stores import head, in_processes, process, row, tag
from tests.stores.support import SqlitePlace


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


def take_the_turn(place: SqlitePlace, answers: Connection) -> None:
    store = place.open()
    answers.send(store.lock(1_000_000))
    signal.pause()


def test_a_stopped_holder_delays_others_by_50_ms_at_most(place: SqlitePlace) -> None:
    with closing(place.open()) as store, process(take_the_turn, place) as (child, answers):
        assert answers.recv() is True
        assert child.pid is not None
        os.kill(child.pid, signal.SIGSTOP)
        started = time.monotonic()
        assert not store.lock(50_000)
        waited = time.monotonic() - started
        store.commit(EMPTY, tag(), head(1), [row("a", 1)], patience_us=0)
        assert 0.05 <= waited < 1.0, "the upper bound is for busy machines"


def test_a_dead_holder_delays_nobody(place: SqlitePlace) -> None:
    with closing(place.open()) as store, process(take_the_turn, place) as (child, answers):
        assert answers.recv() is True
        assert not store.try_lock()
        child.kill()
        child.join()
        assert store.try_lock()


def take_turns(place: SqlitePlace, answers: Connection, seconds: float) -> None:
    with closing(place.open()) as store:
        ends, done = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            if store.lock(50_000):
                done += 1
                store.unlock()
        answers.send(done)


def test_busy_processes_all_have_their_turn(place: SqlitePlace) -> None:
    """How evenly is for the bench to say; here nobody starves."""
    done = in_processes(3, take_turns, place, 0.3)
    assert min(done) > 0
