"""Every store of history does what one must do."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ebbgate.errors import StoreUnavailable
from ebbgate.stores import open_history
from ebbgate.stores.rollups import BYTES_MAX, MemoryHistory, Part
from ebbgate.stores.rollups_sqlite import SqliteHistory
from ebbgate.testing.rollup_conformance import HERE, NOW_US, SPAN, HistoryConformance, Opened, told


class TestMemory(HistoryConformance):
    is_shared = False

    @pytest.fixture
    def opened(self) -> Opened:
        return MemoryHistory


class TestSqlite(HistoryConformance):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Opened:
        return lambda: open_history(f"sqlite:///{tmp_path}/store.db")


class TestPostgres(HistoryConformance):
    @pytest.fixture
    def opened(self, postgres_url: Callable[[], str]) -> Opened:
        url = postgres_url()
        return lambda: open_history(url)


class TestRedis(HistoryConformance):
    @pytest.fixture
    def opened(self, redis_url: Callable[[], str]) -> Opened:
        url = redis_url()
        return lambda: open_history(url)


def test_the_file_is_for_its_owner_alone_and_kept_over_openings(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def write() -> None:
        store = SqliteHistory(path)
        await store.write([Part(HERE, "[1],")], SPAN)
        await store.close()
        await store.close()

    asyncio.run(write())
    assert (tmp_path / "store.db-history").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["store.db-history"]

    async def read() -> None:
        store = SqliteHistory(path)
        assert await store.read([HERE]) == {HERE: "[1],"}
        await store.close()

    asyncio.run(read())


def test_a_file_that_cannot_be_made_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "store.db-history").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        SqliteHistory(tmp_path / "store.db")


@pytest.mark.parametrize("text", ["no database, " * 100, ""])
def test_a_damaged_file_is_put_aside_and_history_begins_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "store.db-history"
    file.write_text(text)

    async def story(store: SqliteHistory) -> None:
        await store.write([Part(HERE, "[1],")], SPAN)
        await store.prune(NOW_US, BYTES_MAX)
        assert await store.read([HERE]) == {HERE: "[1],"}

    told(lambda: SqliteHistory(tmp_path / "store.db"), story)
    aside = tmp_path / "store.db-history-aside"
    assert aside.exists() == bool(text)
    assert ("is now" in caplog.text) == bool(text)
