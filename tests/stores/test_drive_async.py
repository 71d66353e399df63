"""The engine on a store that is awaited: the same loop, the same answers, also when the network breaks."""

import asyncio
import os
import random
from collections.abc import Iterator, Sequence

import pytest

from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Command, Held, Hello, Outcome, PutLimit, Release
from ebbgate.core.model import SECOND
from ebbgate.engine.drive import drive_async
from ebbgate.engine.engine import Batch, Engine
from ebbgate.errors import StoreUnavailable
from ebbgate.stores import open_network_store
from tests.stores import servers
from tests.stores.proxy import Proxy, proxy, socket_of

SLOTS = 3
TIMES = 12


class Server:
    """What decides in one server: one batch at a time, asked again until it is answered."""

    def __init__(self, url: str) -> None:
        self.store = open_network_store(url)
        self.engine = Engine(Book(), new_tag=lambda: os.urandom(8).hex(), took_in=lambda _: None)
        self.turn = asyncio.Lock()
        self.failures = 0

    async def carry_out(self, command: Command) -> Outcome:
        commands: Sequence[Command] = [command]
        while True:
            try:
                async with self.turn:
                    batch: Batch = await drive_async(self.engine.carry_out(commands), self.store)
                return batch.outcomes[0]
            except StoreUnavailable:
                self.failures += 1
                await asyncio.sleep(0.01)


@pytest.fixture(params=["postgres", "valkey"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Proxy, str]]:
    name = servers.new_name()
    if request.param == "postgres":
        database: servers.Postgres = request.getfixturevalue("postgres")
        with proxy(socket_of(database.folder)) as between:
            address = f"postgresql://postgres@127.0.0.1:{between.port}/postgres"
            yield between, f"{address}?namespace={name}&sslmode=disable&gssencmode=disable"
    else:
        server: servers.Redis = request.getfixturevalue("valkey")
        with proxy(("127.0.0.1", server.port)) as between:
            yield between, f"redis://127.0.0.1:{between.port}/0?namespace={name}"


@pytest.mark.asyncio
async def test_three_servers_never_let_in_too_many_though_answers_get_lost(place: tuple[Proxy, str]) -> None:
    between, url = place
    deciders = [Server(url) for _ in range(3)]
    await deciders[0].carry_out(PutLimit("request", "create", "db", new_id="limit-1", limit=SLOTS))
    holding: set[str] = set()
    tokens: list[int] = []

    async def client(number: int, server: Server) -> None:
        session = f"s{number}"
        await server.carry_out(Hello(session, 1))
        for time in range(TIMES):
            lease_id = f"{number}-{time}"
            while True:
                asked = Acquire(lease_id, session, 1, (("db", 1),), 60 * SECOND, wait=False)
                if isinstance(held := await server.carry_out(asked), Held):
                    break
                lease_id += "'"
                await asyncio.sleep(0.005)
            holding.add(lease_id)
            tokens.append(held.token)
            assert len(holding) <= SLOTS
            await asyncio.sleep(0.002)
            holding.discard(lease_id)
            await server.carry_out(Release(lease_id, session, 1))

    async def trouble() -> None:
        chance = random.Random(3)
        while True:
            await asyncio.sleep(0.05)
            chance.choice([between.lose_answer, between.lose_request, between.cut])()

    troubling = asyncio.create_task(trouble())
    async with asyncio.timeout(60):
        await asyncio.gather(*(client(number, deciders[number % 3]) for number in range(6)))
    troubling.cancel()
    assert len(set(tokens)) == 6 * TIMES
    assert sum(server.failures for server in deciders) > 0, "otherwise nothing was tried"
    for server in deciders:
        await server.store.close()


@pytest.mark.asyncio
async def test_who_is_cancelled_in_a_commit_loads_everything_again(place: tuple[Proxy, str]) -> None:
    between, url = place
    server = Server(url)
    await server.carry_out(PutLimit("request", "create", "db", new_id="limit-1", limit=SLOTS))
    between.stall()
    asking = asyncio.create_task(server.carry_out(PutLimit("next", "update", "db", limit=9)))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    between.flow()
    assert server.engine.version is None
    await server.carry_out(PutLimit("next", "update", "db", limit=9))
    assert server.engine.book.limits["limit-1"].limit == 9
    await server.store.close()
