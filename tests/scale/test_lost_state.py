"""A store that comes back with less than it had confirmed is recognized by what its clients know."""

import os
import signal
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.errors import AcquireTimeout
from tests.client.remote.support import wait_until
from tests.scale.conftest import ServerProcess, several
from tests.stores import servers

GRACE = ("--recovery-grace", "4")


def is_closed(client: Client) -> bool:
    try:
        with client.concurrency("db", timeout_seconds=0):
            return False
    except AcquireTimeout:
        return True


def recovers(client: Client) -> bool:
    return "lost committed state" in (client.read_limit("db").cool_down_why or "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:this caller waits")  # for itself, whose lease is lost
def test_a_file_whose_log_was_removed_grants_nothing_before_its_holders_had_time_to_return(
    tmp_path: Path,
) -> None:
    path = tmp_path / "limits.db"
    server = ServerProcess(tmp_path, f"sqlite:///{path}", *GRACE)
    try:
        with Client(server.url) as holder, Client(server.url) as other:
            holder.create_limit("db", 1)
            server.end()  # all of it is in the file now
            server.start()
            with holder.concurrency("db", lease_duration=60) as lease:
                server.kill()
                for name in ("limits.db-wal", "limits.db-shm"):
                    (tmp_path / name).unlink()
                server.start()
                wait_until(lambda: recovers(other))
                assert is_closed(other)
                wait_until(lambda: lease.lost)  # the store does not know it any more, and says so
                with other.concurrency("db", timeout_seconds=30) as again:
                    assert again.fencing_token > lease.fencing_token
        assert "lost" in server.log.read_text()
    finally:
        server.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:this caller waits")  # for itself, whose lease is lost
def test_servers_that_restart_after_valkey_lost_its_tail_grant_nothing_twice(tmp_path: Path) -> None:
    appends = ("--appendonly", "yes", "--appendfsync", "always")
    with servers.redis(servers.wheel_redis(), *appends) as valkey:
        url = valkey.url("n")
        all_of_them = [ServerProcess(tmp_path, url, *GRACE) for _ in range(3)]
        try:
            with Client(several(*all_of_them)) as holder, Client(several(*all_of_them)) as other:
                holder.create_limit("db", 1)
                is_closed(other)
                (file,) = (valkey.log.parent / "appendonlydir").glob("*.incr.aof")
                size = file.stat().st_size
                with holder.concurrency("db", lease_duration=60) as lease:
                    for server in all_of_them:
                        server.kill()
                    valkey.end(signal.SIGKILL)
                    os.truncate(file, size)
                    valkey.start()
                    for server in all_of_them:
                        server.start()
                    wait_until(lambda: recovers(other))
                    assert is_closed(other)
                    wait_until(lambda: lease.lost)
                    with other.concurrency("db", timeout_seconds=30) as again:
                        assert again.fencing_token > lease.fencing_token
            assert any("lost" in server.log.read_text() for server in all_of_them)
        finally:
            for server in all_of_them:
                server.kill()
