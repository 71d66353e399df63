"""Stores behind a network on bad days: lost answers, dead connections, silence, restarts. Nothing is guessed."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores import open_network_store
from ebbgate.stores.base import EMPTY, Conflict, Delta, NetworkStore, Version
from ebbgate.stores.postgres import PostgresStore
from ebbgate.stores.postgres_url import place_of as postgres_place
from ebbgate.stores.redis import RedisStore
from ebbgate.stores.redis_url import place_of as redis_place
from ebbgate.testing.stores import head, row, tag
from tests.stores import servers
from tests.stores.proxy import Proxy, proxy, socket_of

PATIENCE_S = 20.0


@dataclass
class Site:
    """A namespace behind a network that can be broken."""

    proxy: Proxy
    url: str

    def open(self, *, call_seconds: float = 10.0) -> NetworkStore:
        if self.url.startswith("redis"):
            return RedisStore(redis_place(self.url), call_seconds=call_seconds)
        return PostgresStore(postgres_place(self.url), call_seconds=call_seconds)

    @asynccontextmanager
    async def opened(self, *, call_seconds: float = 10.0) -> AsyncIterator[NetworkStore]:
        store = self.open(call_seconds=call_seconds)
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(params=["postgres", "valkey"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    name = servers.new_name()
    if request.param == "postgres":
        database: servers.Postgres = request.getfixturevalue("postgres")
        with proxy(socket_of(database.folder)) as between:
            address = f"postgresql://postgres:secret@127.0.0.1:{between.port}/postgres"
            yield Site(between, f"{address}?namespace={name}&sslmode=disable&gssencmode=disable")
    else:
        server: servers.Redis = request.getfixturevalue("valkey")
        with proxy(("127.0.0.1", server.port)) as between:
            yield Site(between, f"redis://127.0.0.1:{between.port}/0?namespace={name}")


def told(conflict: Conflict) -> Delta:
    assert conflict.delta is not None, "a conflict brings the news along"
    return conflict.delta


async def hint(news: AsyncIterator[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await anext(news)


async def back(store: NetworkStore) -> Version:
    """Wait until the store is back, and return its version."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return (await store.load()).version
            except StoreUnavailable:
                await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_a_commit_or_its_conflict_with_the_news_is_one_round_trip(site: Site) -> None:
    async with site.opened() as store:
        version = await store.commit((await store.load()).version, tag(), head(1), [row("a", 1)])
        for number in range(2, 5):
            before = site.proxy.trips
            version = await store.commit(version, tag(), head(number), [row("a", number), row("b", number)])
            assert site.proxy.trips == before + 1
        before = site.proxy.trips
        with pytest.raises(Conflict) as raised:
            await store.commit(EMPTY, tag(), head(9), [row("a", 9)])
        assert told(raised.value).version == version
        assert site.proxy.trips == before + 1


@pytest.mark.asyncio
async def test_a_lost_answer_is_settled_by_the_tag(site: Site) -> None:
    async with site.opened() as store:
        await store.commit(EMPTY, "", head(1), [])
        site.proxy.lose_answer()
        with pytest.raises(StoreUnavailable, match="out of reach"):
            await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        assert await store.find("one", EMPTY) == Version(1, "one")
        second = await store.commit(Version(1, "one"), "two", head(2), [row("a", 2)])
        assert (await store.load()).version == second


@pytest.mark.asyncio
async def test_a_lost_request_did_nothing(site: Site) -> None:
    async with site.opened() as store:
        await store.commit(EMPTY, "", head(1), [])
        site.proxy.lose_request()
        with pytest.raises(StoreUnavailable):
            await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        assert await store.find("one", EMPTY) is None
        assert await store.commit(EMPTY, "other", head(1), [row("a", 1)]) == Version(1, "other")


@pytest.mark.asyncio
async def test_who_only_reads_does_not_notice_that_an_idle_connection_died(site: Site) -> None:
    async with site.opened() as store:
        made = await store.commit(EMPTY, "one", head(1), [row("a", 1, kind="limit")])
        for ask in (
            lambda: store.commit(made, "", head(1), []),
            lambda: store.changes_since(made),
            lambda: store.find("one", EMPTY),
            store.load,
            lambda: store.recent(1),
        ):
            site.proxy.cut()
            await ask()


@pytest.mark.asyncio
async def test_a_store_that_is_silent_is_not_waited_for_long(site: Site) -> None:
    async with site.opened(call_seconds=0.3) as store:
        made = await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        site.proxy.stall()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(StoreUnavailable, match="it took too long to get an answer"):
                await store.commit(made, "two", head(2), [row("a", 2)])
        site.proxy.flow()
        version = await back(store)
        assert version in {made, Version(2, "two")}, "nobody can know"
        assert await store.find("two", made) == (None if version == made else version)


@pytest.mark.asyncio
async def test_who_is_cancelled_leaves_a_store_that_works(site: Site) -> None:
    async with site.opened() as store:
        made = await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        site.proxy.stall()
        asking = asyncio.create_task(store.changes_since(made))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        site.proxy.flow()
        assert (await store.changes_since(made)).version == made


@pytest.mark.asyncio
async def test_who_is_cancelled_before_its_turn_breaks_nobody_elses_call(site: Site) -> None:
    async with site.opened() as store:
        made = await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        site.proxy.stall()
        committing = asyncio.create_task(store.commit(made, "two", head(2), [row("a", 2)]))
        reading = asyncio.create_task(store.recent(1))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        site.proxy.flow()
        assert await committing == Version(2, "two")


@pytest.mark.asyncio
async def test_a_store_out_of_reach_says_so_and_is_used_again_when_it_is_back(site: Site) -> None:
    async with site.opened() as store:
        made = await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        site.proxy.refuse()
        for ask in (store.load, lambda: store.commit(made, tag(), head(2), [row("a", 2)])):
            with pytest.raises(StoreUnavailable) as raised:
                await ask()
            assert "out of reach" in str(raised.value)
            assert "secret" not in str(raised.value)
        assert store.clock() > 0, "time goes on"
        site.proxy.flow()
        assert await back(store) == made


@pytest.mark.asyncio
async def test_a_watch_hears_of_others_and_outlives_its_connection(site: Site) -> None:
    async with site.opened() as store, site.opened() as other:
        version = (await store.load()).version
        news = store.watch()
        for number in range(1, 4):
            await other.load()
            made = await other.commit(version, tag(), head(number), [row("a", number)])
            while (delta := await store.changes_since(version)).version != made:
                await hint(news)
            version = delta.version
            site.proxy.cut()
        quiet = asyncio.ensure_future(anext(news))
        await other.load()
        made = await other.commit(version, tag(), head(9), [row("a", 9)])
        async with asyncio.timeout(PATIENCE_S):
            await quiet
        assert (await store.changes_since(version)).version == made
        await store.close()


@pytest.mark.asyncio
async def test_news_come_at_once(site: Site) -> None:
    async with site.opened() as store, site.opened() as other:
        version = (await store.load()).version
        await other.load()
        news = store.watch()
        waits: list[float] = []
        loop = asyncio.get_running_loop()
        for number in range(20):
            heard = asyncio.ensure_future(anext(news))
            await asyncio.sleep(0.02)
            began = loop.time()
            version = await other.commit(version, tag(), head(number), [row("a", number)])
            async with asyncio.timeout(PATIENCE_S):
                await heard
            waits.append(loop.time() - began)
            await store.changes_since(EMPTY)
        assert sorted(waits)[10] < 0.5, "half of what looking once a second would give"


@pytest.mark.asyncio
async def test_after_two_lost_races_a_server_wins(site: Site) -> None:
    """Somebody else commits between each of its tries, as fast as it can."""
    async with site.opened() as slow, site.opened() as fast:
        version = (await slow.load()).version
        newest = version
        lost = 0
        while True:
            rival = asyncio.ensure_future(fast.commit(newest, tag(), head(1), [row("b", lost)]))
            if lost < 2:
                newest = await rival
            else:
                await asyncio.sleep(0.01)
            try:
                version = await slow.commit(version, tag(), head(2), [row("a", lost)])
                break
            except Conflict as conflict:
                version = newest = told(conflict).version
                lost += 1
        assert lost <= 3
        with pytest.raises(Conflict):
            await rival


@pytest.mark.asyncio
async def test_a_turn_that_is_not_used_keeps_nobody_out(site: Site) -> None:
    """Its server was stopped, say; when it goes on it commits nothing stale."""
    async with site.opened() as stopped, site.opened() as other:
        stale = version = (await stopped.load()).version
        for number in range(3):
            newest = await other.commit(version, tag(), head(number), [row("b", number)])
            with pytest.raises(Conflict):
                await stopped.commit(version, tag(), head(9), [row("a", 1)])
            stale, version = version, newest
        if (timer := getattr(stopped, "_turn_ends", None)) is not None:
            timer.cancel()  # a server that is stopped does not give up its turn either
        async with asyncio.timeout(4):
            version = await other.commit(version, tag(), head(8), [row("b", 8)])
        with pytest.raises((Conflict, StoreUnavailable)):
            await stopped.commit(stale, tag(), head(9), [row("a", 1)])
        assert (await stopped.load()).version == version


# --- the server itself


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["postgres", "valkey"])
@pytest.mark.asyncio
async def test_a_server_that_was_started_again_has_what_was_confirmed(kind: str, how: int) -> None:
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with (
        servers.postgres(servers.wheel_postgres())
        if kind == "postgres"
        else servers.redis(servers.wheel_redis(), *durable)
    ) as server:
        store = open_network_store(server.url())
        news = store.watch()
        version = EMPTY
        for number in range(20):
            version = await store.commit(version, tag(), head(number), [row("a", number)])
        server.end(how)
        with pytest.raises(StoreUnavailable):
            await store.commit(version, tag(), Head(), [])
        await hint(news)  # "look": whoever does hears why
        server.start()
        assert await back(store) == version
        version = await store.commit(version, tag(), head(99), [row("a", 99)])
        assert (await store.changes_since(version)).version == version
        await store.close()
