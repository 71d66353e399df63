"""A writer that dies in any gap of a commit leaves all of it or nothing, and the next one goes on."""

import os
import signal
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import apsw

from ebbgate.stores.base import EMPTY, Version
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.testing.stores import applied, gone, head, process, row, tag
from tests.stores.support import SqlitePlace

OLD = [row("a", 1), row("b", 1), row("c", 1)]
NEW = [row("a", 2), gone("b"), row("d", 2), row("big", "x" * 20_000)]


def die(*_: object) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def arm(store: SqliteStore, point: str) -> None:
    """Let the process die in its next commit: in a hook, or before the statement of this number."""
    cursor = store._guard._cursor
    assert cursor is not None
    if point == "inside COMMIT":
        cursor.connection.set_commit_hook(lambda: bool(die()))
    elif point == "after COMMIT":
        cursor.connection.set_wal_hook(die)
    else:
        statements = iter(range(100))

        def before(*_: object) -> bool:
            if next(statements) == int(point):
                die()
            return True

        cursor.exec_trace = before


def kill_writers(place: SqlitePlace, answers: Connection, base: Version, points: list[str]) -> None:
    """In a process without other threads: fork one writer for each point, and let it die there."""
    for point in points:
        file = place.path.with_name(f"{point}.db")
        child = os.fork()
        if child == 0:
            store = SqliteStore(file)
            arm(store, point)
            store.commit(base, "dying", head(2), NEW)
            os._exit(0)
        answers.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_a_writer_killed_in_any_gap_of_a_commit(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    # BEGIN, the log, four records, COMMIT; then there is no further statement and the commit is done.
    points = [*map(str, range(7)), "inside COMMIT", "after COMMIT", "99"]
    base = EMPTY
    for point in points:
        with closing(SqliteStore(place.path.with_name(f"{point}.db"))) as store:
            base = store.commit(EMPTY, "one", head(1), OLD)
    with process(kill_writers, place, base, points) as (_child, answers):
        codes = [answers.recv() for _ in points]
    assert codes == [-signal.SIGKILL] * (len(points) - 1) + [0]
    found: dict[str, bool] = {}
    for point in points:
        with closing(SqliteStore(place.path.with_name(f"{point}.db"))) as store:
            now = store.load()
            found[point] = store.find("dying", base) is not None
            assert applied(now.rows) == (applied(NEW, applied(OLD)) if found[point] else applied(OLD))
            assert now.head == (head(2) if found[point] else head(1))
            assert now.version == (Version(2, "dying") if found[point] else base)
            assert store.changes_since(base).rows == (NEW if found[point] else [])
            store.commit(now.version, tag(), head(3), [row("a", 3)])
    assert found == dict.fromkeys(points[:8], False) | {"after COMMIT": True, "99": True}


def make_and_die(place: SqlitePlace, answers: Connection) -> None:
    """Die while making the file, a little further each time."""
    for statements in range(40):
        file = place.folder / f"{statements}.db"
        child = os.fork()
        if child == 0:
            _die_after(statements)
            SqliteStore(file)
            os._exit(0)
        answers.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _die_after(statements: int) -> None:
    left = iter(range(statements, -1, -1))

    def traced(connection: apsw.Connection) -> None:
        def before(*_: object) -> bool:
            if next(left) == 0:
                die()
            return True

        connection.exec_trace = before

    apsw.connection_hooks.append(traced)


def test_a_process_killed_while_it_makes_the_file(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    with process(make_and_die, place) as (_child, answers):
        codes = [answers.recv() for _ in range(40)]
    killed = codes.count(-signal.SIGKILL)
    assert 15 < killed < 40, "otherwise it does not go through all of the making"
    for number in range(killed):
        with closing(SqliteStore(tmp_path / f"{number}.db")) as store:
            assert store.load().version == EMPTY
            store.commit(EMPTY, tag(), head(1), OLD)
