"""Eight client processes at three servers of one store; servers and database are killed: no promise is broken."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate.testing.checker import check
from tests.client.remote.support import pass_time
from tests.faults.shared_siege import siege_of_servers
from tests.faults.test_processes import with_less_room
from tests.faults.test_server_siege import SECONDS, judge, seed_of
from tests.stores import servers


@pytest.fixture(params=["postgres", "valkey"])
def database(request: pytest.FixtureRequest) -> Iterator[servers.Postgres | servers.Redis]:
    """A database that keeps what it has confirmed when it is killed."""
    if request.param == "postgres":
        with servers.postgres(servers.wheel_postgres()) as postgres:
            yield postgres
    else:
        with servers.redis(servers.wheel_redis(), "--appendonly", "yes", "--appendfsync", "always") as valkey:
            yield valkey


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_no_promise_is_broken_when_servers_and_their_database_are_killed(
    folder: Path, database: servers.Postgres | servers.Redis
) -> None:
    with siege_of_servers(folder, seed_of("shared"), database) as laid:
        laid.begin()
        until = time.monotonic() + SECONDS
        laid.harass()
        deeds = 0
        while time.monotonic() < until:
            pass_time(laid.chance.uniform(1.0, 2.0))
            # However short the siege is, a server is killed, then the database, then connections to it are cut.
            deed = (0.0, 0.8, 1.0)[deeds] if deeds < 3 else laid.chance.random()
            deeds += 1
            if deed < 0.4:
                laid.kill_server(laid.chance.choice([0.0, 0.5, 1.5]))
            elif deed < 0.6:
                laid.drain_server()
            elif deed < 0.8:
                laid.stop_server(laid.chance.choice([1.5, 4.0]))
            elif deed < 0.85:
                laid.kill_database(laid.chance.choice([0.0, 1.0]))
            elif deed < 0.9:
                laid.restart_database()
            else:
                laid.cut_database_off()
        report = laid.finish()
    print(report)
    judge(report)
    assert check(with_less_room(report.events)), "the proof can fail"
