"""Who has to wait: held open, answered the moment it is granted, and never lost."""

import http.client
import json
import signal
import time
from pathlib import Path

import pytest

from tests.cli.support import wait_until
from tests.prefect.contract import LIMITS
from tests.prefect.support import Background, Caller, held
from tests.server.processes import Served, started

SOON = 1.0
"""Seconds: much less than the next poll of a client that is not held open would take."""


@pytest.fixture
def other(caller: Caller) -> Caller:
    """Another client of the same server."""
    return Caller(f"http://{caller.place}")


@pytest.fixture
def hasty(brief: Served) -> Caller:
    """A client of the server that soon asks it to come back."""
    return Caller(brief.url)


def test_a_waiter_is_answered_the_moment_a_slot_is_free(caller: Caller, other: Caller) -> None:
    caller.create("w1", 1)
    lease = caller.acquire("w1").lease_id
    waiter = Background(other.acquire, "w1")
    other.wait_for_waiters("w1", 1)
    assert not waiter.is_answered
    caller.release(lease)
    granted = waiter.answer()
    assert granted.body["limits"][0]["name"] == "w1"
    assert granted.took < 30, "a waiter that nobody answers is asked to come back after longer"
    other.release(granted.lease_id)


def test_waiters_get_in_by_the_order_of_their_asking(caller: Caller) -> None:
    caller.create("w2", 1)
    lease = caller.acquire("w2").lease_id
    callers = [Caller(f"http://{caller.place}") for _ in range(4)]
    waiters = []
    for number, each in enumerate(callers, start=1):
        waiters.append(Background(each.acquire, "w2"))
        caller.wait_for_waiters("w2", number)
    for number, waiter in enumerate(waiters, start=1):
        caller.release(lease)
        lease = waiter.answer().lease_id
        assert sum(other.is_answered for other in waiters) == number
    caller.release(lease)


def test_who_waited_too_long_is_told_when_to_come_back_and_for_whom_it_waits(hasty: Caller) -> None:
    hasty.create("w3", 1)
    with held(hasty, "w3") as lease:
        late = hasty.acquire("w3")
        assert 0 <= late.retry_after <= 1
        assert late.took >= 0.2
        assert late.body["detail"] == "Locked"
        assert late.body["position"] == 1
        assert late.body["limits"] == [{"name": "w3", "limit": 1, "waiting": 1}]
        assert late.body["held_by"][0]["lease_id"] == lease
        assert late.body["held_by"][0]["holder"]["labels"]["prefect.client"] == hasty.client


def test_a_place_is_kept_until_its_client_comes_back(hasty: Caller, brief: Served) -> None:
    hasty.create("w4", 1)
    first, second = Caller(brief.url), Caller(brief.url)
    with held(hasty, "w4"):
        assert first.acquire("w4").status == 423
        assert second.acquire("w4").body["position"] == 2
        assert first.acquire("w4").body["position"] == 1


def test_a_grant_that_comes_between_two_requests_is_kept_for_the_second(hasty: Caller, brief: Served) -> None:
    hasty.create("w5", 1)
    first, second = Caller(brief.url), Caller(brief.url)
    with held(hasty, "w5"):
        assert first.acquire("w5").status == 423
        assert second.acquire("w5").status == 423
    assert second.acquire("w5").status == 423
    granted = first.acquire("w5")
    assert granted.took < SOON
    assert first.renew(granted.lease_id).status == 204
    first.release(granted.lease_id)
    second.release(second.acquire("w5").lease_id)


@pytest.mark.slow
def test_a_place_passes_on_five_seconds_after_its_client_should_have_come_back(
    hasty: Caller, brief: Served
) -> None:
    hasty.create("w6", 1)
    first, second = Caller(brief.url), Caller(brief.url)
    with held(hasty, "w6"):
        told = first.acquire("w6")
        begun = time.monotonic()
        kept = told.retry_after + 5
    wait_until(lambda: second.acquire("w6").status == 200, "the place of a gone client blocks the queue")
    assert kept - 0.1 < time.monotonic() - begun < kept + 5
    assert hasty.waiting("w6") == 0


def test_a_client_without_a_name_takes_a_place_of_its_address(brief: Served) -> None:
    first, second, holder = Caller(brief.url, ""), Caller(brief.url), Caller(brief.url)
    holder.create("w7", 1)
    with held(holder, "w7"):
        assert first.acquire("w7").status == 423
        assert second.acquire("w7").body["position"] == 2
        assert first.acquire("w7").body["position"] == 1


def test_a_client_that_goes_away_leaves_the_queue_at_once(caller: Caller, other: Caller) -> None:
    caller.create("w8", 1)
    with held(caller, "w8"):
        connection = other.send("POST", f"{LIMITS}/increment-with-lease", {"slots": 1, "names": ["w8"]})
        caller.wait_for_waiters("w8", 1)
        connection.close()
        caller.wait_for_waiters("w8", 0)
    assert caller.active_slots("w8") == 0


def close_all(connections: list[http.client.HTTPConnection]) -> None:
    for connection in connections:
        connection.close()


def test_a_grant_that_cannot_be_delivered_is_returned(caller: Caller, other: Caller) -> None:
    caller.create("w9", 1)
    lease = caller.acquire("w9").lease_id
    gone = [
        other.send("POST", f"{LIMITS}/increment-with-lease", {"slots": 1, "names": ["w9"]}) for _ in range(20)
    ]
    caller.wait_for_waiters("w9", 20)
    # One that closes in the very moment in which its answer is written cannot be told from one that reads it.
    close_all(gone)
    caller.release(lease)
    wait_until(lambda: caller.active_slots("w9") == 0, "a grant to nobody was kept")


def test_a_big_request_is_not_starved_by_small_ones(caller: Caller, other: Caller) -> None:
    caller.create("w10", 2)
    lease = caller.acquire("w10").lease_id
    big = Background(other.acquire, "w10", slots=2)
    caller.wait_for_waiters("w10", 1)
    small = Background(Caller(f"http://{caller.place}").acquire, "w10")
    caller.wait_for_waiters("w10", 2)
    caller.release(lease)
    other.release(big.answer().lease_id)
    caller.release(small.answer().lease_id)


def test_a_limit_of_zero_lets_everybody_wait(caller: Caller, other: Caller) -> None:
    caller.create("w11", 1)
    assert caller.ask("PATCH", f"{LIMITS}/w11", {"limit": 0}).status == 204
    waiter = Background(other.acquire, "w11")
    caller.wait_for_waiters("w11", 1)
    assert caller.ask("PATCH", f"{LIMITS}/w11", {"limit": 1}).status == 204
    other.release(waiter.answer().lease_id)


def test_a_limit_may_become_zero_while_its_slots_are_held(caller: Caller) -> None:
    caller.create("w12", 1)
    lease = caller.acquire("w12").lease_id
    assert caller.ask("PATCH", f"{LIMITS}/w12", {"limit": 0}).status == 204
    assert caller.renew(lease).status == 204
    assert caller.release(lease).status == 204
    assert caller.active_slots("w12") == 0


def test_a_waiter_that_can_never_get_in_any_more_is_told(caller: Caller, other: Caller) -> None:
    caller.create("w13", 2)
    with held(caller, "w13"):
        waiter = Background(other.acquire, "w13", slots=2)
        caller.wait_for_waiters("w13", 1)
        assert caller.ask("PATCH", f"{LIMITS}/w13", {"limit": 1}).status == 204
        refused = waiter.answer()
    assert (refused.status, refused.body["detail"]) == (422, "Slots requested is greater than the limit")


def test_a_waiter_that_an_operator_removes_is_told(caller: Caller, other: Caller) -> None:
    caller.create("w14", 1)
    with held(caller, "w14"):
        waiter = Background(other.acquire, "w14")
        caller.wait_for_waiters("w14", 1)
        (found,) = caller.ask("GET", "/v1/leases?limit=w14&state=waiting").body["items"]
        assert caller.ask("POST", f"/v1/leases/{found['id']}/revoke").status < 300
        assert waiter.answer().status == 409


def test_a_rate_limit_tells_exactly_when_the_next_slot_comes(hasty: Caller) -> None:
    hasty.create("w15", 1, 0.05)
    begun = time.monotonic()
    assert hasty.take("w15", mode="rate_limit").status == 200
    late = hasty.take("w15", mode="rate_limit")
    assert 20 - (time.monotonic() - begun) - 0.1 <= late.retry_after <= 20 - late.took + 0.1
    assert late.body["estimate_seconds"] == pytest.approx(late.retry_after, abs=0.001)
    second = Caller(f"http://{hasty.place}").take("w15", mode="rate_limit")
    assert 40 - (time.monotonic() - begun) - 0.1 <= second.retry_after <= 40


def test_asking_too_early_makes_nobody_wait_longer(hasty: Caller) -> None:
    hasty.create("w16", 1, 0.5)
    assert hasty.take("w16", mode="rate_limit").status == 200
    begun = time.monotonic()
    wait_until(lambda: hasty.take("w16", mode="rate_limit").status == 200, "denials reset the clock")
    assert time.monotonic() - begun < 2.5


def test_a_server_that_stops_asks_to_come_back_and_the_next_one_knows_the_place(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        holder, first = Caller(server.url), Caller(server.url)
        holder.create("kept", 1)
        lease = holder.acquire("kept").lease_id
        waiter = Background(first.acquire, "kept")
        holder.wait_for_waiters("kept", 1)
        assert server.end(signal.SIGTERM) == 0
        told = waiter.answer()
    assert told.status == 503
    assert told.headers["prefect-maintenance"] == "true"
    assert float(told.headers["retry-after"]) > 0
    with started(tmp_path, "--prefect-wait", "0.2") as server:
        newcomer, again = Caller(server.url), Caller(server.url, first.client)
        assert newcomer.acquire("kept").body["position"] == 2
        assert again.acquire("kept").body["position"] == 1
        back = Caller(server.url, holder.client)
        assert back.renew(lease).status == 204
        assert back.release(lease).status == 204
        assert again.acquire("kept").status == 200


def test_a_server_that_is_killed_loses_no_place(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        holder, first = Caller(server.url), Caller(server.url)
        holder.create("kept", 1)
        lease = holder.acquire("kept").lease_id
        connection = first.send("POST", f"{LIMITS}/increment-with-lease", {"slots": 1, "names": ["kept"]})
        holder.wait_for_waiters("kept", 1)
        server.end(signal.SIGKILL)
        connection.close()
    with started(tmp_path) as server:
        back, newcomer, again = (Caller(server.url, each.client) for each in (holder, Caller("x"), first))
        waiters = [Background(newcomer.acquire, "kept")]
        back.wait_for_waiters("kept", 2)
        waiters.append(Background(again.acquire, "kept"))
        assert back.release(lease).status == 204
        lease = waiters[1].answer().lease_id
        assert not waiters[0].is_answered
        assert again.release(lease).status == 204
        newcomer.release(waiters[0].answer().lease_id)


def test_the_same_question_from_one_client_at_the_same_time_is_two_questions(caller: Caller) -> None:
    caller.create("w17", 2)
    with held(caller, "w17", slots=2):
        both = [Background(caller.acquire, "w17") for _ in range(2)]
        caller.wait_for_waiters("w17", 2)
    ids = {waiter.answer().lease_id for waiter in both}
    assert len(ids) == 2
    for lease_id in ids:
        caller.release(lease_id)


def test_a_connection_may_be_used_again_after_a_wait(caller: Caller) -> None:
    caller.create("w18", 1)
    lease = caller.acquire("w18").lease_id
    connection = http.client.HTTPConnection(caller.place, timeout=20)
    body = json.dumps({"slots": 1, "names": ["w18"]})
    for _ in range(3):
        connection.request("POST", f"{LIMITS}/increment-with-lease", body)
        caller.wait_for_waiters("w18", 1)
        caller.release(lease)
        lease = json.loads(connection.getresponse().read())["lease_id"]
    connection.close()
    caller.release(lease)
