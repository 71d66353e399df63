"""PostgreSQL alone: its URL, its rights, its schema, and what a pooler does to it."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psycopg
import pytest

from ebbgate.errors import InvalidRequest, StoreUnavailable
from ebbgate.stores import open_network_store, open_store, postgres_schema
from ebbgate.stores.base import EMPTY, LostTail, Version
from ebbgate.stores.postgres import PostgresStore
from ebbgate.stores.postgres_schema import migrations
from ebbgate.stores.postgres_url import place_of
from ebbgate.testing.stores import gone, head, row, tag
from tests.stores import servers
from tests.stores.opened import opened_as, refusal


def opened(url: str) -> AbstractAsyncContextManager[PostgresStore]:
    return opened_as(PostgresStore, url)


# --- URLs


def test_a_url_is_taken_apart() -> None:
    place = place_of("postgresql://me:hunter2@db:5433/app?namespace=a.b-c&schema=mine&sslmode=require")
    assert (place.schema, place.namespace) == ("mine", "a.b-c")
    assert (place.conninfo["host"], place.conninfo["sslmode"]) == ("db", "require")
    assert place.listen == place.conninfo
    assert str(place) == "postgresql://me@db:5433/app (schema mine, namespace a.b-c)"
    assert place_of("postgres://db").namespace == "default"
    through = place_of("postgres://pooler:6432/app?listen=db:5432")
    assert (through.listen["host"], through.listen["port"]) == ("db", "5432")
    assert (through.conninfo["host"], through.conninfo["port"]) == ("pooler", "6432")
    assert "hostaddr" not in place_of("postgres://pooler/app?hostaddr=10.0.0.1&listen=db:5432").listen


def test_what_is_not_ours_in_a_url_reaches_the_database_as_it_is_written() -> None:
    place = place_of("postgresql://db/app?options=-c%20work_mem%3D4MB&namespace=a&password=one+two%2B&")
    assert place.namespace == "a"
    assert place.conninfo["options"] == "-c work_mem=4MB"
    assert place.conninfo["password"] == "one+two+"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://me:hunter2@db/app?namespace=", "with a value"),
        ("postgresql://me:hunter2@db/app?namespace=a&namespace=b", "one namespace="),
        ("postgresql://me:hunter2@db/app?namespace={x}", "can be no namespace"),
        ("postgresql://me:hunter2@db/app?schema=a-b", "can be no schema"),
        ("postgresql://me:hunter2@db/app?listen=db", "write listen=host:port"),
        ("postgresql://me:hunter2@db/app?nonsense=1", "not one that PostgreSQL understands"),
        ("postgresql://me:hunter2@[db/app", "understand|Invalid IPv6"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises((InvalidRequest, ValueError), match=why) as raised:
        open_network_store(url)
    assert "hunter2" not in str(raised.value)


def test_a_store_for_servers_is_no_store_of_one_machine() -> None:
    with pytest.raises(InvalidRequest, match="ebbgate serve"):
        open_store("postgresql://me:hunter2@db/app")
    with pytest.raises(InvalidRequest, match="postgresql://user@host"):
        open_network_store("sqlite:///x.db")


# --- rights and servers


@pytest.mark.asyncio
async def test_a_note_of_somebody_elses_does_not_end_the_listening(postgres_url: Callable[[], str]) -> None:
    url = postgres_url()
    async with opened(url) as store, opened(url) as other:
        version = (await store.load()).version
        await other.load()
        news = store.watch()
        heard = asyncio.ensure_future(anext(news))
        async with asyncio.timeout(20):
            with psycopg.connect(**place_of(url).conninfo, autocommit=True) as stranger:
                while not heard.done():  # it listens from some moment on
                    stranger.execute("SELECT pg_notify(%s, 'nonsense')", (place_of(url).channel,))
                    await asyncio.sleep(0.02)
            await heard
        heard = asyncio.ensure_future(anext(news))
        await other.commit(version, tag(), head(1), [row("a", 1)])
        async with asyncio.timeout(20):
            await heard


@pytest.mark.asyncio
async def test_what_is_wrong_with_the_server_is_said(postgres: servers.Postgres) -> None:
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        postgres.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    host = f"host={postgres.folder}"
    assert "refuses the password" in await refusal(f"postgresql://locked:hunter2@/postgres?{host}")
    assert "no such database" in await refusal(f"postgresql://postgres@/nowhere?{host}")
    assert "is the server running" in await refusal("postgresql://me:hunter2@127.0.0.1:1/postgres")
    assert "may not be used by this user" in await refusal(
        f"postgresql://locked:right@/postgres?{host}&schema=s{servers.new_name()}"
    )


@pytest.mark.asyncio
async def test_the_password_may_stand_in_a_file(postgres: servers.Postgres, tmp_path: Path) -> None:
    schema = f"s{servers.new_name()}"
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        postgres.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    postgres.execute(f"CREATE SCHEMA {schema} AUTHORIZATION locked")
    (passfile := tmp_path / "pgpass").write_text("*:*:*:locked:right\n")
    passfile.chmod(0o600)
    url = f"postgresql://locked@/postgres?host={postgres.folder}&schema={schema}&passfile={passfile}"
    async with opened(url) as store:
        assert (await store.load()).version == EMPTY


@pytest.mark.asyncio
async def test_a_read_only_or_unfit_database_is_refused(postgres: servers.Postgres) -> None:
    names = [servers.new_name() for _ in range(2)]
    postgres.execute(f"CREATE DATABASE {names[0]}")
    postgres.execute(f"ALTER DATABASE {names[0]} SET default_transaction_read_only = on")
    postgres.execute(f"CREATE DATABASE {names[1]} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    host = f"host={postgres.folder}"
    assert "is read-only" in await refusal(f"postgresql://postgres@/{names[0]}?{host}")
    assert "keeps text as LATIN1" in await refusal(f"postgresql://postgres@/{names[1]}?{host}")


@pytest.mark.asyncio
async def test_an_old_server_is_refused(postgres: servers.Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_schema, "SERVER_MIN", 99)
    assert "99 or newer is needed" in await refusal(postgres.url())


@pytest.mark.asyncio
async def test_a_database_that_isolates_more_is_as_good(postgres: servers.Postgres) -> None:
    name = servers.new_name()
    postgres.execute(f"CREATE DATABASE {name}")
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    url = f"postgresql://postgres@/{name}?host={postgres.folder}"
    async with opened(url) as one, opened(url) as two:
        version = (await one.load()).version
        await two.load()
        for number in range(5):
            made = [
                one.commit(version, tag(), head(1), [row("a", 1)]),
                two.commit(version, tag(), head(1), []),
            ]
            results = await asyncio.gather(*made, return_exceptions=True)
            assert isinstance(results[0], Version)
            version = results[0]
            assert version.number == number + 1


# --- the schema


def test_every_step_notes_its_own_number() -> None:
    noted = [
        re.findall(r"INTO migration \(number, works_from\) VALUES \((\d+), \d+\)", step)
        for step in migrations()
    ]
    assert noted == [[str(number)] for number in range(1, len(noted) + 1)]


@pytest.mark.asyncio
async def test_many_servers_may_be_the_first(postgres: servers.Postgres) -> None:
    url = postgres.url(schema=f"s{servers.new_name()}")
    stores = [open_network_store(url) for _ in range(4)]
    loaded = await asyncio.gather(*(store.load() for store in stores))
    assert {snapshot.version for snapshot in loaded} == {EMPTY}
    for store in stores:
        await store.close()


@pytest.mark.asyncio
async def test_an_older_schema_is_refused_where_it_may_not_be_upgraded(postgres: servers.Postgres) -> None:
    url = postgres.url(schema=f"s{servers.new_name()}")
    careful = open_network_store(url, upgrade=False)
    with pytest.raises(StoreUnavailable, match="run `ebbgate store upgrade`"):
        await careful.load()
    async with opened(url) as store:
        await store.load()
    assert (await careful.load()).version == EMPTY
    await careful.close()


@pytest.mark.asyncio
async def test_a_newer_schema_is_used_if_it_says_so_and_refused_if_not(postgres: servers.Postgres) -> None:
    url = postgres.url(schema=(schema := f"s{servers.new_name()}"))
    known = len(migrations())
    async with opened(url) as store:
        await store.load()
        postgres.execute(f"INSERT INTO {schema}.migration (number, works_from) VALUES ({known + 1}, {known})")
    async with opened(url) as store:
        await store.load()
        postgres.execute(
            f"INSERT INTO {schema}.migration (number, works_from) VALUES ({known + 2}, {known + 1})"
        )
    assert "taken over by a newer ebbgate" in await refusal(url)


@pytest.mark.asyncio
async def test_namespaces_know_nothing_of_each_other(postgres: servers.Postgres) -> None:
    async with opened(postgres.url()) as one, opened(postgres.url()) as other:
        await one.commit(EMPTY, "one", head(1), [row("a", 1)])
        assert (await other.load()).rows == []
        assert await other.commit(EMPTY, "other", head(1), [row("b", 1)]) == Version(1, "other")
        assert len((await one.load()).rows) == 1


# --- sessions and poolers


@pytest.mark.asyncio
async def test_nothing_is_kept_in_a_session_so_a_pooler_may_change_it(postgres: servers.Postgres) -> None:
    async with opened(postgres.url()) as store, opened(postgres.url()) as rival:

        async def other_session() -> None:
            connection = store._link._connection
            assert connection is not None
            await connection.execute("DISCARD ALL")

        version = (await store.load()).version
        await rival.load()
        for number in range(8):
            await other_session()
            version = await store.commit(version, f"{number}", head(number), [row("a", number), gone("b")])
        await other_session()
        assert (await store.changes_since(EMPTY)).version == version
        await other_session()
        assert await store.find("7", Version(7, "6")) == version
        await other_session()
        assert await store.commit(version, "", head(1), []) == version
        assert postgres.execute("SELECT count(*) FROM pg_prepared_statements") == [(0,)]


# --- a database that lost commits


@pytest.mark.asyncio
async def test_a_restored_backup_is_noticed(postgres: servers.Postgres) -> None:
    url = postgres.url()
    async with opened(url) as store:
        first = await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        second = await store.commit(first, "two", head(2), [row("a", 2)])
        postgres.execute("DELETE FROM ebbgate.log WHERE tag = 'two'")
        with pytest.raises(LostTail):
            await store.changes_since(second)
        assert await store.find("two", first) is None
        other = await store.commit(first, "other", head(2), [row("a", 3)])
        with pytest.raises(LostTail):
            await store.changes_since(second)
        assert (await store.load()).version == other
