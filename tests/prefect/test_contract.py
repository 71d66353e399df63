"""Every answer is the one that Prefect's server gives, unless it is meant to be another one."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.prefect.contract import CASES, KEPT, LIMITS, Case, ask
from tests.prefect.environments import python_of
from tests.prefect.support import Background, Caller, held
from tests.prefect.theirs import prefect_server
from tests.server.processes import Served, started

PREFIX = "/api/accounts/2f1f4e0a-8e4f-4f6e-9b0a-111111111111/workspaces/2f1f4e0a-8e4f-4f6e-9b0a-222222222222"


def kept() -> list[list[Any]]:
    """Return what Prefect's server answered when that was recorded."""
    answers: list[list[Any]] = json.loads(KEPT.read_text(encoding="utf-8"))
    assert [entry[0] for entry in answers] == [str(case) for case in CASES], "record them anew"
    return [entry[1:] for entry in answers]


@contextmanager
def empty_server(tmp_path: Path) -> Iterator[Served]:
    with started(tmp_path) as server:
        yield server


def test_every_request_is_answered_as_by_prefects_server(tmp_path: Path) -> None:
    with empty_server(tmp_path) as server:
        found = [ask(server.url, case).comparable() for case in CASES]
    for case, expected, answer in zip(CASES, kept(), found, strict=True):
        if case.ours:
            assert answer != expected, f"{case} is answered alike by now"
        else:
            assert answer == expected, str(case)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_prefects_server_answers_is_what_was_recorded(tmp_path: Path) -> None:
    with prefect_server(python_of("newest"), tmp_path) as url:
        found = [ask(url, case).comparable() for case in CASES]
    for case, expected, answer in zip(CASES, kept(), found, strict=True):
        assert answer == expected, str(case)


def test_nothing_is_taken_by_a_request_that_is_refused(tmp_path: Path) -> None:
    with empty_server(tmp_path) as server:
        caller = Caller(server.url)
        caller.create("a", 2)
        refused = 0
        for case in CASES:
            if case.method == "POST" and "/increment" in case.path:
                answered = ask(server.url, case)
                if answered.status == 422:
                    refused += 1
                    assert caller.active_slots("a") == 0, str(case)
                elif isinstance(answered.body, dict):
                    caller.release(answered.body["lease_id"])
                else:
                    caller.give("a")
        assert refused > 20
        assert caller.waiting("a") == 0


def test_the_same_is_served_below_an_account_and_a_workspace(caller: Caller) -> None:
    caller.create("cloudy", 3)
    assert caller.ask("GET", f"{PREFIX}/v2/concurrency_limits/cloudy").body["limit"] == 3
    moved = caller.ask("POST", f"{PREFIX}/v2/concurrency_limits", {"name": "other", "limit": 1})
    assert (moved.status, moved.headers["location"]) == (307, f"{PREFIX}/v2/concurrency_limits/")


@pytest.mark.parametrize("name", ["with space", "ключ", "a:b", "tag:x", "it's", "a.b@c"])
def test_a_limit_of_any_allowed_name_is_found_by_it(caller: Caller, name: str) -> None:
    caller.create(name, 1)
    assert caller.read(quote(name))["name"] == name
    lease = caller.acquire(name).lease_id
    assert caller.active_slots(quote(name)) == 1
    caller.release(lease)
    assert caller.ask("DELETE", f"{LIMITS}/{quote(name)}").status == 204


@pytest.mark.parametrize("name", ["x" * 201, "a#b", "a?b", " a", "0" * 32, "a\x07b"])
def test_a_name_that_could_not_be_addressed_is_refused_with_the_reason(caller: Caller, name: str) -> None:
    refused = caller.ask("POST", f"{LIMITS}/", {"name": name, "limit": 1})
    assert refused.status == 422
    assert (
        "name" in refused.body["exception_detail"][0]["msg"]
        or "id" in refused.body["exception_detail"][0]["msg"]
    )


def test_lists_go_beyond_what_one_answer_holds(tmp_path: Path) -> None:
    with empty_server(tmp_path) as server:
        caller = Caller(server.url)
        names = sorted(f"limit-{number}" for number in range(230))
        for name in names:
            caller.create(name, 1)
        first = caller.ask("POST", f"{LIMITS}/filter", {}).body
        rest = caller.ask("POST", f"{LIMITS}/filter", {"offset": 200}).body
        assert [limit["name"] for limit in (*first, *rest)] == names


def test_a_reset_of_active_slots_is_refused_with_what_to_do_instead(caller: Caller) -> None:
    caller.create("busy", 2)
    with held(caller, "busy"):
        refused = caller.ask("PATCH", f"{LIMITS}/busy", {"active_slots": 0})
        assert refused.status == 422
        (told,) = refused.body["exception_detail"]
        assert (told["loc"], told["input"]) == (["body", "active_slots"], 0)
        assert "`ebbgate lease revoke" in told["msg"]
        assert caller.ask("PATCH", f"{LIMITS}/busy", {"active_slots": 1}).status == 204
        assert caller.active_slots("busy") == 1
    assert caller.ask("PATCH", f"{LIMITS}/busy", {"active_slots": 0}).status == 204
    assert caller.ask("PATCH", f"{LIMITS}/busy", {"active_slots": 1}).status == 422
    assert caller.ask("PATCH", f"{LIMITS}/none", {"active_slots": 1}).status == 404


def test_active_slots_are_ignored_among_the_fields_of_a_form(caller: Caller) -> None:
    """Prefect's page sends every field, with a number of slots that may be 30 s old."""
    caller.create("form", 2)
    form = {"name": "form", "limit": 4, "active": True, "active_slots": 0, "denied_slots": 0}
    with held(caller, "form"):
        assert caller.ask("PATCH", f"{LIMITS}/form", form).status == 204
        assert (caller.read("form")["limit"], caller.active_slots("form")) == (4, 1)


def test_a_renamed_or_edited_rate_limit_keeps_what_is_spent(caller: Caller) -> None:
    caller.create("spent", 5, 0.001)
    assert caller.take("spent", slots=5, mode="rate_limit").status == 200
    assert caller.ask("PATCH", f"{LIMITS}/spent", {"name": "spent-2", "active_slots": 0}).status == 204
    assert caller.active_slots("spent-2") == 5


def test_a_deleted_limit_lets_its_waiters_through_and_a_new_one_starts_empty(caller: Caller) -> None:
    caller.create("gone", 1)
    lease = caller.acquire("gone").lease_id
    waiter = Background(Caller(f"http://{caller.place}").acquire, "gone")
    caller.wait_for_waiters("gone", 1)
    assert caller.ask("DELETE", f"{LIMITS}/gone").status == 204
    assert waiter.answer().status == 200
    assert caller.renew(lease).status == 204
    caller.create("gone", 1)
    assert caller.active_slots("gone") == 0


def test_a_wrong_case_is_told_apart_from_a_missing_route(caller: Caller) -> None:
    for case, status in (
        (Case("GET", "/api/v2/concurrency_limit/x"), 404),
        (Case("GET", "/api"), 404),
        (Case("POST", "/api/health"), 405),
        (Case("GET", "/api/logs/"), 404),
        (Case("GET", "/api/accounts/x/workspaces/y"), 404),
    ):
        assert ask(f"http://{caller.place}", case).status == status, case


def test_a_body_without_a_content_type_is_json(caller: Caller) -> None:
    caller.create("plain", 1)
    said = subprocess.run(
        ["curl", "-sS", "-H", "Content-Type:", "-d", '{"slots": 1, "names": ["plain"]}',
         f"http://{caller.place}{LIMITS}/increment"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(said.stdout)[0]["name"] == "plain"
