"""Watching what happens."""

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from ebbgate.core.commands import Acquire, PutLimit, Release
from ebbgate.server.rest import events, watching
from tests.cli.support import wait_until
from tests.server.rest.serving import Served, problem_of


class Event(msgspec.Struct):
    """One that came, or a comment."""

    name: str
    id: int
    data: dict[str, Any]
    at: float


class Viewer:
    """One who watches."""

    def __init__(self, answer: httpx.Response) -> None:
        """Read what comes."""
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        self._lines = answer.iter_lines()

    def next(self) -> Event:
        """Return the next event."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                data = msgspec.json.decode(fields["data"])
                return Event(fields["event"], int(fields["id"]), data, time.monotonic())
            else:
                fields = {}
        raise EOFError

    def next_comment(self) -> str:
        """Return the next comment."""
        return next(line for line in self._lines if line.startswith(":"))

    def is_over(self) -> bool:
        """Read to the end."""
        for _ in self._lines:
            pass
        return True


@contextmanager
def watch(rest: Served, path: str = "/v1/events", **headers: str) -> Iterator[Viewer]:
    """Watch for the length of a block."""
    with rest.caller().stream(
        "GET", path, headers={n.replace("_", "-"): v for n, v in headers.items()}
    ) as answer:
        yield Viewer(answer)


def watchers(rest: Served) -> int:
    """Return how many watch."""
    owners = (getattr(watcher, "__self__", None) for watcher in rest.decider.watchers)
    (hub,) = [owner for owner in owners if isinstance(owner, watching.Watching)]
    return rest.do(lambda: len(hub))


def test_first_comes_how_everything_is_and_then_what_happens(rest: Served) -> None:
    rest.limit("db", 2)
    with watch(rest) as viewer:
        snapshot = viewer.next()
        assert snapshot.name == "snapshot"
        assert [limit["name"] for limit in snapshot.data["limits"]] == ["db"]
        assert snapshot.data["more"] is False
        lease = rest.acquire("db")
        change = viewer.next()
        assert change.name == "change"
        assert change.id == change.data["version"] > snapshot.id
        assert [limit["held_slots"] for limit in change.data["limits"]] == [1]
        (told,) = change.data["leases"]
        wanted = {
            "id": lease["id"],
            "state": "held",
            "fencing_token": lease["fencing_token"],
            "session": "rest",
        }
        assert told.items() >= wanted.items()
        rest.release(lease)
        (told,) = viewer.next().data["leases"]
        assert (told["state"], told["why"], told["limits"]) == (
            "ended",
            "released",
            [{"name": "db", "slots": 1}],
        )


def test_a_waiter_is_told_of_but_not_that_it_asks_again(rest: Served) -> None:
    rest.limit("db")
    rest.acquire("db")
    with watch(rest) as viewer:
        viewer.next()
        waiting = rest.acquire("db", status=202)
        change = viewer.next()
        assert [(told["id"], told["state"]) for told in change.data["leases"]] == [(waiting["id"], "waiting")]
        assert change.data["limits"][0]["waiting"] == 1
        rest.read(waiting)
        rest.client.patch("/v1/limits/db", json={"limit": 2})
        change = viewer.next()
        while not change.data["leases"]:
            change = viewer.next()
        assert [(told["id"], told["state"]) for told in change.data["leases"]] == [(waiting["id"], "held")]


def test_who_is_let_in_by_one_commit_is_told_of_in_any_order(rest: Served) -> None:
    rest.limit("db", 2)
    held = [rest.acquire("db") for _ in range(2)]
    waiting = [rest.acquire("db", status=202) for _ in range(2)]
    again = Acquire(waiting[1]["id"], "rest", 1, (("db", 1),), 300_000_000, attended=False)
    with watch(rest) as viewer:
        viewer.next()
        rest.run(rest.decider.carry_out([again, *(Release(lease["id"], "rest", 1) for lease in held)]))
        told = viewer.next().data["leases"]
    assert {one["id"] for one in told if one["state"] == "held"} == {lease["id"] for lease in waiting}


def test_a_renewal_is_not_told_of(rest: Served) -> None:
    rest.limit("db")
    lease = rest.acquire("db")
    with watch(rest) as viewer:
        viewer.next()
        rest.client.post("/v1/leases/renew", json={"ids": [lease["id"]]})
        assert viewer.next().data["leases"] == []


def test_everything_is_told_anew_when_the_store_was_loaded_anew(rest: Served) -> None:
    rest.limit("db")
    with watch(rest) as viewer:
        viewer.next()
        rest.do(rest.decider.engine.forget)
        rest.limit("other")
        snapshot = viewer.next()
        assert snapshot.name == "snapshot"
        assert snapshot.data["limits"]


def test_nothing_is_kept_for_those_who_stay_away(rest: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LINGER_SECONDS", 0.0)
    rest.limit("db", 9)
    with watch(rest) as viewer:
        last = viewer.next()
    wait_until(lambda: watchers(rest) == 0, "it is still told")
    for _ in range(2):
        rest.acquire("db")
    with watch(rest, Last_Event_ID=str(last.id)) as viewer:
        assert viewer.next().name == "snapshot"


def test_a_limit_that_is_deleted_is_gone(rest: Served) -> None:
    limit = rest.limit("db")
    with watch(rest) as viewer:
        viewer.next()
        rest.client.delete("/v1/limits/db")
        assert viewer.next().data["gone"] == [limit["id"]]


def test_spent_slots_are_seen_to_come_back(rest: Served) -> None:
    rest.limit("mails", 5, slot_decay_per_second=2)
    with watch(rest) as viewer:
        viewer.next()
        rest.client.post("/v1/spends", json={"limits": [{"name": "mails", "slots": 2}]})
        spent: list[float] = []
        while not spent or spent[-1] > 0:
            spent.append(viewer.next().data["limits"][0]["spent_slots"])
        assert spent == sorted(spent, reverse=True)
        assert len(spent) > 1


def test_what_happens_is_told_four_times_a_second_at_most(rest: Served) -> None:
    rest.limit("db", 1000)
    stop = threading.Event()

    def work() -> None:
        with httpx.Client(base_url=rest.url, trust_env=False) as client:
            while not stop.is_set():
                lease = client.post("/v1/leases", json={"limits": [{"name": "db"}]}).json()
                client.delete(f"/v1/leases/{lease['id']}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with watch(rest) as viewer:
            viewer.next()
            came = [viewer.next() for _ in range(8)]
        assert came[-1].at - came[0].at > 6 * 0.25
        assert all(len(event.data["leases"]) <= watching.LEASES_MAX for event in came)
        assert all(earlier.id <= later.id for earlier, later in pairwise(came))
    finally:
        stop.set()
        thread.join()


def test_who_comes_back_is_told_what_it_missed(rest: Served) -> None:
    rest.limit("db", 2)
    with watch(rest) as viewer:
        viewer.next()
        rest.acquire("db")
        last = viewer.next()
    missed = rest.acquire("db")
    with watch(rest, Last_Event_ID=str(last.id)) as viewer:
        change = viewer.next()
        assert change.name == "change"
        assert [told["id"] for told in change.data["leases"]] == [missed["id"]]


@pytest.mark.parametrize("last", ["0", "999999", "x", "-1", "1" * 30])
def test_who_was_away_too_long_is_told_everything(rest: Served, last: str) -> None:
    rest.limit("db")
    with watch(rest, Last_Event_ID=last) as viewer:
        assert viewer.next().name == "snapshot"


def test_one_may_watch_one_limit(rest: Served) -> None:
    limit = rest.limit("a")
    rest.limit("b")
    with watch(rest, "/v1/events?limit=a") as viewer:
        assert [one["name"] for one in viewer.next().data["limits"]] == ["a"]
        rest.acquire("b")
        lease = rest.acquire("a")
        change = viewer.next()
        assert [one["name"] for one in change.data["limits"]] == ["a"]
        assert [told["id"] for told in change.data["leases"]] == [lease["id"]]
        rest.client.patch("/v1/limits/a", json={"name": "renamed"})
        assert viewer.next().data["limits"][0]["id"] == limit["id"]
    problem_of(rest.client.get("/v1/events?limit=c"), 404, "limit_not_found")
    problem_of(rest.client.get("/v1/events?limits=a"), 422, "invalid_request")


def test_a_long_list_comes_in_parts(rest: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SNAPSHOT_LIMITS", 10)
    for number in range(25):
        rest.limit(f"n{number:02}")
    with watch(rest) as viewer:
        parts = [viewer.next() for _ in range(3)]
    assert [part.data["more"] for part in parts] == [True, True, False]
    assert len({part.id for part in parts}) == 1
    assert [limit["name"] for part in parts for limit in part.data["limits"]] == [
        f"n{n:02}" for n in range(25)
    ]


def test_many_changes_come_in_parts(rest: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LIMITS_MAX", 3)
    monkeypatch.setattr(watching, "LEASES_MAX", 2)
    names = {f"n{number}" for number in range(8)}
    with watch(rest) as viewer:
        viewer.next()
        for name in names:
            rest.limit(name)
        for name in names:
            rest.acquire(name)
        seen: set[str] = set()
        told = left_out = 0
        while seen != names or told + left_out < len(names):
            change = viewer.next()
            assert len(change.data["limits"]) <= 3
            seen |= {limit["name"] for limit in change.data["limits"] if limit["held_slots"]}
            told += len(change.data["leases"])
            left_out += change.data["leases_left_out"]
        assert told + left_out == len(names)


def test_a_quiet_stream_shows_that_it_lives(rest: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.02)
    with watch(rest) as viewer:
        viewer.next()
        for _ in range(3):
            viewer.next_comment()
        rest.limit("db")
        assert viewer.next().name == "change"


def test_the_stream_ends_when_the_server_stops(rest: Served) -> None:
    with watch(rest) as viewer:
        viewer.next()
        rest.drain()
        assert viewer.next().name == "goodbye"
        assert viewer.is_over()
    wait_until(lambda: watchers(rest) == 0, "it is still told")


def test_who_leaves_is_told_no_more(rest: Served) -> None:
    with watch(rest) as viewer:
        viewer.next()
        assert watchers(rest) == 1
    wait_until(lambda: watchers(rest) == 0, "it is still told")


def test_who_does_not_read_is_given_up(rest: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "UNREAD_SECONDS", 0.3)
    limits = [
        PutLimit(f"r{number}", "create", f"n{number}", str(uuid.uuid4()), limit=1, description="x" * 2000)
        for number in range(4000)
    ]
    rest.run(rest.decider.carry_out(limits))
    parts = urlsplit(rest.url)
    with socket.create_connection((parts.hostname, parts.port)) as deaf:
        deaf.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_until(lambda: watchers(rest) == 1, "it does not watch")
        wait_until(lambda: watchers(rest) == 0, "it is still told")
    rest.acquire("n1")


def test_no_more_watch_than_may(rest: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "VIEWERS_MAX", 1)
    with watch(rest) as viewer:
        viewer.next()
        problem_of(rest.client.get("/v1/events"), 503, "server_unavailable")
