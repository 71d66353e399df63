"""A store that takes a second for a commit: all goes on, late but bounded, and nothing is granted on a guess."""

import asyncio
import time
from dataclasses import dataclass

import pytest

from ebbgate import AsyncClient, Client
from ebbgate.errors import AcquireTimeout, ConcurrencySlotAcquisitionError, ServerUnavailable
from tests.client.remote.support import wait_until
from tests.scale.test_store_troubles import ready
from tests.serving import ServedInThread, served
from tests.stores import servers

pytestmark = pytest.mark.slow

SLOW_SECONDS = 1.0


@dataclass
class Slowable:
    """A PostgreSQL, with a schema of the test's own, that can be made slow."""

    postgres: servers.Postgres
    schema: str

    @property
    def url(self) -> str:
        """A new namespace."""
        return self.postgres.url(schema=self.schema)

    def slow_down(self) -> None:
        """Have every COMMIT that made a version wait, as for a disk, with all its locks held."""
        self.postgres.execute(
            f"CREATE FUNCTION {self.schema}.wait() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_sleep({SLOW_SECONDS}); RETURN NULL; END $$"
        )
        self.postgres.execute(
            f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {self.schema}.log DEFERRABLE INITIALLY DEFERRED "
            f"FOR EACH ROW EXECUTE FUNCTION {self.schema}.wait()"
        )

    def speed_up(self) -> None:
        """Have it as it was."""
        self.postgres.execute(f"DROP TRIGGER slow ON {self.schema}.log")

    def commits(self) -> int:
        """Return how many there were."""
        return int(self.postgres.execute(f"SELECT max(version) FROM {self.schema}.log")[0][0])


@pytest.fixture
def store(postgres: servers.Postgres) -> Slowable:
    return Slowable(postgres, f"s{servers.new_name()}")


def test_many_callers_share_a_slow_commit_and_never_hold_more_than_there_is(store: Slowable) -> None:
    inside = most = 0
    probed: set[tuple[int, str]] = set()

    async def take(client: AsyncClient) -> None:
        nonlocal inside, most
        async with client.concurrency("db"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.1)  # its work
            inside -= 1

    async def probe(*asked: ServedInThread) -> None:
        while True:
            for server in asked:
                probed.add(await asyncio.to_thread(ready, server))
            await asyncio.sleep(0.1)

    async def all_take(here: ServedInThread, there: ServedInThread) -> int:
        async with AsyncClient(here.url) as one, AsyncClient(there.url) as other:
            await one.create_limit("db", 20)
            for client in (one, other):
                await take(client)
            store.slow_down()
            probing = asyncio.create_task(probe(here, there))
            before = store.commits()
            await asyncio.gather(*(take(client) for client in (one, other) for _ in range(20)))
            used = store.commits() - before
            probing.cancel()
            store.speed_up()
        return used

    url = store.url
    with served(url) as here, served(url) as there:
        used = asyncio.run(all_take(here, there))
        print(f"{used} commits for 40 callers, {most} of them inside at once")
        assert 1 < most <= 20
        assert used <= 10, "each of 80 changes alone would take more than a minute"
        assert probed == {(200, "")}, "it is slow, not away"
        with Client(there.url) as client:
            wait_until(lambda: (limit := client.read_limit("db")).held_slots == limit.waiting == 0)


@pytest.mark.filterwarnings("ignore:this caller waits")  # for itself, yes
def test_whose_time_is_up_is_told_so_in_time_however_slow_the_store_is(store: Slowable) -> None:
    """Who had no answer at all by then cannot know that there was no room, only that nobody answered."""
    waited: dict[float, tuple[type[BaseException], float]] = {}

    async def give_up(client: AsyncClient, timeout_seconds: float) -> None:
        began = time.monotonic()
        with pytest.raises(ConcurrencySlotAcquisitionError) as raised:
            async with client.concurrency("db", timeout_seconds=timeout_seconds):
                pass
        waited[timeout_seconds] = (raised.type, time.monotonic() - began)

    async def all_give_up(server: ServedInThread) -> None:
        async with AsyncClient(server.url) as client:
            await client.create_limit("db", 1)
            async with client.concurrency("db", lease_duration=60) as kept:
                store.slow_down()
                await asyncio.gather(give_up(client, 0.2), give_up(client, 3.0))
                assert not kept.lost
                store.speed_up()

    with served(store.url) as server:
        asyncio.run(all_give_up(server))
        print(waited)
        assert {timeout: kind for timeout, (kind, _) in waited.items()} == {
            0.2: ServerUnavailable, 3.0: AcquireTimeout,
        }  # fmt: skip
        for timeout, (_, seconds) in waited.items():
            assert timeout - 0.01 <= seconds < timeout + SLOW_SECONDS
        with Client(server.url) as client:
            wait_until(lambda: (limit := client.read_limit("db")).held_slots == limit.waiting == 0)
