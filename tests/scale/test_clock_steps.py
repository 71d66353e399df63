"""A step of the wall clock of PostgreSQL or Valkey, one or many, adds nothing while a server runs."""

import time
from collections.abc import Callable, Iterator

import pytest

from ebbgate import Client
from ebbgate.errors import AcquireTimeout
from tests.client.remote.support import wait_until
from tests.scale.conftest import Launch
from tests.stores import servers

HOUR = 3_600.0
STEPS = {
    "an hour ahead": [HOUR],
    "an hour back": [-HOUR],
    "three days ahead": [72 * HOUR],
    "many small ones ahead": [0.9] * 8,
    "many small ones back": [-0.9] * 8,
    "there and back": [0.1, -0.1, HOUR, -HOUR, 5.0, -7.0],
}

Stepped = tuple[str, servers.WallClock, Callable[[], float]]


@pytest.fixture(params=["postgres", "valkey"])
def stepped(request: pytest.FixtureRequest) -> Iterator[Stepped]:
    """A store whose clock can be stepped, and by how many seconds it is on record to be ahead."""
    if servers.FAKETIME is None:
        pytest.skip(
            "NOT TESTED WITH A STEPPED CLOCK: libfaketime is not installed; first: sudo make setup-system"
        )
    with servers.wall_clock() as clock:
        if request.param == "postgres":
            with servers.postgres(servers.wheel_postgres(), clock=clock) as postgres:
                yield postgres.url("n"), clock, lambda: recorded_in(postgres)
        else:
            with servers.redis(servers.wheel_redis(), clock=clock) as valkey:
                yield valkey.url("n"), clock, lambda: recorded_at(valkey)


@pytest.fixture
def store(stepped: Stepped) -> str:
    return stepped[0]


def recorded_in(postgres: servers.Postgres) -> float:
    ((behind_us,),) = postgres.execute("SELECT behind_us FROM ebbgate.namespace WHERE name = 'n'")
    return float(behind_us) / 1e6


def recorded_at(valkey: servers.Redis) -> float:
    answer = valkey.ask("HGET", "ebbgate:{n}:head", "behind_us").split("\r\n")
    return 0.0 if answer[0] == "$-1" else float(answer[1]) / 1e6


def is_spent(client: Client) -> bool:
    try:
        client.rate_limit("api", timeout_seconds=0)
    except AcquireTimeout:
        return True
    return False


def is_closed(client: Client, name: str) -> bool:
    try:
        with client.concurrency(name, timeout_seconds=0):
            return False
    except AcquireTimeout:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_step_of_the_stores_clock_adds_nothing_at_running_new_and_restarted_servers(
    stepped: Stepped, launch: Launch, steps: list[float]
) -> None:
    _, clock, recorded = stepped
    server = launch()
    client = Client(server.url)
    client.create_limit("api", 3, slot_decay_per_second=3 / HOUR)
    client.create_limit("cooling", 1)
    client.create_limit("held", 1)
    client.create_limit("fast", 1, slot_decay_per_second=5.0)
    for _ in range(3):
        client.rate_limit("api", timeout_seconds=0)
    client.cool_down("cooling", 600, "told so")
    with client.concurrency("held", lease_duration=60) as lease:
        ahead = 0.0
        for by in steps:
            clock.step(by)
            ahead += by
            assert is_spent(client)
            assert is_closed(client, "cooling")
            assert is_closed(client, "held")
            wait_until(lambda expected=ahead: abs(recorded() - expected) < 0.09)  # type: ignore[misc]
        began, spent = time.monotonic(), 0
        while time.monotonic() - began < 2:
            client.rate_limit("fast")  # neither faster nor slower, and it does not stand still
            spent += 1
        assert spent <= 1 + 5 * (time.monotonic() - began) + 0.2
        other = Client(launch().url)
        server.kill()
        server.start()
        for each in (other, client):
            assert is_spent(each)
            assert is_closed(each, "cooling")
            assert is_closed(each, "held")
        assert not lease.lost
    assert not is_closed(other, "held")
