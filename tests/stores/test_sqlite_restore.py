"""A file that was put back to an earlier state is noticed, and never mixed with what came later."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from ebbgate.stores.base import EMPTY, Conflict, TooOld
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.testing.stores import applied, head, row


def test_a_restored_backup_is_another_history(tmp_path: Path) -> None:
    path, backup = tmp_path / "test.db", tmp_path / "backup.db"
    with closing(SqliteStore(path)) as store:
        first = store.commit(EMPTY, "one", head(1), [row("a", 1)])
    shutil.copy(path, backup)
    with closing(SqliteStore(path)) as store:
        second = store.commit(first, "two", head(2), [row("a", 2)])
        third = store.commit(second, "three", head(3), [row("a", 3)])
    shutil.copy(backup, path)
    with closing(SqliteStore(path)) as store:
        for lost in (second, third):
            with pytest.raises(TooOld):
                store.changes_since(lost)
            with pytest.raises(Conflict):
                store.commit(lost, "late", head(9), [row("a", 9)])
            with pytest.raises(Conflict):
                store.commit(lost, "late", head(9), [])
            assert store.moved(lost)
        assert store.find("two", first) is None
        assert store.find("three", second) is None
        other = store.commit(first, "other", head(2), [row("b", 2)])
        assert other.number == second.number
        with pytest.raises(TooOld):
            store.changes_since(second)
        with pytest.raises(Conflict):
            store.commit(second, "late", head(9), [row("a", 9)])
        assert applied(store.load().rows) == applied([row("a", 1), row("b", 2)])
