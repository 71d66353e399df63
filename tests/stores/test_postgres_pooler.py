"""A pooler that hands its connections out by the transaction stands between: PostgreSQL does what it does without."""

import asyncio
import logging

import psycopg
import pytest

from ebbgate.stores import postgres as postgres_module
from ebbgate.stores.base import EMPTY
from ebbgate.stores.postgres import PostgresStore
from ebbgate.testing.network import NetworkPlace
from ebbgate.testing.store_conformance import SharedStoreConformance
from ebbgate.testing.stores import head, row, tag
from tests.stores import servers
from tests.stores.opened import opened_as
from tests.stores.support import KEPT

PATIENCE_S = 20.0


class TestPostgresThroughAPooler(SharedStoreConformance):
    @pytest.fixture
    def place(self, pooler: servers.Pooler) -> NetworkPlace:
        return NetworkPlace(pooler.url(), KEPT)


async def news_of_a_commit(url: str) -> None:
    """Watch until what another server commits is seen; it is committed when nothing else is left to be seen."""
    async with (
        opened_as(PostgresStore, url) as watching,
        opened_as(PostgresStore, url) as other,
        asyncio.timeout(PATIENCE_S),
    ):
        await watching.load()
        news = watching.watch()
        seen = asyncio.ensure_future(anext(news))
        while watching._is_deaf:
            await asyncio.sleep(0.01)
        await other.commit(EMPTY, tag(), head(1), [row("a", 1)])
        await seen
        await news.aclose()  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_without_a_way_around_the_pooler_news_come_late_and_that_is_said(
    pooler: servers.Pooler, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ebbgate.stores"):
        await news_of_a_commit(pooler.url())
    (said,) = (record.getMessage() for record in caplog.records)
    assert "through a pooler" in said
    assert "listen=host:5432" in said
    with psycopg.connect(pooler.conninfo, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(2 * servers.POOLED):  # one after the other
            assert connection.execute("SELECT pg_listening_channels()").fetchall() == []


@pytest.mark.asyncio
async def test_with_a_way_around_the_pooler_news_come_at_once(
    pooler: servers.Pooler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "LOOK_SECONDS", 10 * PATIENCE_S)
    with caplog.at_level(logging.WARNING, "ebbgate.stores"):
        await news_of_a_commit(pooler.url(listen=pooler.behind))
    assert caplog.records == []


@pytest.mark.asyncio
async def test_nobody_is_taken_for_a_pooler_who_is_none(
    postgres: servers.Postgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "LOOK_SECONDS", 10 * PATIENCE_S)
    with caplog.at_level(logging.WARNING, "ebbgate.stores"):
        await news_of_a_commit(postgres.url())
    assert caplog.records == []
