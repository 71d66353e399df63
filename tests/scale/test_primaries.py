"""The database's primary is lost and a standby takes over: what it had is kept, what it had not is noticed."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ebbgate import Client
from tests.client.remote.support import wait_until
from tests.scale.test_store_troubles import metric, ready
from tests.serving import served
from tests.stores import servers
from tests.stores.proxy import proxy

pytestmark = pytest.mark.slow


class Pair:
    """A primary and a standby that has all that the primary has confirmed, until it is cut off."""

    def __init__(self, primary: servers.Postgres, standby: servers.Postgres) -> None:
        self.primary, self.standby = primary, standby

    @property
    def url(self) -> str:
        """A new namespace, at whichever of them can be written."""
        hosts = f"{self.primary.folder},{self.standby.folder}"
        return (
            f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"
            f"&namespace={servers.new_name()}"
        )

    def cut_off(self) -> None:
        """Have the standby get nothing any more, and the primary not wait for it."""
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.primary.execute("SELECT pg_reload_conf()")
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not self.primary.execute("SELECT 1 FROM pg_stat_replication"))

    def fail_over(self) -> None:
        """Kill the primary, and have the standby take over."""
        self.primary.end(signal.SIGKILL)
        assert self.standby.execute("SELECT pg_promote()") == [(True,)]


@pytest.fixture
def pair() -> Iterator[Pair]:
    programs = servers.wheel_postgres()
    with servers.postgres(programs) as primary, servers.folder() as home:
        with (primary.folder / "data" / "pg_hba.conf").open("a") as rights:
            rights.write("local replication all trust\n")
        primary.execute("SELECT pg_reload_conf()")
        user = {**primary.user, "cwd": home}
        if "user" in user:
            home.chmod(0o755)
            os.chown(home, user["user"], user["group"])
        subprocess.run(
            [programs / "pg_basebackup", "-h", primary.folder, "-U", "postgres", "-D", home / "data", "-R", "-N",
             "-c", "fast"],
            check=True, capture_output=True, **user,
        )  # fmt: skip
        command = [word.replace(str(primary.folder), str(home)) for word in primary.command]
        standby = replace(primary, command=command, user=user, log=home / "log", folder=home, process=None)
        standby.start()
        try:
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
            wait_until(lambda: primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
            yield Pair(primary, standby)
        finally:
            standby.end(signal.SIGQUIT)


def test_a_synchronous_standby_takes_over_and_nothing_is_lost(pair: Pair) -> None:
    url = pair.url
    with served(url) as here, served(url) as there, Client(here.url) as client, Client(there.url) as other:
        client.create_limit("db", 1)
        client.create_limit("api", 2, slot_decay_per_second=0.001)
        client.rate_limit("api", 2)
        got_in = threading.Event()

        def wait() -> None:
            with other.concurrency("db"):
                got_in.set()

        waits = threading.Thread(target=wait)
        with client.concurrency("db", lease_duration=60) as kept:
            waits.start()
            wait_until(lambda: client.read_limit("db").waiting == 1)
            (place,) = client.list_waiters("db")
            pair.fail_over()
            wait_until(lambda: ready(here)[0] == ready(there)[0] == 200)
            assert [lease.id for lease in other.list_leases("db", "held")] == [kept.id]
            assert [waiter.id for waiter in client.list_waiters("db")] == [place.id]
            assert other.read_limit("api").spent_slots > 1.9
            assert not got_in.is_set()
            assert not kept.lost
        assert got_in.wait(10)
        waits.join()
        assert metric(here, "ebbgate_store_losses_total") == metric(there, "ebbgate_store_losses_total") == 0


@pytest.mark.filterwarnings("ignore:this caller waits")  # for itself, whose lease is lost
def test_a_standby_that_was_behind_takes_over_and_that_is_noticed(pair: Pair) -> None:
    url = pair.url
    with served(url, recovery_grace_seconds=2.0) as server, Client(server.url) as client:
        client.create_limit("db", 1)
        pair.cut_off()
        with client.concurrency("db", lease_duration=60) as forgotten:
            pair.fail_over()
            wait_until(lambda: metric(server, "ebbgate_store_losses_total") == 1)
            wait_until(lambda: ready(server)[0] == 200)
            wait_until(lambda: forgotten.lost, 10)
            with Client(server.url) as other, other.concurrency("db", timeout_seconds=10) as again:
                assert again.fencing_token > forgotten.fencing_token


def version_at(valkey: servers.Redis) -> str:
    return valkey.ask("HGET", "ebbgate:{default}:head", "version")


@pytest.mark.filterwarnings("ignore:this caller waits")  # for itself, whose lease is lost
def test_a_replica_of_valkey_that_was_behind_takes_over_and_that_is_noticed() -> None:
    """The servers are told the new primary by the address, which moves along."""
    program = servers.wheel_redis()
    with (
        servers.redis(program, "--repl-diskless-sync-delay", "0") as primary,
        servers.redis(program, "--replicaof", "127.0.0.1", str(primary.port)) as replica,
        proxy(("127.0.0.1", primary.port)) as address,
        served(f"redis://127.0.0.1:{address.port}", recovery_grace_seconds=2.0) as server,
        Client(server.url) as client,
    ):
        client.create_limit("db", 1)
        client.create_limit("kept", 1)
        with client.concurrency("kept", lease_duration=60) as early:
            wait_until(lambda: version_at(primary) == version_at(replica))
            replica.ask("REPLICAOF", "NO", "ONE")
            with client.concurrency("db", lease_duration=60) as forgotten:
                primary.ask("REPLICAOF", "127.0.0.1", str(replica.port))
                wait_until(lambda: "is a replica" in ready(server)[1])
                address.lead_to(("127.0.0.1", replica.port))
                wait_until(lambda: metric(server, "ebbgate_store_losses_total") == 1)
                wait_until(lambda: ready(server)[0] == 200)
                wait_until(lambda: forgotten.lost, 10)
                with Client(server.url) as other, other.concurrency("db", timeout_seconds=10) as again:
                    assert again.fencing_token > forgotten.fencing_token
            assert not early.lost
