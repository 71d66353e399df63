"""Requests that are held open until a slot is free."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from ebbgate.core.model import Lease
from tests.cli.support import wait_until
from tests.server.rest.serving import PATIENCE_SECONDS, Served, problem_of


class Asking(threading.Thread):
    """A request under way."""

    def __init__(self, ask: Callable[[], httpx.Response]) -> None:
        """Begin."""
        super().__init__(daemon=True)
        self._ask = ask
        self._answer: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        """Ask."""
        self._answer = self._ask()

    def answer(self) -> httpx.Response:
        """Wait for the answer."""
        self.join(PATIENCE_SECONDS)
        assert self._answer is not None, "no answer came"
        return self._answer


def wait_for(rest: Served, name: str = "db", **more: Any) -> Asking:  # noqa: ANN401 - JSON
    """Ask for a slot with a request that is held open; return when it is in the queue."""
    before = rest.client.get(f"/v1/limits/{name}").json()["waiting"]
    client = rest.caller()
    body = {"limits": [{"name": name}], "wait_seconds": 60, **more}
    asking = Asking(lambda: client.post("/v1/leases", json=body))
    wait_until(lambda: rest.client.get(f"/v1/limits/{name}").json()["waiting"] > before, "it is not queued")
    return asking


def test_an_open_request_is_answered_when_the_slot_is_free(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    asking = wait_for(rest)
    rest.release(held)
    began = time.monotonic()
    answer = asking.answer()
    assert time.monotonic() - began < 5
    assert (answer.status_code, answer.json()["state"]) == (201, "held")
    assert rest.do(lambda: rest.decider.book.leases[answer.json()["id"]].attend_due_us) == -1, "it is fetched"


def test_open_requests_are_served_in_their_order(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    askings = [wait_for(rest) for _ in range(4)]
    for asking in askings:
        assert asking.is_alive()
        rest.release(held)
        held = asking.answer().json()
        assert held["state"] == "held"


def test_an_open_request_ends_with_its_time_and_keeps_the_place(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    began = time.monotonic()
    answer = rest.client.post("/v1/leases", json={"limits": [{"name": "db"}], "wait_seconds": 0.2})
    assert time.monotonic() - began >= 0.2
    assert answer.status_code == 202
    lease = answer.json()
    assert (lease["retry_after_seconds"], answer.headers["retry-after"]) == (0, "0")
    client = rest.caller()
    asking = Asking(lambda: client.get(f"/v1/leases/{lease['id']}?wait_seconds=60"))
    rest.release(held)
    answer = asking.answer()
    assert (answer.status_code, answer.json()["state"]) == (200, "held")


def test_a_spend_waits_with_its_request_open(rest: Served) -> None:
    rest.limit("mails", 1, slot_decay_per_second=5)
    body = {"limits": [{"name": "mails"}], "wait_seconds": 10}
    for _ in range(3):
        assert rest.client.post("/v1/spends", json=body).status_code == 201


def test_a_revoked_waiter_hears_of_it_at_once(rest: Served) -> None:
    rest.limit("db")
    rest.acquire("db")
    asking = wait_for(rest)
    (waiting,) = rest.client.get("/v1/leases?state=waiting").json()["items"]
    rest.client.post(f"/v1/leases/{waiting['id']}/revoke")
    problem_of(asking.answer(), 409, "waiter_removed")


def test_a_waiter_hears_at_once_that_it_can_never_get_in(rest: Served) -> None:
    rest.limit("db", 5)
    rest.acquire("db")
    asking = wait_for(rest, limits=[{"name": "db", "slots": 5}])
    rest.client.patch("/v1/limits/db", json={"limit": 2})
    problem_of(asking.answer(), 422, "never_fits")


def test_the_grant_of_a_client_that_left_is_not_fetched(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    parts = urlsplit(rest.url)
    body = msgspec.json.encode({"limits": [{"name": "db"}], "wait_seconds": 60})
    head = (
        f"POST /v1/leases HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port)) as leaving:
        leaving.sendall(head.encode() + body)
        wait_until(lambda: rest.client.get("/v1/limits/db").json()["waiting"] == 1, "it is not queued")
    wait_until(lambda: not rest.do(lambda: rest.service.hearing._futures), "its leaving was not noticed")
    rest.release(held)

    def lease() -> Lease:
        (found,) = [lease for lease in rest.decider.book.leases.values() if lease.state == "held"]
        return found

    granted = rest.do(lease)
    assert granted.attend_due_us > 0, "it passes on unless it is fetched"


def test_draining_ends_open_requests_with_a_place_to_come_back_to(rest: Served) -> None:
    rest.limit("db")
    rest.acquire("db")
    asking = wait_for(rest)
    rest.drain()
    answer = asking.answer()
    assert (answer.status_code, answer.json()["position"]) == (202, 1)
    assert answer.json()["retry_after_seconds"] > 0
    began = time.monotonic()
    answer = rest.client.get(f"/v1/leases/{answer.json()['id']}?wait_seconds=60")
    assert answer.status_code == 202, "and nobody waits any more"
    body = {"limits": [{"name": "db"}], "wait_seconds": 60}
    assert rest.client.post("/v1/leases", json=body).status_code == 202
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_many_wait_and_each_gets_in_once(rest: Served) -> None:
    rest.limit("db", 3)
    taken: list[str] = []
    most = 0
    inside = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        client = httpx.Client(base_url=rest.url, timeout=60, trust_env=False)
        with client:
            answer = client.post("/v1/leases", json={"limits": [{"name": "db"}], "wait_seconds": 60})
            lease = answer.json()
            with lock:
                inside += 1
                most = max(most, inside)
                taken.append(lease["id"])
            with lock:
                inside -= 1
            client.delete(f"/v1/leases/{lease['id']}")

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 40
    assert most <= 3
    assert rest.client.get("/v1/limits/db").json()["held_slots"] == 0
