"""What pages are shown: only what they look at, as it is and as it changes."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ebbgate.core.commands import PutLimit
from ebbgate.wire.ids import new_id
from tests.cli.support import wait_until
from tests.server.rest.serving import Served, problem_of
from tests.server.rest.test_events import Event, Viewer, watch, watchers

LIST = {"kind": "limits"}


@contextmanager
def look(rest: Served, *views: dict[str, Any]) -> Iterator[Viewer]:
    """Look at some views for the length of a block."""
    from urllib.parse import quote

    with watch(rest, f"/v1/events?views={quote(json.dumps(views))}") as viewer:
        yield viewer


def until(viewer: Viewer, name: str, **wanted: Any) -> Event:  # noqa: ANN401 - JSON
    """Return the next event of this name whose data has these fields."""
    event = viewer.next()
    while event.name != name or any(event.data[key] != value for key, value in wanted.items()):
        event = viewer.next()
    return event


def named(event: Event) -> list[str]:
    """Return the names of the limits of an event."""
    return [limit["name"] for limit in event.data["limits"]]


async def _create(rest: Served, count: int) -> None:
    commands = [
        PutLimit(new_id(), "create", f"n{number:05}", new_id(), None, 5, 0.0, True, "")
        for number in range(count)
    ]
    for start in range(0, count, 500):
        await rest.decider.carry_out(commands[start : start + 500])


def test_a_part_of_the_list_comes_in_order_and_only_what_changes_in_it_is_told(rest: Served) -> None:
    rest.run(_create(rest, 30))
    with look(rest, {"kind": "limits", "sort": "name", "first": 10, "count": 5}) as viewer:
        shown = viewer.next()
        assert shown.name == "limits"
        assert named(shown) == [f"n{number:05}" for number in range(10, 15)]
        assert shown.data["order"] == [limit["id"] for limit in shown.data["limits"]]
        assert (shown.data["matching"], shown.data["view"]["first"]) == (30, 10)
        assert until(viewer, "totals").data["totals"]["limits"] == 30
        rest.acquire("n00001")
        until(viewer, "totals")  # of that limit nothing is told
        rest.acquire("n00012")
        changed = viewer.next()
        assert (changed.name, named(changed), changed.data["order"]) == ("limits", ["n00012"], None)
        assert changed.data["limits"][0]["held_slots"] == 1
        rest.client.delete("/v1/limits/n00000")
        moved = until(viewer, "limits", matching=29)
        assert named(moved) == ["n00015"], "what came into the part"
        assert len(moved.data["order"]) == 5


def test_what_is_searched_for_filtered_and_sorted_is_decided_here(rest: Served) -> None:
    for name in ("find-b", "find-a", "other"):
        rest.limit(name, 2)
    rest.acquire("find-b")
    with look(rest, {"kind": "limits", "search": "FIND", "show": "used"}) as viewer:
        assert named(viewer.next()) == ["find-b"]
        rest.acquire("find-a")
        event = until(viewer, "limits", matching=2)
        assert named(event) == ["find-a"]
        rest.limit("find-c", 2)
        rest.acquire("other")
        rest.acquire("find-c")
        assert named(until(viewer, "limits", matching=3)) == ["find-c"]


def test_a_part_of_ten_thousand_is_as_small_as_one_of_fifty(rest: Served) -> None:
    rest.run(_create(rest, 10_000))
    with look(rest, {"kind": "limits", "sort": "name", "first": 9_950, "count": 50}) as viewer:
        shown = viewer.next()
        assert len(named(shown)) == 50
        assert len(json.dumps(shown.data)) < 50_000
        rest.acquire("n09999")
        assert named(until(viewer, "limits", order=None)) == ["n09999"]


def test_one_limit_is_shown_with_who_holds_it_and_who_waits(rest: Served) -> None:
    rest.limit("db", 1)
    held = rest.acquire("db", labels={"job": "night"})
    with look(rest, {"kind": "limit", "limit": "db", "leases": 1}) as viewer:
        assert viewer.next().data["limit"]["held_slots"] == 1
        leases = until(viewer, "leases").data
        assert [lease["id"] for lease in leases["held"]] == [held["id"]]
        waiting = [rest.acquire("db", status=202) for _ in range(2)]
        leases = until(viewer, "leases", waiting_more=True).data
        assert [lease["id"] for lease in leases["waiting"]] == [waiting[0]["id"]]
        assert leases["waiting"][0]["blocked_by"] == [held["id"]]
        rest.client.patch("/v1/limits/db", json={"name": "renamed"})
        until(viewer, "limit", limit=None)
        rest.limit("db", 7)
        assert until(viewer, "limit").data["limit"]["limit"] == 7


def test_grants_per_second_are_measured_here_and_fall_to_nothing(
    rest: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebbgate.server.rest import board, totals

    monkeypatch.setattr(board, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(totals, "RATE_SECONDS", 1.0)
    rest.limit("api", 100)
    with look(rest, LIST) as viewer:
        viewer.next()
        for _ in range(10):
            rest.acquire("api")
        rates = [0.0]
        while rates[-1] or not any(rates):
            rates.append(until(viewer, "limits").data["limits"][0]["grants_per_second"])
        assert 0 < max(rates) <= 10


def test_all_limits_together_are_counted_as_they_change(rest: Served) -> None:
    rest.limit("db", 4)
    with look(rest) as viewer:
        assert viewer.next().data["totals"] == {
            "limits": 1, "full": 0, "waiting": 0, "waiting_since": None, "grants_per_second": 0, "quarters": 0,
        }  # fmt: skip

        def counted() -> tuple[int, int, int, int]:
            told = until(viewer, "totals").data["totals"]
            return told["limits"], told["full"], told["waiting"], told["quarters"]

        rest.acquire("db")
        assert counted() == (1, 0, 0, 1)
        for _ in range(3):
            rest.acquire("db")
        waiting = rest.acquire("db", status=202)
        while (now := counted()) != (1, 1, 1, 4):
            assert now[0] == 1
        rest.release(waiting)
        rest.client.delete("/v1/limits/db?force=true")
        while counted() != (0, 0, 0, 0):
            pass


def test_events_tell_what_was_before_and_who_did_it(rest: Served) -> None:
    rest.limit("db", 1)
    rest.limit("other", 1)
    early = rest.acquire("db")
    rest.release(early)
    with look(rest, {"kind": "events", "limit": "db"}) as viewer:
        past = viewer.next().data["leases"]
        assert [(told["id"], told["state"]) for told in past] == [
            (early["id"], "held"),
            (early["id"], "ended"),
        ]
        assert past[1]["held_seconds"] >= 0
        rest.acquire("other")
        held = rest.acquire("db")
        assert until(viewer, "events").data["leases"][0]["waited_seconds"] == 0
        rest.client.post(f"/v1/leases/{held['id']}/revoke")
        (revoked,) = until(viewer, "events").data["leases"]
        assert (revoked["why"], revoked["by"]["way"], revoked["by"]["host"]) == (
            "revoked",
            "rest",
            "127.0.0.1",
        )
        page = {"Sec-Fetch-Site": "same-origin"}
        rest.client.patch("/v1/limits/db", json={"limit": 3, "name": "new"}, headers=page)
        (changed,) = until(viewer, "events", leases=[]).data["definitions"]
        assert (changed["what"], changed["changes"]) == ("changed", "was named db, 1 → 3 slots")
        assert changed["by"]["way"] == "page"


def test_what_people_did_before_anybody_looked_is_told_with_who_did_it(rest: Served) -> None:
    rest.limit("api", 60, rate="60/hour")
    rest.limit("mails", 5)
    rest.limit("db", 1)
    page = {"Sec-Fetch-Site": "same-origin"}
    rest.client.patch("/v1/limits/db", json={"limit": 3, "active": False}, headers=page)
    assert rest.client.patch("/v1/limits/mails", json={"limit": -1}, headers=page).status_code == 422

    def told() -> list[tuple[str, str, str, str]]:
        with look(rest, {"kind": "events"}) as viewer:
            return [
                (one["name"], one["what"], one["changes"], one["by"]["way"] if one["by"] else "")
                for one in viewer.next().data["definitions"]
            ]

    before = [
        ("api", "created", "60 slots, slot decay 60/hour", "rest"),
        ("mails", "created", "5 slots", ""),  # and not by whom it was refused
        ("db", "created", "", ""),
        ("db", "changed", "now 3 slots, disabled", "page"),
    ]
    assert told() == before
    with look(rest, {"kind": "events"}) as viewer:
        viewer.next()
        rest.client.patch("/v1/limits/db", json={"limit": 2}, headers=page)
        until(viewer, "events")
    # What was told is told once more, and as it was then.
    assert told() == [*before, ("db", "changed", "3 → 2 slots", "page")]


def test_who_speaks_prefects_language_or_the_stream_is_told_too(rest: Served) -> None:
    from ebbgate import Client

    with look(rest, {"kind": "events"}) as viewer:
        viewer.next()
        body = {"name": "flows", "limit": 2}
        assert rest.client.post("/api/v2/concurrency_limits/", json=body).status_code == 201
        (created,) = until(viewer, "events").data["definitions"]
        assert (created["what"], created["changes"], created["by"]["way"]) == (
            "created",
            "2 slots",
            "prefect",
        )
        with Client(rest.url.replace("http", "ebbgate")) as client:
            client.update_limit("flows", active=False)
            client.cool_down("flows", 30, why="too many")
            client.delete_limit("flows")
        told: list[dict[str, Any]] = []
        while len(told) < 3:
            told += until(viewer, "events").data["definitions"]
        assert [one["what"] for one in told] == ["changed", "changed", "deleted"]
        assert told[0]["changes"] == "disabled"
        assert told[1]["changes"] == "cools down for 30 s: too many"
        assert all(one["by"]["way"] == "client" and one["by"]["pid"] for one in told)


def test_nobody_is_sent_more_than_four_times_a_second(rest: Served) -> None:
    rest.limit("db", 1_000)
    views = json.dumps([LIST, {"kind": "limit", "limit": "db", "leases": 10}, {"kind": "events"}])
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            rest.release(rest.acquire("db"))

    worker = threading.Thread(target=work)
    try:
        with rest.caller().stream("GET", "/v1/events", params={"views": views}) as answer:
            parts = answer.iter_raw()
            next(parts)
            worker.start()
            begun, count = time.monotonic(), 0
            while count < 12:
                count += next(parts).startswith(b"event: ")  # else it goes on with what was sent before
            took = time.monotonic() - begun
    finally:
        over.set()
        worker.join()
    assert took > (count - 2) * 0.24, "the first comes at once"


def test_all_who_look_at_the_same_are_sent_the_same_bytes(rest: Served) -> None:
    rest.limit("db", 5)
    with look(rest, LIST) as one, look(rest, LIST) as other:
        until(one, "totals")
        until(other, "totals")
        rest.acquire("db")
        assert until(one, "limits").data == until(other, "limits").data


def test_what_nobody_looks_at_any_more_is_forgotten(rest: Served) -> None:
    rest.limit("db", 5)
    with look(rest, LIST, {"kind": "limit", "limit": "db", "leases": 5}) as viewer:
        viewer.next()
    wait_until(lambda: watchers(rest) == 0)
    with look(rest, LIST) as viewer:
        assert named(viewer.next()) == ["db"]


@pytest.mark.parametrize(
    "views",
    ["", "x", "{}", '[{"kind":"nothing"}]', '[{"kind":"limits","count":201}]', '[{"kind":"limits","first":-1}]',
     '[{"kind":"limits","show":"some"}]', '[{"kind":"limit"}]', '[{"kind":"events","more":1}]',
     json.dumps([{"kind": "limits", "first": number} for number in range(21)])],
)  # fmt: skip
def test_what_is_no_view_is_refused(rest: Served, views: str) -> None:
    problem_of(rest.client.get("/v1/events", params={"views": views}), 422, "invalid_request")
    problem_of(rest.client.get("/v1/events", params={"views": "[]", "limit": "db"}), 422, "invalid_request")
