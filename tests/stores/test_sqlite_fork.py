"""A forked child takes nothing from its parent, and what it commits itself is never lost."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ebbgate.errors import StoreUnavailable
from ebbgate.stores import sqlite_guard
from ebbgate.stores.base import EMPTY, Conflict
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.testing.stores import PATIENCE_S, count_up, head, in_threads, process, row, tag, value_of
from tests.stores.support import SqlitePlace


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


def forked(work: Callable[[], object]) -> int:
    """Do `work` in a child; it ends well only if nothing is raised."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE_S))  # nothing may be left behind, however this goes
        try:
            work()
        except BaseException as error:
            os.write(2, f"in the child: {type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return child


def ended_well(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


def answered(place: SqlitePlace, work: Callable[[SqlitePlace, Connection], None]) -> object:
    """What `work` sends from a process without other threads, where forking is plain."""
    with process(work, place) as (_child, answers):
        assert answers.poll(PATIENCE_S), "no answer"
        return answers.recv()


def use_inherited(place: SqlitePlace, answers: Connection) -> None:
    store = place.open()
    version = store.commit(EMPTY, tag(), head(1), [row("a", 1)])
    assert store.try_lock()

    def use() -> None:
        for call in (store.load, lambda: store.commit(version, tag(), head(2), [row("a", 2)])):
            with pytest.raises(StoreUnavailable, match="opened before a fork; open it again"):
                call()
        assert not store.try_lock()
        store.unlock()
        with pytest.raises(StoreUnavailable):
            store.moved(version)
        store.close()
        store.close()

    well = ended_well(forked(use))
    with closing(place.open()) as other:
        still_locked = not other.try_lock()
    store.unlock()
    store.commit(version, tag(), head(2), [row("a", 2)])
    store.close()
    answers.send((well, still_locked))


def test_a_child_cannot_use_what_it_inherits_and_takes_nothing_from_its_parent(place: SqlitePlace) -> None:
    assert answered(place, use_inherited) == (True, True)


def outlive_parent(place: SqlitePlace, answers: Connection) -> None:
    """The parent closes first, as the only one that was there before; the child goes on committing."""
    inherited = place.open()
    count_up(inherited, "sum", 1)
    closed, goes_on = os.pipe()

    def commit_around_the_close() -> None:
        with closing(place.open()) as own:
            count_up(own, "sum", 1)
            os.write(goes_on, b"x")
            os.read(wait, 1)
            count_up(own, "sum", 1)

    wait, parent_is_done = os.pipe()
    child = forked(commit_around_the_close)
    os.read(closed, 1)
    inherited.close()
    leftovers = sorted(file.name for file in place.path.parent.iterdir())
    with closing(place.open()) as third:
        between = value_of(third.load(), "sum")
        os.write(parent_is_done, b"x")
        well = ended_well(child)
        after = value_of(third.load(), "sum")
    answers.send((well, between, after, leftovers))


def test_what_a_child_commits_survives_its_parent(place: SqlitePlace) -> None:
    """Its own opening has locks of its own, so the parent does not delete the log as if it were the last."""
    files = ["test.db", "test.db-lock", "test.db-shm", "test.db-wal"]
    assert answered(place, outlive_parent) == (True, 2, 3, files)


def fork_while_busy(place: SqlitePlace, answers: Connection) -> None:
    """Fork again and again while threads commit; each child commits too."""
    children = 25
    with closing(place.open()) as store:
        stop = threading.Event()

        def commit() -> int:
            done = 0
            while not stop.is_set():
                done += len(count_up(store, "sum", 1))
            return done

        def fork() -> int:
            with suppress(BaseException):
                started = [forked(partial(child_commits, place)) for _ in range(children)]
                stop.set()
                return sum(ended_well(child) for child in started) * 1_000_000
            stop.set()
            return -1

        work = iter([fork, commit, commit])
        counts = in_threads(3, lambda: next(work)())  # noqa: PLW0108 - each thread takes the next
        total = value_of(store.load(), "sum")
    answers.send((sum(counts) // 1_000_000, total - sum(counts) % 1_000_000))


def child_commits(place: SqlitePlace) -> None:
    with closing(place.open()) as own:
        count_up(own, "sum", 1)


def test_forking_while_threads_commit(place: SqlitePlace) -> None:
    assert answered(place, fork_while_busy) == (25, 25)


def fork_in_a_commit(place: SqlitePlace, answers: Connection) -> None:
    """As a signal handler might: the forking thread itself is inside a commit."""
    sqlite_guard._FORK_PATIENCE_S = 0.01  # type: ignore[misc]  # for this process alone
    store = place.open()
    children: list[int] = []
    path = store.path

    def use() -> None:
        with pytest.raises(StoreUnavailable, match="in the middle of a commit when this process was forked"):
            SqliteStore(path)

    def fork_here() -> bool:
        children.append(forked(use))
        return False

    cursor = store._guard._cursor
    assert cursor is not None
    cursor.connection.set_commit_hook(fork_here)
    version = store.commit(EMPTY, tag(), head(1), [row("a", 1)])
    with suppress(Conflict):
        store.commit(version, tag(), head(2), [])
    answers.send(ended_well(children[0]))
    store.close()


def test_a_child_forked_in_the_middle_of_a_commit_is_told(place: SqlitePlace) -> None:
    assert answered(place, fork_in_a_commit) is True
    with closing(place.open()) as store:
        assert value_of(store.load(), "a") == 1
