"""Redis and Valkey alone: what is refused, what a full or forgetful server does, and what its keys are."""

import contextlib
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from ebbgate.errors import InvalidRequest, StoreUnavailable
from ebbgate.stores import codec, open_network_store, redis_wire
from ebbgate.stores.base import EMPTY, Conflict, LostTail, Version
from ebbgate.stores.redis import RedisStore
from ebbgate.stores.redis_url import KINDS, place_of
from ebbgate.testing.stores import head, row, tag
from tests.stores import servers
from tests.stores.opened import opened_as, refusal


def opened(url: str) -> AbstractAsyncContextManager[RedisStore]:
    return opened_as(RedisStore, url)


def test_a_url_is_taken_apart() -> None:
    place = place_of("redis://me:hunter2@cache:6380/3?namespace=jobs")
    assert str(place) == "redis://me@cache:6380/3 (namespace jobs)"
    assert "hunter2" not in repr(place)
    assert place.key("log") == "ebbgate:{jobs}:log"
    assert place_of("valkey://cache").namespace == "default"
    assert place_of("valkeys://cache").options["connection_class"].__name__ == "SSLConnection"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@cache/x",
        "redis://:hunter2@cache:port",
        "redis://:hunter2@cache?namespace=a}b",
        "redis://:hunter2@cache?nonsense=1",
        "redis://:hunter2@cache?socket_timeout=x",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        open_network_store(url)
    assert "hunter2" not in str(raised.value)


def test_every_kind_of_record_has_a_hash() -> None:
    assert set(KINDS) == set(codec._DECODERS)


@pytest.mark.asyncio
async def test_what_is_wrong_with_the_server_is_said(valkey: servers.Redis) -> None:
    assert "is the server running" in await refusal("redis://:hunter2@127.0.0.1:1")
    valkey.ask("ACL", "SETUSER", "weak", "on", ">hunter2", "~*", "+@connection")
    assert "does not allow" in await refusal(f"redis://weak:hunter2@127.0.0.1:{valkey.port}")
    assert "refuses user or password" in await refusal(f"redis://weak:hunter2x@127.0.0.1:{valkey.port}")
    name = servers.new_name()
    valkey.ask("SET", f"ebbgate:{{{name}}}:head", "something else")
    assert "are something else" in await refusal(valkey.url(name))
    name = servers.new_name()
    valkey.ask("HSET", f"ebbgate:{{{name}}}:head", "format", "99")
    assert "newer ebbgate" in await refusal(valkey.url(name))


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl", "noeviction"])
@pytest.mark.asyncio
async def test_a_server_that_drops_keys_is_refused(policy: str) -> None:
    with servers.redis(servers.wheel_redis(), "--maxmemory-policy", policy, "--maxmemory", "50mb") as server:
        if policy.startswith("allkeys"):
            assert "drops any key" in await refusal(server.url())
        else:
            async with opened(server.url()) as store:
                assert (await store.load()).version == EMPTY


@pytest.mark.asyncio
async def test_a_replica_is_refused(valkey: servers.Redis) -> None:
    with servers.redis(servers.wheel_redis(), "--replicaof", "127.0.0.1", str(valkey.port)) as replica:
        assert "is a replica" in await refusal(replica.url())


@pytest.mark.asyncio
async def test_an_old_server_is_refused_and_one_without_a_file_is_warned_of(
    valkey: servers.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(valkey.url()) as store:
        await store.load()
        valkey.cut_connections()
        await store.load()
    assert [record.getMessage().count("set appendonly yes") for record in caplog.records] == [1], "once"
    monkeypatch.setattr(redis_wire, "REDIS_MIN", 99)
    assert "Redis 7 or Valkey 8 is needed" in await refusal(valkey.url())


@pytest.mark.asyncio
async def test_a_full_server_refuses_a_commit_as_a_whole_and_still_answers() -> None:
    with servers.redis(servers.wheel_redis(), "--maxmemory-policy", "noeviction") as server:
        async with opened(server.url()) as store:
            made = await store.commit(EMPTY, "one", head(1), [row("a", 1)])
            server.ask("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(StoreUnavailable, match="is full"):
                await store.commit(made, "two", head(2), [row("a", 2), row("b", 2)])
            assert await store.find("two", made) is None
            assert await store.commit(made, "", head(1), []) == made
            assert (await store.load()).rows == [row("a", 1)]
            with pytest.raises(Conflict):
                await store.commit(EMPTY, "three", head(1), [row("a", 3)])
            server.ask("CONFIG", "SET", "maxmemory", "0")
            await store.commit(made, "two", head(2), [row("a", 2)])


@pytest.mark.asyncio
async def test_a_server_that_forgot_the_script_is_told_again(valkey: servers.Redis) -> None:
    async with opened(valkey.url()) as store:
        made = await store.commit(EMPTY, "one", head(1), [row("a", 1)])
        valkey.ask("SCRIPT", "FLUSH")
        assert await store.commit(made, "two", head(1), [row("a", 2)]) == Version(2, "two")


@pytest.mark.asyncio
async def test_all_keys_of_a_namespace_are_on_one_node_and_can_be_read(valkey: servers.Redis) -> None:
    name = servers.new_name()
    async with opened(valkey.url(name)) as store:
        await store.commit(EMPTY, "one", head(1), [row("a", 1), row("db", 1, kind="limit")])
    for what in ("head", "log", "news", "lease", "limit"):
        assert valkey.ask("EXISTS", f"ebbgate:{{{name}}}:{what}") == ":1\r\n"
    assert '{"id": "a", "value": 1}' in valkey.ask("HGETALL", f"ebbgate:{{{name}}}:lease")


@pytest.mark.asyncio
async def test_commits_that_a_crash_took_back_are_noticed(tmp_path: Path) -> None:
    """As with everysec: the file ends before what was answered. Part of a commit is never there."""
    with servers.redis(servers.wheel_redis(), "--appendonly", "yes", "--appendfsync", "always") as server:
        url = server.url()
        async with opened(url) as store:
            version = EMPTY
            for number in range(10):
                version = await store.commit(
                    version, f"{number}", head(number), [row("a", number), row("b", number)]
                )
            server.end(signal.SIGKILL)
            (file,) = (server.log.parent / "appendonlydir").glob("*.incr.aof")
            with file.open("r+b") as tail:
                tail.truncate(file.stat().st_size - 1_500)
            server.start()
            with contextlib.suppress(StoreUnavailable):
                await store.load()
            left = await store.load()
            assert 0 < left.version.number < version.number
            assert left.rows[0].body == row("a", left.version.number - 1).body
            assert left.rows[1].body == row("b", left.version.number - 1).body
            with pytest.raises(LostTail):
                await store.changes_since(version)
            for number in range(left.version.number, 12):
                left = left._replace(
                    version=await store.commit(left.version, tag(), head(number), [row("a", 0)])
                )
            with pytest.raises(LostTail):
                await store.changes_since(version)
            with pytest.raises(Conflict):
                await store.commit(version, tag(), head(1), [])
