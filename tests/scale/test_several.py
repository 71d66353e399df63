"""Servers that share a store are one gate: what happens at one is known at all of them."""

import asyncio
import json
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from ebbgate import AsyncClient, Client
from tests.client.remote.support import wait_until
from tests.prefect.support import Answered, Caller, held
from tests.prefect.terraform import Resource, Theirs
from tests.scale.conftest import Serve
from tests.serving import ServedInThread


def address(server: ServedInThread) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_what_one_server_has_answered_every_other_one_knows(serve: Serve) -> None:
    here, there = Client(serve().url), Client(serve().url)
    for number in range(20):
        here.create_limit(f"db-{number}", number + 1)
        assert there.read_limit(f"db-{number}").limit == number + 1
        there.update_limit(f"db-{number}", limit=50)
        assert here.read_limit(f"db-{number}").limit == 50
    with here.concurrency("db-1") as lease:
        assert [held.id for held in there.list_leases("db-1", "held")] == [lease.id]
    assert there.list_leases("db-1", "held") == []
    assert [ended.id for ended in there.list_leases(state="ended")] == [lease.id]


def test_a_slot_that_is_freed_at_one_server_wakes_who_waits_at_another(serve: Serve) -> None:
    here, there = Client(serve().url), Client(serve().url)
    here.create_limit("db", 1)
    taken: list[float] = []

    def take() -> None:
        with there.concurrency("db"):
            taken.append(time.monotonic() - freed)

    for _ in range(10):
        with here.concurrency("db"):
            waiter = threading.Thread(target=take)
            waiter.start()
            wait_until(lambda: here.read_limit("db").waiting == 1)
            freed = time.monotonic()
        waiter.join(20)
    assert sorted(taken)[5] < 0.25, "nobody polls"


def test_who_asked_first_is_first_wherever_it_asked(serve: Serve) -> None:
    servers = [serve() for _ in range(3)]
    clients = [Client(server.url) for server in servers]
    clients[0].create_limit("db", 1)
    order: list[int] = []

    def take(number: int) -> None:
        with clients[number % 3].concurrency("db"):
            order.append(number)

    with ThreadPoolExecutor(9) as pool, clients[0].concurrency("db"):
        for number in range(9):
            pool.submit(take, number)
            wait_until(lambda number=number: clients[1].read_limit("db").waiting == number + 1)  # type: ignore[misc]
        assert [waiter.position for waiter in clients[2].list_waiters("db")] == list(range(1, 10))
    assert order == list(range(9))


def test_a_long_poll_at_one_server_hears_of_a_release_at_another(serve: Serve) -> None:
    here, there = serve(), serve()
    with (
        httpx.Client(base_url=address(here)) as one,
        httpx.Client(base_url=address(there), timeout=60) as two,
    ):
        assert one.post("/v1/limits", json={"name": "db", "limit": 1}).status_code == 201
        held = one.post("/v1/leases", json={"limits": [{"name": "db"}]}).json()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(two.post, "/v1/leases", json={"limits": [{"name": "db"}], "wait_seconds": 30})
            wait_until(lambda: one.get("/v1/limits/db").json()["waiting"] == 1)
            began = time.monotonic()
            assert one.delete(f"/v1/leases/{held['id']}").status_code == 204
            answer = asked.result(40)
        assert answer.status_code == 201, answer.text
        assert time.monotonic() - began < 15, "it is not told only when its time to wait is over"


def test_a_lease_that_was_taken_at_one_server_is_kept_and_ended_at_another(serve: Serve) -> None:
    here, there = serve(), serve()
    with httpx.Client(base_url=address(here)) as one, httpx.Client(base_url=address(there)) as two:
        assert one.post("/v1/limits", json={"name": "db", "limit": 1}).status_code == 201
        held = one.post("/v1/leases", json={"limits": [{"name": "db"}]}).json()
        renewed = two.post("/v1/leases/renew", json={"ids": [held["id"]]}).json()["items"][0]
        assert (renewed["result"], renewed["fencing_token"]) == ("held", held["fencing_token"])
        assert two.delete(f"/v1/leases/{held['id']}").status_code == 204
        assert one.get(f"/v1/leases/{held['id']}").json()["why"] == "released"


def test_who_watches_one_server_sees_what_happens_at_another(serve: Serve) -> None:
    here, there = serve(), serve()
    client = Client(here.url)
    client.create_limit("db", 1)
    with httpx.stream("GET", f"{address(there)}/v1/events", timeout=20) as events:
        lines = (line for line in events.iter_lines() if line.startswith("data:"))
        assert [limit["name"] for limit in json.loads(next(lines)[5:])["limits"]] == ["db"]
        with client.concurrency("db") as lease:
            for line in lines:
                seen = [(event["id"], event["state"]) for event in json.loads(line[5:])["leases"]]
                if (lease.id, "held") in seen:
                    break


def test_every_server_counts_every_grant_once(serve: Serve) -> None:
    servers = [serve() for _ in range(3)]
    clients = [Client(server.url) for server in servers]
    clients[0].create_limit("db", 100)

    async def take(client: AsyncClient) -> None:
        for _ in range(20):
            async with client.concurrency("db"):
                pass

    async def all_take() -> None:
        async with asyncio.TaskGroup() as group:
            for server in servers:
                client = AsyncClient(server.url)
                for _ in range(4):
                    group.create_task(take(client))

    asyncio.run(all_take())
    for server in servers:
        wait_until(lambda server=server: _counted(server) == (240, 240, 3))  # type: ignore[misc]


def _counted(server: ServedInThread) -> tuple[float, float, float]:
    with urllib.request.urlopen(f"{address(server)}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return (
        float(found.get('ebbgate_grants_total{kind="hold",limit="db"}', 0)),
        float(found.get('ebbgate_ends_total{limit="db",why="released"}', 0)),
        float(found["ebbgate_servers"]),
    )


def test_a_client_of_prefect_keeps_its_place_whatever_server_it_comes_back_to(serve: Serve) -> None:
    places = [serve(prefect_wait_seconds=0.2).url.removeprefix("ebbgate") for _ in range(3)]
    holder, client, later = Caller(f"http{places[0]}"), "one queue of a client", Caller(f"http{places[1]}")
    holder.create("db", 1)
    lease = holder.acquire("db").lease_id
    callers = [Caller(f"http{place}") for place in places]
    for caller in callers:
        caller.client = client
    assert callers[0].acquire("db").body["position"] == 1
    assert later.acquire("db").body["position"] == 2
    for _ in range(2):
        for caller in callers:
            assert caller.acquire("db").body["position"] == 1
    holder.release(lease)
    granted = callers[1].acquire("db").lease_id
    with Client(f"ebbgate{places[2]}") as witness:
        until = time.monotonic() + 7  # longer than the others keep its place
        while time.monotonic() < until:
            assert [held.id for held in witness.list_leases("db", "held")] == [granted]
            threading.Event().wait(0.2)
    callers[2].release(granted)


def test_slots_without_a_lease_are_counted_down_at_whatever_server(serve: Serve) -> None:
    callers = [Caller(address(serve())) for _ in range(2)]
    callers[0].create("counted", 30)
    for slots in (10, 1, 9):
        assert callers[0].take("counted", slots=slots).status == 200
    for number in range(4):
        assert callers[number % 2].give("counted").status == 200
        assert callers[(number + 1) % 2].active_slots("counted") == 19 - number
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda number: callers[number % 2].give("counted"), range(14))
        assert {answer.status for answer in answers} == {200}
    assert [caller.active_slots("counted") for caller in callers] == [2, 2]


def test_terraform_reads_what_it_wrote_whatever_server_a_proxy_chooses(serve: Serve) -> None:
    places = [address(serve()) for _ in range(2)]
    witnesses = [Caller(place) for place in places]

    class Proxied(Caller):
        """Client of a round-robin proxy."""

        turn = 0

        def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answered:
            self.turn += 1
            self.place = witnesses[self.turn % 2].place
            return super().ask(method, path, body, **headers)

    theirs = Theirs(Proxied(places[0]))
    wanted = Resource("tf-several", 2)
    theirs.create(wanted)
    with held(witnesses[0], "tf-several"):
        for limit in (3, 4, 5):
            changed = replace(wanted, limit=limit)
            theirs.update(changed)
            assert not theirs.plan(changed)
            assert not theirs.plan(changed)
            assert [witness.active_slots("tf-several") for witness in witnesses] == [1, 1]
    theirs.delete()


def test_namespaces_know_nothing_of_each_other(serve: Serve, request: pytest.FixtureRequest) -> None:
    from tests.serving import served

    store: str = request.getfixturevalue("store")
    other = store.replace("namespace=", "namespace=other")
    with served(other) as elsewhere:
        here, there = Client(serve().url), Client(elsewhere.url)
        here.create_limit("db", 1)
        there.create_limit("db", 2)
        with here.concurrency("db"):
            assert there.read_limit("db").held_slots == 0
        assert (here.read_limit("db").limit, there.read_limit("db").limit) == (1, 2)
