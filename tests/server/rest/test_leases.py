"""Leases and spends over REST."""

import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from ebbgate.core.commands import Acquire, Hello, Release
from ebbgate.server.keys import Keys
from tests.cli.support import wait_until
from tests.server.rest.serving import Served, problem_of, served

FIRST_KEY = "0123456789abcdef-first"
OTHER_KEY = "0123456789abcdef-other"


@pytest.fixture
def keyed() -> Iterator[Served]:
    """Give a server with two keys."""
    with served(keys=Keys([f"first={FIRST_KEY}", f"other={OTHER_KEY}"])) as here:
        here.client = here.caller(FIRST_KEY)
        yield here


def is_over(rest: Served, lease: dict[str, Any]) -> bool:
    return bool(rest.read(lease).json()["state"] == "ended")


def renew(client: httpx.Client, *leases: dict[str, Any], **more: object) -> list[dict[str, Any]]:
    answer = client.post("/v1/leases/renew", json={"ids": [lease["id"] for lease in leases], **more})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def test_a_lease_is_held_until_it_is_released(rest: Served) -> None:
    rest.limit("db", 2)
    lease = rest.acquire("db", labels={"job": "report"})
    assert (lease["state"], lease["kind"], lease["unknown"]) == ("held", "hold", [])
    assert lease["fencing_token"] > 0
    assert lease["expires"] > lease["granted"]
    assert lease["lease_duration_seconds"] == 300.0
    assert lease["holder"]["labels"] == {"job": "report", "address": "127.0.0.1"}
    assert rest.client.get("/v1/limits/db").json()["held_slots"] == 1
    rest.release(lease)
    assert rest.client.get("/v1/limits/db").json()["held_slots"] == 0
    after = rest.read(lease).json()
    assert (after["state"], after["why"]) == ("ended", "released")


def test_several_limits_are_taken_all_or_none(rest: Served) -> None:
    rest.limit("a", 5)
    rest.limit("b", 1)
    body = {"limits": [{"name": "a", "slots": 2}, {"name": "b"}, {"name": "b", "slots": 1}]}
    limits = rest.client.post("/v1/leases", json=body).json()["limits"]
    assert {limit["name"]: limit["slots"] for limit in limits} == {"a": 2, "b": 1}
    waiting = rest.client.post("/v1/leases", json=body)
    assert waiting.status_code == 202
    assert waiting.json()["lacks"] == ["b"]
    assert rest.client.get("/v1/limits/a").json()["held_slots"] == 2


def test_a_limit_that_is_named_twice_differently_is_refused(rest: Served) -> None:
    body = {"limits": [{"name": "a", "slots": 2}, {"name": "a"}]}
    problem_of(rest.client.post("/v1/leases", json=body), 422, "invalid_request")


def test_who_finds_no_room_is_told_its_place_and_when_to_ask_again(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    body = {"limits": [{"name": "db"}]}
    first, second = (rest.client.post("/v1/leases", json=body) for _ in range(2))
    for answer, position in ((first, 1), (second, 2)):
        assert answer.status_code == 202
        lease = answer.json()
        assert (lease["state"], lease["position"], lease["lacks"]) == ("waiting", position, ["db"])
        assert lease["blocked_by"] == [held["id"]]
        assert 0 < lease["retry_after_seconds"] <= 5
        assert int(answer.headers["retry-after"]) >= lease["retry_after_seconds"]
    rest.release(held)
    answer = rest.read(first.json())
    assert (answer.status_code, answer.json()["state"]) == (200, "held")
    assert rest.read(second.json()).json()["position"] == 1


def test_a_waiter_leaves_the_queue_when_it_is_released(rest: Served) -> None:
    rest.limit("db")
    rest.acquire("db")
    waiting = rest.acquire("db", status=202)
    rest.release(waiting)
    assert rest.client.get("/v1/limits/db").json()["waiting"] == 0


def test_the_same_id_is_the_same_lease(rest: Served) -> None:
    rest.limit("db", 5)
    lease_id = str(uuid.uuid4())
    first = rest.acquire("db", id=lease_id)
    assert first["id"] == lease_id
    assert rest.acquire("db", id=lease_id.upper()) == first
    assert rest.client.get("/v1/limits/db").json()["held_slots"] == 1
    problem_of(
        rest.client.post("/v1/leases", json={"id": lease_id, "limits": [{"name": "db", "slots": 2}]}),
        409,
        "id_reused",
    )
    rest.release(first)
    problem_of(
        rest.client.post("/v1/leases", json={"id": lease_id, "limits": [{"name": "db"}]}), 409, "id_reused"
    )


def test_what_is_released_before_it_is_acquired_is_never_acquired(rest: Served) -> None:
    rest.limit("db")
    lease_id = str(uuid.uuid4())
    for _ in range(2):
        rest.release({"id": lease_id})
    problem_of(
        rest.client.post("/v1/leases", json={"id": lease_id, "limits": [{"name": "db"}]}), 409, "id_reused"
    )
    assert rest.client.get("/v1/limits/db").json()["held_slots"] == 0


def test_unknown_limits_are_named_and_do_not_protect(rest: Served) -> None:
    rest.limit("database")
    lease = rest.acquire("database", "databse")
    assert (lease["unknown"], lease["suggestion"]) == (["databse"], "database")
    assert lease["limits"] == [{"name": "database", "slots": 1}]


def test_a_strict_caller_gets_nothing_when_a_limit_is_unknown(rest: Served) -> None:
    rest.limit("database")
    body = {"limits": [{"name": "database"}, {"name": "databse"}], "strict": True}
    problem = problem_of(rest.client.post("/v1/leases", json=body), 404, "limit_not_found")
    assert (problem["names"], problem["suggestion"]) == (["databse"], "database")
    assert rest.client.get("/v1/limits/database").json()["held_slots"] == 0


def test_who_wants_no_place_in_the_queue_is_refused_at_once(rest: Served) -> None:
    rest.limit("db")
    rest.acquire("db")
    body = {"limits": [{"name": "db"}], "queue": False, "wait_seconds": 30}
    problem = problem_of(rest.client.post("/v1/leases", json=body), 409, "no_slot_free")
    assert "queue=false" in problem["detail"]
    assert rest.client.get("/v1/limits/db").json()["waiting"] == 0


def test_more_than_a_limit_has_never_fits(rest: Served) -> None:
    rest.limit("db", 2)
    body = {"limits": [{"name": "db", "slots": 3}]}
    problem = problem_of(rest.client.post("/v1/leases", json=body), 422, "never_fits")
    assert (problem["name"], problem["slots"], problem["limit"]) == ("db", 3, 2)


@pytest.mark.parametrize(
    "more",
    [
        {"lease_duration_seconds": 0.1},
        {"lease_duration_seconds": 86_401},
        {"lease_duration_seconds": 1e300},
        {"lease_duration_seconds": -1},
        {"wait_seconds": 61},
        {"wait_seconds": -1},
        {"priority": 1_000_001},
        {"labels": {"a": 1}},
        {"labels": {"a": "x" * 201}},
        {"limits": []},
        {"limits": [{"name": f"n{number}"} for number in range(101)]},
        {"limits": [{"name": "db", "slots": 0}]},
        {"limits": ["db"]},
        {"id": "mine"},
        {"wait": 5},
    ],
)
def test_terms_out_of_range_are_refused(rest: Served, more: dict[str, object]) -> None:
    answer = rest.client.post("/v1/leases", json={"limits": [{"name": "db"}], **more})
    problem_of(answer, 422, "invalid_request")


def test_a_name_that_no_limit_can_have_is_refused(rest: Served) -> None:
    problem_of(rest.client.post("/v1/leases", json={"limits": [{"name": "a/b"}]}), 422, "invalid_limit")


def test_higher_priority_goes_first(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    low = rest.acquire("db", status=202)
    high = rest.acquire("db", status=202, priority=5)
    assert high["position"] == 1
    rest.release(held)
    assert rest.read(high).json()["state"] == "held"
    assert rest.read(low).json()["state"] == "waiting"


# --- looking


def test_leases_are_listed_by_limit_state_and_holder_in_pages(rest: Served) -> None:
    rest.limit("a", 5)
    rest.limit("b", 1)
    held = [rest.acquire("a", labels={"job": f"j{number}"}) for number in range(5)]
    other = rest.acquire("b")
    waiting = rest.acquire("b", status=202)

    def found(**query: str) -> list[str]:
        ids: list[str] = []
        while True:
            answer = rest.client.get("/v1/leases", params={"page_size": "2", **query}).json()
            ids += [lease["id"] for lease in answer["items"]]
            if answer["next_cursor"] is None:
                return ids
            query["cursor"] = answer["next_cursor"]

    everybody = [lease["id"] for lease in (*held, other, waiting)]
    assert found() == everybody
    assert found(limit="b") == [other["id"], waiting["id"]]
    assert found(state="waiting") == [waiting["id"]]
    assert found(holder="j3") == [held[3]["id"]]
    rest.release(held[0])
    assert found(state="ended") == [held[0]["id"]]
    problem_of(rest.client.get("/v1/leases?limit=c"), 404, "limit_not_found")
    problem_of(rest.client.get("/v1/leases?state=asleep"), 422, "invalid_request")


def test_a_lease_that_is_not_known_is_not_found(rest: Served) -> None:
    lease_id = str(uuid.uuid4())
    problem_of(rest.client.get(f"/v1/leases/{lease_id}"), 404, "lease_not_found")
    problem_of(rest.client.post(f"/v1/leases/{lease_id}/revoke"), 404, "lease_not_found")
    problem_of(rest.client.get("/v1/leases/mine"), 404, "lease_not_found")
    problem_of(rest.client.delete("/v1/leases/mine"), 422, "invalid_request")
    problem_of(rest.client.get(f"/v1/leases/{lease_id}?wait_seconds=forever"), 422, "invalid_request")


def test_a_lease_that_is_forgotten_is_shown_from_the_log(rest: Served) -> None:
    rest.limit("db")
    hello = Hello("stream-1", 1, remembers="nothing")
    commands = (
        hello,
        Acquire("theirs", "stream-1", 1, (("db", 1),), 60_000_000),
        Release("theirs", "stream-1", 1),
    )
    rest.run(rest.decider.carry_out(commands))
    assert rest.do(lambda: "theirs" not in rest.decider.book.leases)
    lease = rest.client.get("/v1/leases/theirs").json()
    assert (lease["state"], lease["why"], lease["unknown"]) == ("ended", "released", [])


# --- keeping


def test_renewing_restarts_the_countdown_of_each(rest: Served) -> None:
    rest.limit("db", 2)
    first, second = rest.acquire("db"), rest.acquire("db", lease_duration_seconds=60)
    waiting = rest.acquire("db", status=202)
    unknown = {"id": str(uuid.uuid4())}
    held, short, queued, lost = renew(rest.client, first, second, waiting, unknown)
    assert (held["result"], held["fencing_token"]) == ("held", first["fencing_token"])
    assert held["expires"] > first["expires"]
    assert rest.read(second).json()["lease_duration_seconds"] == 60, "as before"
    assert (short["result"], queued["result"]) == ("held", "waiting")
    assert (lost["result"], lost["why"], lost["when"]) == ("lost", "unknown", None)
    renew(rest.client, first, lease_duration_seconds=120)
    assert rest.read(first).json()["lease_duration_seconds"] == 120


@pytest.mark.parametrize(
    "body",
    [
        {"ids": []},
        {"ids": ["x"]},
        {"ids": [str(uuid.uuid4())] * 1001},
        {},
        {"ids": [str(uuid.uuid4())], "lease_duration_seconds": 1e6},
    ],
)
def test_a_wrong_renewal_is_refused(rest: Served, body: dict[str, object]) -> None:
    rest.acquire("db")  # there is a session
    rest.limit("db")
    lease = rest.acquire("db")
    if body.get("lease_duration_seconds"):
        body = {**body, "ids": [lease["id"]]}
    problem_of(rest.client.post("/v1/leases/renew", json=body), 422, "invalid_request")


def test_a_renewal_that_comes_too_late_takes_the_slots_again_or_says_why_not() -> None:
    with served(recovery_grace_seconds=0.0) as rest:
        rest.limit("db", 2)
        kept, strict = (rest.acquire("db", lease_duration_seconds=0.3) for _ in range(2))
        for lease in (kept, strict):
            wait_until(partial(is_over, rest, lease), "it did not expire")
        (lost,) = renew(rest.client, strict, retake=False)
        assert (lost["result"], lost["why"]) == ("lost", "expired")
        assert lost["when"] >= strict["expires"]
        (again,) = renew(rest.client, kept, lease_duration_seconds=60)
        assert again["result"] == "reacquired"
        assert again["fencing_token"] > kept["fencing_token"]


def test_a_revoked_lease_is_lost_and_its_slots_pass_on(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    waiting = rest.acquire("db", status=202)
    for _ in range(2):
        assert rest.client.post(f"/v1/leases/{held['id']}/revoke").status_code == 204
    assert rest.read(waiting).json()["state"] == "held"
    (lost,) = renew(rest.client, held)
    assert (lost["result"], lost["why"]) == ("lost", "revoked")


def test_a_waiter_that_is_taken_out_is_told_when_it_asks_again(rest: Served) -> None:
    rest.limit("db")
    rest.acquire("db")
    waiting = rest.acquire("db", status=202)
    rest.client.post(f"/v1/leases/{waiting['id']}/revoke")
    body = {"id": waiting["id"], "limits": [{"name": "db"}]}
    problem = problem_of(rest.client.post("/v1/leases", json=body), 409, "waiter_removed")
    assert problem["why"] == "revoked"
    assert rest.read(waiting).json()["why"] == "revoked"


def test_a_waiter_that_can_never_get_in_any_more_is_told_why(rest: Served) -> None:
    rest.limit("db", 5)
    rest.acquire("db")
    body = {"limits": [{"name": "db", "slots": 5}]}
    waiting = rest.client.post("/v1/leases", json=body).json()
    rest.client.patch("/v1/limits/db", json={"limit": 4})
    problem_of(rest.read(waiting), 422, "never_fits")
    problem_of(rest.client.post("/v1/leases", json={**body, "id": waiting["id"]}), 422, "never_fits")


# --- spending


def test_slots_are_spent_until_time_brings_them_back(rest: Served) -> None:
    rest.limit("mails", 2, slot_decay_per_second=4)
    body: dict[str, Any] = {"limits": [{"name": "mails"}]}
    for _ in range(2):
        answer = rest.client.post("/v1/spends", json=body)
        assert answer.status_code == 201
        assert answer.json().items() >= {"state": "ended", "why": "spent", "kind": "spend"}.items()
    waiting = rest.client.post("/v1/spends", json=body)
    assert waiting.status_code == 202
    assert 0 < waiting.json()["estimate_seconds"] <= 0.25
    assert waiting.headers["retry-after"] == "1"
    answer = rest.read(waiting.json(), wait_seconds=10)
    assert (answer.status_code, answer.json()["why"]) == (200, "spent")


def test_the_same_spend_is_spent_once(rest: Served) -> None:
    rest.limit("mails", 5, rate="1/day")
    body: dict[str, Any] = {"id": str(uuid.uuid4()), "limits": [{"name": "mails"}]}
    first, second = (rest.client.post("/v1/spends", json=body) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["fencing_token"] == second.json()["fencing_token"]
    assert rest.client.get("/v1/limits/mails").json()["active_slots"] == 1


def test_what_has_no_decay_cannot_be_spent(rest: Served) -> None:
    rest.limit("db")
    answer = rest.client.post("/v1/spends", json={"limits": [{"name": "db"}]})
    assert problem_of(answer, 422, "no_slot_decay")["names"] == ["db"]


def test_who_does_not_want_to_wait_for_a_spend_is_refused(rest: Served) -> None:
    rest.limit("mails", 1, rate="1/day")
    body: dict[str, Any] = {"limits": [{"name": "mails"}], "queue": False}
    assert rest.client.post("/v1/spends", json=body).status_code == 201
    problem_of(rest.client.post("/v1/spends", json=body), 409, "no_slot_free")


# --- whose it is


def test_a_lease_is_renewed_and_released_only_with_the_key_that_took_it(keyed: Served) -> None:
    other = keyed.caller(OTHER_KEY)
    keyed.limit("db", 1)
    lease = keyed.acquire("db")
    waiting = keyed.acquire("db", status=202)
    assert lease["holder"]["session"] == "rest-first"
    for one in (lease, waiting):
        problem_of(other.delete(f"/v1/leases/{one['id']}"), 403, "not_authorized")
        (refused,) = renew(other, one)
        assert (refused["result"], refused["why"]) == ("refused", "not_authorized")
    body = {"id": lease["id"], "limits": [{"name": "db"}]}
    problem_of(other.post("/v1/leases", json=body), 409, "id_reused")
    assert other.get(f"/v1/leases/{lease['id']}").json()["state"] == "held", "everybody may look"
    assert other.get(f"/v1/leases/{waiting['id']}?wait_seconds=60").status_code == 202, "and only looks"
    assert other.post(f"/v1/leases/{waiting['id']}/revoke").status_code == 204, "an operator's word"
    keyed.release(lease)


def test_looking_at_the_grant_of_another_does_not_fetch_it(keyed: Served) -> None:
    other = keyed.caller(OTHER_KEY)
    keyed.limit("db", 1)
    lease = keyed.acquire("db")
    waiting = keyed.acquire("db", status=202)
    keyed.release(lease)

    def due() -> int:
        return keyed.do(lambda: keyed.decider.book.leases[waiting["id"]].attend_due_us)

    assert other.get(f"/v1/leases/{waiting['id']}").json()["state"] == "held"
    assert due() > 0
    assert keyed.read(waiting).json()["state"] == "held"
    assert due() < 0


def test_the_lease_of_another_kind_of_client_is_not_released(rest: Served) -> None:
    rest.limit("db", 1)
    hello = Hello("stream-1", 1, host="elsewhere", pid=7, remembers="spends")
    acquire = Acquire("theirs", "stream-1", 1, (("db", 1),), 60_000_000)
    rest.run(rest.decider.carry_out((hello, acquire)))
    (listed,) = rest.client.get("/v1/leases").json()["items"]
    assert listed["holder"].items() >= {"host": "elsewhere", "pid": 7}.items()
    assert rest.client.get("/v1/leases/theirs").json()["state"] == "held"
    problem_of(rest.client.delete("/v1/leases/theirs"), 422, "invalid_request")
    assert rest.client.post("/v1/leases/theirs/revoke").status_code == 204


def test_leases_outlive_the_server(tmp_path: Any) -> None:  # noqa: ANN401 - a path
    store = f"sqlite:///{tmp_path / 'limits.db'}"
    with served(store=store, socket=False) as rest:
        rest.limit("db")
        lease = rest.acquire("db")
        waiting = rest.acquire("db", status=202)
    with served(store=store, socket=False) as rest:
        assert rest.read(lease).json()["fencing_token"] == lease["fencing_token"]
        assert rest.read(waiting).json()["position"] == 1
        rest.release(lease)
        assert rest.read(waiting).json()["state"] == "held"
