"""What a client of Prefect's asks again, because it was told that nobody knows, is done once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebbgate.server.app import Service
from tests.cli.support import wait_until
from tests.prefect.support import Answered, Background, Caller
from tests.server.test_decider import Faulty
from tests.serving import ServedInThread, served


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServedInThread]:
    """A server whose store can fail."""
    with served(f"sqlite:///{tmp_path}/x.db") as server:
        yield server


@pytest.fixture
def caller(server: ServedInThread) -> Caller:
    """A client of it."""
    return Caller(server.url.replace("ebbgate", "http", 1))


def decider_of(server: ServedInThread) -> Any:  # noqa: ANN401 - a store is put into it that is none
    """Return who decides there."""
    assert server.server is not None
    service = server.server._service
    assert isinstance(service, Service)
    return service.decider


def break_store(server: ServedInThread, *fails: str) -> None:
    """Have these methods of the store fail; none: all is well again, and known to be."""
    decider = decider_of(server)

    async def work() -> None:
        if not isinstance(decider.store, Faulty):
            decider.store = Faulty(decider.store)
        decider.store.fails = set(fails)

    asyncio.run_coroutine_threadsafe(work(), server._loop).result(10)
    if not fails:
        wait_until(lambda: decider.why_not_ready is None, "it does not recover")


def assert_must_ask_again(answered: Answered) -> None:
    """See that the client asks again, for as long as it takes."""
    assert answered.status == 503
    assert answered.headers["prefect-maintenance"] == "true"
    assert float(answered.headers["retry-after"]) > 0
    assert answered.body == {"exception_message": "Service Unavailable"}


def test_slots_are_taken_once_by_who_has_to_ask_twice(server: ServedInThread, caller: Caller) -> None:
    caller.create("db", 3)
    break_store(server, "answer", "find")
    assert_must_ask_again(caller.acquire("db"))
    break_store(server)
    lease = caller.acquire("db").lease_id
    assert caller.active_slots("db") == 1
    assert Caller(f"http://{caller.place}").acquire("db").lease_id != lease
    assert caller.active_slots("db") == 2


def test_a_rate_is_spent_once_by_who_has_to_ask_twice(server: ServedInThread, caller: Caller) -> None:
    caller.create("api", 3, 0.001)
    break_store(server, "answer", "find")
    assert_must_ask_again(caller.take("api", mode="rate_limit"))
    break_store(server)
    assert caller.take("api", mode="rate_limit").status == 200
    assert caller.active_slots("api") == 1


def test_slots_are_given_back_once_by_who_has_to_say_it_twice(server: ServedInThread, caller: Caller) -> None:
    caller.create("db", 3)
    for _ in range(3):
        assert caller.take("db").status == 200
    break_store(server, "answer", "find")
    assert_must_ask_again(caller.give("db"))
    break_store(server)
    assert caller.give("db").status == 200
    assert caller.active_slots("db") == 2
    assert caller.give("db").status == 200
    assert caller.active_slots("db") == 1


def test_a_part_is_released_once_by_a_client_that_repeats_its_request(
    server: ServedInThread, caller: Caller
) -> None:
    caller.create("db", 9)
    assert caller.take("db", slots=9).status == 200
    break_store(server, "answer", "find")
    assert_must_ask_again(caller.give("db", slots=2))
    break_store(server)
    assert Caller(f"http://{caller.place}", "another").give("db", slots=3).status == 200
    assert caller.give("db", slots=2).status == 200
    assert caller.active_slots("db") == 4
    assert caller.give("db", slots=2).status == 200
    assert caller.active_slots("db") == 2


@pytest.mark.parametrize("has_lease", [True, False])
def test_a_grant_that_was_waited_for_and_told_is_not_passed_on(
    server: ServedInThread, caller: Caller, has_lease: bool
) -> None:
    """Its client may be one that renews minutes later, or never."""
    caller.create("db", 1)
    first = caller.acquire("db").lease_id
    other = Caller(f"http://{caller.place}")
    waiter = Background(other.acquire if has_lease else other.take, "db")
    caller.wait_for_waiters("db", 1)
    caller.release(first)
    assert waiter.answer().status == 200
    (lease,) = caller.ask("GET", "/v1/leases?limit=db&state=held").body["items"]
    leases = decider_of(server).book.leases
    wait_until(lambda: leases[lease["id"]].attend_due_us < 0, "it must be fetched again, or passes on")
    assert caller.active_slots("db") == 1
