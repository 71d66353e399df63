"""What REST tells of the past."""

from typing import Any

import pytest

from tests.server.rest.serving import Served, problem_of

POINT = {
    "at", "seen_seconds", "slots", "held_slots_mean", "held_slots_max", "spent_slots_mean", "spent_slots_max",
    "waiting_mean", "waiting_max", "grants", "grants_per_second", "left", "denied", "wait_mean_seconds",
    "wait_p50_seconds", "wait_p90_seconds", "wait_p99_seconds",
}  # fmt: skip


def told(rest: Served, **query: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever is asked
    answer = rest.client.get("/v1/limits/db/history", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_known_workload_is_told_in_numbers(rest: Served) -> None:
    rest.limit("db", 2)
    held = [rest.acquire(), rest.acquire()]
    waiter = rest.acquire(status=202)
    rest.acquire(status=202)
    rest.release(held[0])
    rest.read(waiter)
    rest.client.delete(f"/v1/leases/{waiter['id']}")
    found = told(rest, window_seconds=60)
    points = found["points"]
    assert all(set(point) == POINT for point in points)
    assert found["step_seconds"] == 10
    assert max(point["held_slots_max"] for point in points) == 2
    assert max(point["waiting_max"] for point in points) == 2
    assert sum(point["grants"] for point in points) == 4
    assert 0 < sum(point["seen_seconds"] for point in points) < 30
    assert points[-1]["slots"] == 2


@pytest.mark.parametrize("seconds", [60, 900, 3_600, 21_600.5, 86_400, 604_800, 2_592_000])
def test_an_answer_has_three_hundred_points_at_most(rest: Served, seconds: float) -> None:
    rest.limit()
    found = told(rest, window_seconds=seconds)
    assert len(found["points"]) in {1, 2}
    assert seconds / 300 <= found["step_seconds"] <= max(seconds / 60, 60)


def test_the_past_before_a_limit_was_made_is_empty(rest: Served) -> None:
    rest.limit()
    assert told(rest, until="2026-01-01T00:00:00+01:00")["points"] == []
    assert told(rest, until="0001-01-01T00:00:00Z")["points"] == []
    assert len(told(rest, until="9999-12-31T23:59:60.123456789Z")["points"]) in {1, 2}


@pytest.mark.parametrize(
    "query",
    [
        {"window_seconds": "59"}, {"window_seconds": "2592001"}, {"window_seconds": "nan"}, {"window_seconds": "x"},
        {"until": "yesterday"}, {"until": "2026-13-01T00:00:00Z"}, {"until": ""}, {"since": "now"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(rest: Served, query: dict[str, str]) -> None:
    rest.limit()
    answer = rest.client.get("/v1/limits/db/history", params=query)
    assert answer.status_code == 422
    assert next(iter(query)) in answer.json()["detail"]


def test_a_limit_that_does_not_exist_has_no_past(rest: Served) -> None:
    rest.limit("database")
    problem = problem_of(rest.client.get("/v1/limits/databse/history"), 404, "limit_not_found")
    assert problem["suggestion"] == "database"


def test_several_limits_are_told_at_once_and_unknown_ones_left_out(rest: Served) -> None:
    ids = [rest.limit(f"n{number}", 3)["id"] for number in range(3)]
    rest.acquire("n1")
    answer = rest.client.get(
        "/v1/history", params={"ids": ",".join([*ids, "0b6a1f1e-4a52-4b0e-9d5c-55b4f4d3c1b7"])}
    )
    page = answer.json()
    assert [item["id"] for item in page["items"]] == ids
    assert page["step_seconds"] == 30
    assert {len(item["in_use_mean"]) for item in page["items"]} == {30}
    idle, used, _ = (item["in_use_mean"][-1] for item in page["items"])
    assert idle == 0
    assert 0 < used <= 1
    assert page["items"][0]["in_use_mean"][0] is None


@pytest.mark.parametrize("ids", ["", "db", ",".join(["0b6a1f1e-4a52-4b0e-9d5c-55b4f4d3c1b7"] * 101)])
def test_ids_must_be_some_and_not_too_many(rest: Served, ids: str) -> None:
    problem_of(rest.client.get("/v1/history", params={"ids": ids}), 422, "invalid_request")
