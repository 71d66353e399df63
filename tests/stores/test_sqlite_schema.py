"""A file is brought to the newest schema once, whoever comes first, or is left as it was."""

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ebbgate.core.model import Lease, Limit, Session, Stored
from ebbgate.errors import StoreUnavailable
from ebbgate.stores import sqlite_schema
from ebbgate.stores.base import EMPTY
from ebbgate.stores.codec import encode
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.testing.stores import applied, head, in_processes, in_threads, row, tag
from tests.stores.support import SqlitePlace, count_up_elsewhere


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


def later(monkeypatch: pytest.MonkeyPatch, *scripts: str) -> None:
    """Make it a later release, which knows more steps."""
    known = (*sqlite_schema.migrations(), *scripts)
    monkeypatch.setattr(sqlite_schema, "migrations", lambda: known)


def asked(path: Path, sql: str) -> object:
    with closing(apsw.Connection(str(path))) as connection:
        return connection.execute(sql).get


def test_an_older_file_is_brought_forward_and_keeps_its_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteStore(path)) as store:
        version = store.commit(EMPTY, tag(), head(1), [row("a", 1)])
    later(
        monkeypatch,
        "ALTER TABLE record ADD COLUMN note TEXT",
        "CREATE TABLE more (x); INSERT INTO more VALUES (7)",
    )
    with closing(SqliteStore(path)) as store:
        assert store.load().version == version
        assert applied(store.load().rows) == applied([row("a", 1)])
        store.commit(version, tag(), head(2), [row("a", 2)])
    assert asked(path, "PRAGMA user_version") == 3
    assert asked(path, "SELECT group_concat(x) FROM more") == "7"


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(path).close()
    with monkeypatch.context() as patched:
        later(patched, "CREATE TABLE more (x)", "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)")
        with pytest.raises(StoreUnavailable, match="other tables"):
            SqliteStore(path)
    assert asked(path, "PRAGMA user_version") == 1
    assert asked(path, "SELECT count(*) FROM sqlite_schema WHERE name IN ('more', 'half')") == 0
    SqliteStore(path).close()


def test_threads_that_open_an_older_file_at_once_bring_it_forward_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore(path).close()
    later(monkeypatch, "CREATE TABLE more (x); INSERT INTO more VALUES (7)")
    stores = in_threads(8, lambda: SqliteStore(path))
    for store in stores:
        store.close()
    assert asked(path, "SELECT count(*) FROM more") == 1


def test_processes_that_make_the_file_at_once_make_one(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path, kept=10_000)
    in_processes(4, count_up_elsewhere, place, 5)
    with closing(place.open()) as store:
        assert store.load().version.number == 20


def test_a_file_of_a_newer_release_is_refused_untouched(path: Path) -> None:
    SqliteStore(path).close()
    asked(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="upgrade ebbgate: pip install"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_people_can_read_the_tables(path: Path) -> None:
    """The views show names, states and instants as text."""
    waiting = Lease("w", "s", "hold", (("db", 2),), (), (), False, 5, 1, {}, "", 2, 1_800_000_000_000_000)
    held = Lease("h", "s", "hold", (("db", 2),), (), (), False, 0, 1, {"job": "x"}, "", 1, 0)
    held.state, held.at_us, held.expires_us = "held", 0, 1_800_000_000_000_000
    changes = [
        Stored("limit", "l", Limit("l", "db", 3, 0.5, True, "the big one", 0, 0)),
        Stored("session", "s", Session("s", 1, "here", 4711, {"team": "a"}, -1, "", "nothing")),
        Stored("lease", "h", held),
        Stored("lease", "w", waiting),
    ]
    with closing(SqliteStore(path)) as store:
        store.commit(EMPTY, tag(), head(1), encode(changes))
    limits = 'SELECT name, "limit", slot_decay_per_second, active FROM limits'
    leases = "SELECT id, state, asked, labels, granted_at, expires_at FROM leases"
    with closing(apsw.Connection(str(path))) as shell:
        assert shell.execute(limits).fetchall() == [("db", 3, 0.5, 1)]
        assert shell.execute(leases).fetchall() == [
            ("h", "held", '[["db",2]]', '{"job":"x"}', "1970-01-01T00:00:00Z", "2027-01-15T08:00:00Z"),
            ("w", "waiting", '[["db",2]]', "{}", None, None),
        ]
        assert shell.execute("SELECT id, priority, asked_at FROM waiters").fetchall() == [
            ("w", 5, "2027-01-15T08:00:00Z")
        ]
        assert shell.execute("SELECT id, host, pid, away_since FROM sessions").fetchall() == [
            ("s", "here", 4711, None)
        ]
