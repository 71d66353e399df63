"""The life of a `prefect_global_concurrency_limit` with PrefectHQ's Terraform provider."""

import base64
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.prefect.conftest import folder_of_a_test
from tests.prefect.contract import LIMITS, NOBODY
from tests.prefect.support import Answered, Caller, held
from tests.prefect.terraform import Resource, Theirs
from tests.server.processes import Served, started

KEY = "key-of-the-terraform-tests-0123"


@pytest.fixture
def theirs(caller: Caller) -> Theirs:
    return Theirs(caller)


def test_the_life_of_a_limit(theirs: Theirs, caller: Caller) -> None:
    wanted = Resource("tf-life", 5)
    theirs.create(wanted)
    assert not theirs.plan(wanted)
    changed = replace(wanted, name="tf-renamed", limit=7, active=False, slot_decay_per_second=0.5)
    assert theirs.plan(changed)
    theirs.update(changed)
    assert not theirs.plan(changed)
    theirs.update(wanted)  # defaults come back
    assert not theirs.plan(wanted)
    theirs.delete()
    assert theirs.read() is None
    theirs.delete()
    assert caller.ask("GET", f"{LIMITS}/tf-life").status == 404


def test_a_limit_is_imported_by_id_and_looked_up_by_name(theirs: Theirs, caller: Caller) -> None:
    caller.create("tf-import", 3, 0.25)
    theirs.id = caller.read("tf-import")["id"]
    assert not theirs.plan(Resource("tf-import", 3, slot_decay_per_second=0.25))
    assert caller.ask("GET", f"{LIMITS}/tf-import", **theirs.headers).body["id"] == theirs.id
    assert caller.ask("GET", f"{LIMITS}/{NOBODY}", **theirs.headers).status == 404


def test_a_token_is_given_where_the_provider_is_told_to_ask_for_one(caller: Caller) -> None:
    given = caller.ask("GET", f"/api/csrf-token?client={NOBODY}")
    assert given.status == 200
    assert given.body["token"]


def test_a_name_that_is_taken_is_refused_once_and_for_all(theirs: Theirs, caller: Caller) -> None:
    caller.create("tf-taken", 3)
    body = asdict(Resource("tf-taken", 5))
    assert (
        caller.ask("POST", f"{LIMITS}/", body, **theirs.headers).status == 409
    )  # which it does not send again


def test_a_busy_limit_is_applied_without_freeing_anything_and_shows_no_drift(
    theirs: Theirs, caller: Caller, served: Served
) -> None:
    """Its `active_slots` defaults to 0: at Prefect's server, every apply admits others next to the holders."""
    wanted = Resource("tf-busy", 1)
    theirs.create(wanted)
    with held(caller, "tf-busy"):
        before = len([entry for entry in served.entries() if entry.get("level") == "warning"])
        assert not theirs.plan(wanted)
        theirs.update(replace(wanted, active=False))
        theirs.update(wanted)
        assert not theirs.plan(wanted)
        assert caller.active_slots("tf-busy") == 1
        assert caller.ask("GET", "/v1/limits/tf-busy").body["held_slots"] == 1
        listed = caller.ask("POST", f"{LIMITS}/filter", {}, **theirs.headers).body
        assert {limit["active_slots"] for limit in listed} == {0}
        assert not [entry for entry in served.entries() if entry.get("level") == "warning"][before:]
    assert caller.active_slots("tf-busy") == 0


def test_terraform_cannot_set_occupied_slots(theirs: Theirs, caller: Caller) -> None:
    said = Resource("tf-said", 2, active_slots=2)
    refused = caller.ask("POST", f"{LIMITS}/", asdict(said), **theirs.headers)
    assert refused.status == 422
    (told,) = refused.body["exception_detail"]
    assert told["loc"] == ["body", "active_slots"]
    assert "cannot be set" in told["msg"]
    assert caller.ask("GET", f"{LIMITS}/tf-said").status == 404
    theirs.create(replace(said, active_slots=0))
    with held(caller, "tf-said", slots=2):
        changed = asdict(replace(said, limit=9))
        assert caller.ask("PATCH", f"{LIMITS}/{theirs.id}", changed, **theirs.headers).status == 422
        assert caller.read("tf-said")["limit"] == 2


def test_a_slot_taken_between_writing_and_reading_does_not_fail_the_apply(
    theirs: Theirs, caller: Caller
) -> None:
    wanted = Resource("tf-race", 2)
    theirs.create(wanted)

    class Racing(Caller):
        def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answered:
            answered = super().ask(method, path, body, **headers)
            if method == "PATCH":
                assert caller.acquire("tf-race").status == 200
            return answered

    theirs.caller = Racing(f"http://{caller.place}")
    theirs.update(replace(wanted, limit=3))
    assert caller.active_slots("tf-race") == 1


def test_a_spent_rate_limit_does_not_fail_the_apply(theirs: Theirs, caller: Caller) -> None:
    wanted = Resource("tf-rate", 5, slot_decay_per_second=0.001)
    theirs.create(wanted)
    assert caller.take("tf-rate", slots=3, mode="rate_limit").status == 200
    theirs.update(replace(wanted, slot_decay_per_second=0.002))
    assert caller.active_slots("tf-rate") == 3


@pytest.fixture(scope="module")
def locked() -> Iterator[Caller]:
    folder: Path = folder_of_a_test()
    with started(folder, environment={"EBBGATE_API_KEYS": f"team={KEY}"}) as server:
        yield Caller(server.url)


@pytest.mark.parametrize(
    ("authorization", "is_let_in"),
    [
        (f"Bearer {KEY}", True),  # api_key
        (f"Basic {base64.b64encode(f'team:{KEY}'.encode()).decode()}", True),  # basic_auth_key
        ("Bearer another-key-0123456789", False),
        ("", False),
    ],
)
def test_keys_are_sent_as_it_sends_them(locked: Caller, authorization: str, is_let_in: bool) -> None:
    theirs = Theirs(locked, {"Authorization": authorization} if authorization else {})
    answered = locked.ask("GET", f"{LIMITS}/{NOBODY}", **theirs.headers)
    assert (answered.status == 404) is is_let_in
    assert is_let_in or answered.status == 401  # which it does not send again
    if is_let_in:
        theirs.create(Resource("tf-locked", 1))
        theirs.delete()
