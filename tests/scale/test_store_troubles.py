"""The store dies, restarts, or loses its last commits: nothing is granted on a guess, and all goes on by itself."""

import json
import logging
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from ebbgate import Client
from ebbgate.errors import ConcurrencySlotAcquisitionError
from tests.client.remote.support import pass_time, wait_until
from tests.serving import ServedInThread, served
from tests.stores import servers
from tests.stores.proxy import proxy, socket_of

pytestmark = pytest.mark.slow


@dataclass
class Shared:
    """A database of one's own, and two servers on it."""

    database: servers.Postgres | servers.Redis
    here: ServedInThread
    there: ServedInThread


def _on(database: servers.Postgres | servers.Redis) -> Iterator[Shared]:
    url = database.url()
    with served(url, recovery_grace_seconds=2.0) as here, served(url, recovery_grace_seconds=2.0) as there:
        yield Shared(database, here, there)


@pytest.fixture(params=["postgres", "valkey"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    if request.param == "postgres":
        with servers.postgres(servers.wheel_postgres()) as postgres:
            yield from _on(postgres)
    else:
        with durable_valkey() as valkey:
            yield from _on(valkey)


def durable_valkey() -> AbstractContextManager[servers.Redis]:
    return servers.redis(servers.wheel_redis(), "--appendonly", "yes", "--appendfsync", "always")


def ready(server: ServedInThread) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz") as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["detail"]


def metric(server: ServedInThread, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_without_its_store_a_server_grants_nothing_says_so_and_recovers(shared: Shared) -> None:
    with Client(shared.here.url) as client, Client(shared.there.url) as other:
        client.create_limit("db", 2)
        with client.concurrency("db", lease_duration=60) as kept:
            with other.concurrency("db"):
                shared.database.end(signal.SIGKILL)
                wait_until(lambda: ready(shared.here)[0] == ready(shared.there)[0] == 503)
                assert "out of reach" in ready(shared.here)[1]
                assert metric(shared.here, "ebbgate_ready") == 0
                began = time.monotonic()
                with (
                    pytest.raises(ConcurrencySlotAcquisitionError),
                    client.concurrency("db", timeout_seconds=1),
                ):
                    pass
                assert time.monotonic() - began < 10
            with ThreadPoolExecutor(1) as pool:
                waits = pool.submit(take, other)
                shared.database.start()
                token = waits.result(20)
            wait_until(lambda: ready(shared.here)[0] == ready(shared.there)[0] == 200)
            assert not kept.lost
            assert token > kept.fencing_token
            wait_until(lambda: client.read_limit("db").held_slots == 1)


def take(client: Client) -> int:
    with client.concurrency("db") as lease:
        return lease.fencing_token


def test_who_waits_keeps_its_place_while_the_store_is_away_and_is_told_so(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbgate")
    with Client(shared.here.url) as client, Client(shared.there.url) as other:
        client.create_limit("db", 1)
        order: list[int] = []

        def wait(who: Client, number: int) -> None:
            with who.concurrency("db"):
                order.append(number)

        with ThreadPoolExecutor(4) as pool, client.concurrency("db", lease_duration=60):
            for number in range(4):
                pool.submit(wait, (client, other)[number % 2], number)
                wait_until(lambda number=number: client.read_limit("db").waiting == number + 1)  # type: ignore[misc]
            shared.database.end(signal.SIGKILL)
            wait_until(lambda: ready(shared.here)[0] == 503)
            wait_until(lambda: "who waits keeps its place" in caplog.text)
            shared.database.start()
            wait_until(lambda: ready(shared.here)[0] == ready(shared.there)[0] == 200)
        assert order == [0, 1, 2, 3]


def test_clients_of_a_server_that_lost_the_store_move_within_a_second(shared: Shared) -> None:
    """It lives and says so, and another one can reach the store."""
    database = shared.database
    target = (
        socket_of(database.folder) if isinstance(database, servers.Postgres) else ("127.0.0.1", database.port)
    )
    namespace = servers.new_name()
    with proxy(target) as between:
        through = (
            f"postgresql://postgres@127.0.0.1:{between.port}/postgres?namespace={namespace}"
            "&sslmode=disable&gssencmode=disable"
            if isinstance(database, servers.Postgres)
            else f"redis://127.0.0.1:{between.port}/0?namespace={namespace}"
        )
        with served(through) as cut_off, served(database.url(namespace)) as healthy:
            with Client(cut_off.url) as first:
                first.create_limit("db", 1)
            with Client(f"{cut_off.url},{healthy.url}") as client, Client(healthy.url) as witness:
                order: list[int] = []

                def wait(number: int) -> None:
                    with client.concurrency("db"):
                        order.append(number)

                with ThreadPoolExecutor(3) as pool, client.concurrency("db", lease_duration=60) as kept:
                    for number in range(3):
                        pool.submit(wait, number)
                        wait_until(lambda number=number: witness.read_limit("db").waiting == number + 1)  # type: ignore[misc]
                    between.refuse()
                    wait_until(lambda: ready(cut_off)[0] == 503)
                    began = time.monotonic()
                    assert client.read_limit("db").waiting == 3
                    assert time.monotonic() - began < 10, "it does not stay with the one that lost the store"
                    assert not kept.lost
                assert order == [0, 1, 2]
                between.flow()
                wait_until(lambda: ready(cut_off)[0] == 200)


@dataclass
class Unwritable:
    """A store that can be read all the time, and sometimes not written."""

    url: str
    fill: Callable[[], object]
    make_room: Callable[[], object]


@pytest.fixture(params=["postgres", "valkey"])
def unwritable(request: pytest.FixtureRequest) -> Iterator[Unwritable]:
    if request.param == "valkey":
        with servers.redis(servers.wheel_redis(), "--maxmemory-policy", "noeviction") as valkey:
            room = ("CONFIG", "SET", "maxmemory")
            yield Unwritable(valkey.url(), lambda: valkey.ask(*room, "1"), lambda: valkey.ask(*room, "0"))
        return
    postgres: servers.Postgres = request.getfixturevalue("postgres")
    schema = f"s{servers.new_name()}"

    def fill() -> None:
        postgres.execute(
            f"CREATE FUNCTION {schema}.no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        postgres.execute(
            f"CREATE TRIGGER no_room BEFORE INSERT ON {schema}.log FOR EACH ROW EXECUTE FUNCTION {schema}.no_room()"
        )

    yield Unwritable(
        postgres.url(schema=schema), fill, lambda: postgres.execute(f"DROP TRIGGER no_room ON {schema}.log")
    )


def test_a_store_that_is_full_is_not_ready_until_it_takes_a_commit(unwritable: Unwritable) -> None:
    """To read it is no proof; and what nobody could renew meanwhile does not expire when there is room again."""
    with (
        served(unwritable.url, recovery_grace_seconds=2.0) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as caller,
    ):
        assert caller.post("/v1/limits", json={"name": "db", "limit": 1}).status_code == 201
        asked = {"limits": [{"name": "db"}], "lease_duration_seconds": 2}
        lease = f"/v1/leases/{caller.post('/v1/leases', json=asked).json()['id']}"
        unwritable.fill()
        assert caller.post("/v1/leases", json=asked).status_code == 503
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            status, why = ready(server)
            assert status == 503
            assert "full" in why
            pass_time(0.05)
        assert caller.get(lease).json()["state"] == "held", "it can still be looked at"
        unwritable.make_room()
        wait_until(lambda: ready(server)[0] == 200)
        assert caller.get(lease).json()["state"] == "held"


def synced(valkey: servers.Redis) -> tuple[Path, int, float]:
    """Wait for a sync; return the append-only file, how much of it is on the disk at least, and when that was."""
    with redis.Redis(port=valkey.port) as connection:
        connection.set("last", "word")
        assert connection.execute_command("WAITAOF", 1, 0, 5_000) == [1, 0]
    at = time.monotonic()
    (file,) = (valkey.log.parent / "appendonlydir").glob("*.incr.aof")
    return file, file.stat().st_size, at


@pytest.mark.filterwarnings("ignore:this caller waits")  # for itself, among others
def test_a_power_cut_of_everysec_is_noticed_the_excess_is_bounded_and_everybody_renews(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Valkey runs with `everysec`, and all that is lost was confirmed within the second after a sync.

    To kill it alone loses nothing, for the kernel has what was written. So as a power cut would, the test cuts off
    what was not synced yet; that no sync came in between is certain, for the next one is a second later.
    """
    everysec = servers.redis(servers.wheel_redis(), "--appendonly", "yes", "--appendfsync", "everysec")
    with everysec as valkey, contextmanager(_on)(valkey) as shared, ExitStack() as held:
        client = held.enter_context(Client(shared.here.url))
        other = held.enter_context(Client(shared.there.url))
        client.create_limit("db", 3)
        client.create_limit("api", 5, slot_decay_per_second=0.001)
        early = held.enter_context(client.concurrency("db", lease_duration=60))
        with other.concurrency("db"):
            client.rate_limit("api", 1)
        ends = other.read_lease(early.id).expires
        assert ends is not None
        file, size, at = synced(valkey)
        forgotten = [held.enter_context(who.concurrency("db", lease_duration=60)) for who in (client, other)]
        client.rate_limit("api", 4)
        assert other.read_limit("db").held_slots == client.read_limit("db").held_slots == 3
        valkey.end(signal.SIGKILL)
        assert time.monotonic() - at < 0.7, "a sync may have come; this machine is too slow for this test"
        assert file.stat().st_size > size
        os.truncate(file, size)
        valkey.start()

        for server in (shared.here, shared.there):
            wait_until(lambda server=server: metric(server, "ebbgate_store_losses_total") == 1)  # type: ignore[misc]
        assert caplog.text.count("lost what it had confirmed") == 2
        # What was granted in the lost second may be granted again, and no more than that.
        again = [
            held.enter_context(who.concurrency("db", lease_duration=60, timeout_seconds=10))
            for who in (client, other)
        ]
        with pytest.raises(TimeoutError), client.concurrency("db", timeout_seconds=0.5):
            pass
        client.rate_limit("api", 4, timeout_seconds=10)
        with pytest.raises(TimeoutError):
            client.rate_limit("api", 1, timeout_seconds=0.5)
        wait_until(lambda: all(lease.lost for lease in forgotten), 5)
        assert min(lease.fencing_token for lease in again) > max(lease.fencing_token for lease in forgotten)
        # Everybody else has renewed.
        wait_until(lambda: (now := other.read_lease(early.id).expires) is not None and now > ends)
        assert not any(lease.lost for lease in (early, *again))
        assert {lease.id for lease in other.list_leases("db", "held")} == {
            lease.id for lease in (early, *again)
        }
