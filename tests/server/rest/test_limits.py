"""Limits over REST."""

import pytest

from ebbgate.client.client import Client
from tests.server.rest.serving import Served, problem_of


def test_a_created_limit_is_read_where_its_location_says(rest: Served) -> None:
    answer = rest.client.post("/v1/limits", json={"name": "db", "limit": 5, "description": "five"})
    assert answer.status_code == 201
    limit = answer.json()
    assert answer.headers["location"] == f"/v1/limits/{limit['id']}"
    assert rest.client.get(answer.headers["location"]).json() == limit
    assert rest.client.get("/v1/limits/db").json() == limit
    wanted = {"name": "db", "limit": 5, "slot_decay_per_second": 0.0, "active": True, "description": "five"}
    assert limit.items() >= {**wanted, "active_slots": 0, "held_slots": 0, "waiting": 0}.items()


def test_a_name_is_taken_once(rest: Served) -> None:
    rest.limit("db")
    answer = rest.client.post("/v1/limits", json={"name": "db", "limit": 5})
    assert problem_of(answer, 409, "limit_exists")["name"] == "db"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a/b", "limit": 1},
        {"name": "", "limit": 1},
        {"name": "db", "limit": -1},
        {"name": "db", "limit": 10**30},
        {"name": "db", "limit": 1, "slot_decay_per_second": 1e9},
        {"name": "db", "limit": 1, "slot_decay_per_second": "often"},
        {"name": "db", "limit": 1, "rate": "0.0000000001/s"},
        {"name": "db", "limit": 1, "rate": "0/s"},
        {"name": "db", "limit": 1, "rate": "90"},
        {"name": "db", "limit": 1, "slot_decay_per_second": "0/s"},
        {"name": "db", "limit": 1, "description": "x" * 2001},
    ],
)
def test_a_limit_that_cannot_be_is_refused(rest: Served, body: dict[str, object]) -> None:
    problem_of(rest.client.post("/v1/limits", json=body), 422, "invalid_limit")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "db"},
        {"name": 5, "limit": 1},
        {"name": "db", "limit": "5"},
        {"name": "db", "limit": 1.5},
        {"name": "db", "limit": True},
        {"name": "db", "limit": 1, "active": "yes"},
        {"name": "db", "limit": 1, "slot_decay_per_second": 1, "rate": "5/s"},
        [],
        "db",
    ],
)
def test_a_body_of_wrong_types_is_refused(rest: Served, body: object) -> None:
    problem_of(rest.client.post("/v1/limits", json=body), 422, "invalid_request")


def test_a_misspelt_field_is_refused_with_the_right_one(rest: Served) -> None:
    answer = rest.client.post("/v1/limits", json={"name": "db", "limt": 1})
    assert "did you mean 'limit'?" in problem_of(answer, 422, "invalid_request")["detail"]


def test_a_whole_number_may_be_written_with_a_point(rest: Served) -> None:
    answer = rest.client.post(
        "/v1/limits", content=b'{"name":"db","limit":5.0}', headers={"Content-Type": "application/json"}
    )
    assert answer.json()["limit"] == 5


@pytest.mark.parametrize("field", ["slot_decay_per_second", "rate"])
def test_a_decay_may_be_written_as_a_rate(rest: Served, field: str) -> None:
    assert rest.limit("mails", 60, **{field: "60/hour"})["slot_decay_per_second"] == 1 / 60
    changed = rest.client.patch("/v1/limits/mails", json={field: "5/s"})
    assert changed.json()["slot_decay_per_second"] == 5.0


@pytest.mark.parametrize("name", ["möil", "日本", "a b", "100 $", "~", "a+b", "é", "😀", "renew"])
def test_every_name_can_be_addressed(rest: Served, name: str) -> None:
    limit = rest.limit(name)
    path = f"/v1/limits/{limit['name']}"
    assert rest.client.get(path).json() == limit
    assert rest.client.patch(path, json={"limit": 7}).json()["limit"] == 7
    assert rest.client.delete(path).status_code == 204
    problem_of(rest.client.get(path), 404, "limit_not_found")


def test_pages_give_every_limit_once_by_name(rest: Served) -> None:
    names = [f"n{number:02}" for number in range(25)]
    for name in reversed(names):
        rest.limit(name)
    found: list[str] = []
    query = {"page_size": "10"}
    while True:
        page = rest.client.get("/v1/limits", params=query).json()
        found += [limit["name"] for limit in page["items"]]
        assert len(page["items"]) <= 10
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == names


def test_limits_are_found_by_the_begin_of_their_name_or_all_of_it(rest: Served) -> None:
    for name in ("é", "éa", "b"):
        rest.limit(name)

    def found(**query: str) -> list[str]:
        return [limit["name"] for limit in rest.client.get("/v1/limits", params=query).json()["items"]]

    assert found(prefix="e\u0301") == ["é", "éa"]
    assert found(name="e\u0301") == ["é"]
    assert found(name="c") == []
    assert found() == ["b", "é", "éa"]


@pytest.mark.parametrize(
    "query", ["page_size=0", "page_size=1001", "page_size=x", "page_siz=1", "name=a&name=b", "name=%ff"]
)
def test_a_wrong_parameter_is_refused(rest: Served, query: str) -> None:
    answer = rest.client.get(f"/v1/limits?{query}")
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"invalid_request", "malformed"}


def test_putting_creates_then_replaces_all_but_what_is_going_on(rest: Served) -> None:
    created = rest.client.put("/v1/limits/db", json={"limit": 5, "description": "old", "active": True})
    assert created.status_code == 201
    assert created.headers["location"] == f"/v1/limits/{created.json()['id']}"
    rest.acquire("db")
    replaced = rest.client.put("/v1/limits/db", json={"limit": 3})
    assert replaced.status_code == 200
    wanted = {"id": created.json()["id"], "limit": 3, "description": "", "held_slots": 1}
    assert replaced.json().items() >= wanted.items()


def test_putting_by_id_replaces_and_renames_but_never_creates(rest: Served) -> None:
    limit = rest.limit("db")
    path = f"/v1/limits/{limit['id']}"
    assert rest.client.put(path, json={"name": "data", "limit": 2}).json()["name"] == "data"
    assert rest.client.get("/v1/limits/data").json()["limit"] == 2
    absent = "/v1/limits/5ff5ac83-5f33-4b1f-9fb1-cc9e6ba45f30"
    problem_of(rest.client.put(absent, json={"limit": 2}), 404, "limit_not_found")


def test_putting_under_a_new_name_renames_and_may_be_repeated(rest: Served) -> None:
    limit = rest.limit("db")
    for _ in range(2):
        answer = rest.client.put("/v1/limits/db", json={"name": "data", "limit": 2})
        assert answer.status_code == 200
        assert answer.json().items() >= {"id": limit["id"], "name": "data", "limit": 2}.items()
    assert len(rest.client.get("/v1/limits").json()["items"]) == 1


def test_patching_changes_what_is_given_alone(rest: Served) -> None:
    limit = rest.limit("db", 5, description="five", slot_decay_per_second=2)
    answer = rest.client.patch("/v1/limits/db", json={"active": False})
    assert {**answer.json(), "updated": ""} == {**limit, "active": False, "updated": ""}
    assert rest.client.patch("/v1/limits/db", json={"name": "data"}).json()["id"] == limit["id"]
    media_type = {"Content-Type": "application/merge-patch+json"}
    answer = rest.client.patch("/v1/limits/data", content=b'{"limit":7}', headers=media_type)
    assert answer.json()["limit"] == 7
    problem_of(rest.client.patch("/v1/limits/data", json={"limit": None}), 422, "invalid_request")
    problem_of(rest.client.patch("/v1/limits/nobody", json={"limit": 1}), 404, "limit_not_found")


@pytest.mark.parametrize("wrong", ["a%26b", "%20a", "a%07"])
def test_putting_at_what_cannot_be_a_name_is_refused_whatever_the_new_name(rest: Served, wrong: str) -> None:
    problem_of(
        rest.client.put(f"/v1/limits/{wrong}", json={"name": "data", "limit": 2}), 422, "invalid_limit"
    )
    problem_of(rest.client.get("/v1/limits/data"), 404, "limit_not_found")


def test_renaming_to_a_name_that_is_taken_is_refused(rest: Served) -> None:
    rest.limit("a")
    rest.limit("b")
    problem_of(rest.client.patch("/v1/limits/a", json={"name": "b"}), 409, "limit_exists")


def test_a_missing_limit_is_missed_with_a_near_miss(rest: Served) -> None:
    rest.limit("database")
    for ask in (rest.client.get, rest.client.delete):
        problem = problem_of(ask("/v1/limits/databse"), 404, "limit_not_found")
        assert problem["suggestion"] == "database"


def test_a_limit_in_use_is_deleted_by_force_alone(rest: Served) -> None:
    rest.limit("db")
    held = rest.acquire("db")
    waiting = rest.acquire("db", status=202)
    problem = problem_of(rest.client.delete("/v1/limits/db"), 409, "limit_in_use")
    assert (problem["holders"], problem["waiters"]) == (1, 1)
    assert problem["who"] == [f"client rest held {held['id']}", f"client rest waiting {waiting['id']}"]
    problem_of(rest.client.delete("/v1/limits/db?force=yes"), 422, "invalid_request")
    problem_of(rest.client.delete("/v1/limits/db?forced=true"), 422, "invalid_request")
    assert rest.client.delete("/v1/limits/db?force=true").status_code == 204
    problem_of(rest.client.delete("/v1/limits/db?force=true"), 404, "limit_not_found")
    assert rest.read(waiting).json()["state"] == "held", "it goes on without the limit"


@pytest.mark.parametrize("way", ["rest", "prefect", "client"])
def test_every_way_to_delete_a_limit_is_logged(
    rest: Served, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    rest.limit("db")
    rest.acquire("db")
    with caplog.at_level("INFO", "ebbgate"):
        if way == "rest":
            assert rest.client.delete("/v1/limits/db?force=true").status_code == 204
        elif way == "prefect":
            assert rest.client.delete("/api/v2/concurrency_limits/db").status_code == 204
        else:
            with Client(rest.url.replace("http://", "ebbgate://")) as client:
                client.delete_limit("db", force=True)
    told = [record.__dict__["fields"] for record in caplog.records if record.message == "limit deleted"]
    assert [(one["limit"], one["force"], one["way"]) for one in told] == [("db", True, way)]


def test_a_request_that_is_sent_again_under_its_key_changes_nothing_more(rest: Served) -> None:
    def create(limit: int, key: str) -> tuple[int, object]:
        answer = rest.client.post(
            "/v1/limits", json={"name": "db", "limit": limit}, headers={"Idempotency-Key": key}
        )
        return answer.status_code, answer.json().get("id")

    first = create(5, "a")
    assert first[0] == 201
    assert create(5, "a") == first
    assert create(5, "b")[0] == 409
    assert create(6, "a")[0] == 409, "another body is another request"
    answer = rest.client.post(
        "/v1/limits", json={"name": "x", "limit": 1}, headers={"Idempotency-Key": "a b"}
    )
    problem_of(answer, 422, "invalid_request")


def test_a_limit_cools_down_and_lets_people_in_again(rest: Served) -> None:
    rest.limit("vendor", 5)
    cool = "/v1/limits/vendor/cool-down"
    answer = rest.client.post(cool, json={"duration_seconds": 60, "why": "429 from the vendor"})
    assert answer.status_code == 200
    assert answer.json()["cool_down_why"] == "429 from the vendor"
    waiting = rest.acquire("vendor", status=202)
    shorter = rest.client.post(cool, json={"duration_seconds": 1}).json()
    assert shorter["cool_down_until"] == answer.json()["cool_down_until"], "the longer one stays"
    assert rest.client.post(cool, json={"duration_seconds": 0}).json()["cool_down_until"] is None
    assert rest.read(waiting).json()["state"] == "held"
    problem_of(rest.client.post(cool, json={"duration_seconds": 1e9}), 422, "invalid_request")
    problem_of(rest.client.post(cool, json={"seconds": 1}), 422, "invalid_request")
    gone = rest.client.post("/v1/limits/nobody/cool-down", json={"duration_seconds": 1})
    problem_of(gone, 404, "limit_not_found")
