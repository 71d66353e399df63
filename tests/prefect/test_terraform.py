"""What PrefectHQ's Terraform provider asks for a `prefect_global_concurrency_limit`, and what Terraform checks of it.

The provider is written in Go and is not built here. `Theirs` sends what it sends, in its order, takes only the
statuses that it takes, and fails where Terraform would: what is read after a write must be what was planned.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from tests.prefect.conftest import folder_of_a_test
from tests.prefect.contract import LIMITS, NOBODY
from tests.prefect.support import Answered, Caller, held
from tests.server.processes import Served, started

KEY = "key-of-the-terraform-tests-0123"


@dataclass(frozen=True)
class Resource:
    """The resource's arguments, with the provider's own defaults."""

    name: str
    limit: int
    active: bool = True
    active_slots: int = 0
    slot_decay_per_second: float = 0


class Theirs:
    """The provider and its state of one resource."""

    def __init__(self, caller: Caller, headers: Mapping[str, str] | None = None) -> None:
        """Know nothing yet."""
        self.caller = caller
        self.headers = {"User-Agent": "Go-http-client/1.1", "Accept": "application/json", **(headers or {})}
        self.id = ""

    def create(self, planned: Resource) -> None:
        made = self.caller.ask("POST", f"{LIMITS}/", asdict(planned), **self.headers)
        assert made.status == 201, made.body
        self.id = made.body["id"]
        assert made.body["created"]
        assert made.body["updated"]
        self._is_as_planned(planned, made.body)

    def read(self) -> Resource | None:
        """Refresh; None: it is dropped from the state."""
        shown = self.caller.ask("GET", f"{LIMITS}/{self.id}", **self.headers)
        if shown.status == 404:
            return None
        assert shown.status == 200, shown.body
        return Resource(**{name: shown.body[name] for name in Resource.__dataclass_fields__})

    def plan(self, configured: Resource) -> bool:
        """Tell whether something is to be changed."""
        return self.read() != configured

    def update(self, planned: Resource) -> None:
        assert self.caller.ask("PATCH", f"{LIMITS}/{self.id}", asdict(planned), **self.headers).status == 204
        shown = self.caller.ask("GET", f"{LIMITS}/{self.id}", **self.headers)
        assert shown.status == 200
        self._is_as_planned(planned, shown.body)

    def delete(self) -> None:
        assert self.caller.ask("DELETE", f"{LIMITS}/{self.id}", **self.headers).status in {204, 404}

    def _is_as_planned(self, planned: Resource, shown: Mapping[str, object]) -> None:
        """Else Terraform says: Provider produced inconsistent result after apply."""
        assert {name: shown[name] for name in asdict(planned)} == asdict(planned)


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


def test_a_busy_limit_is_applied_without_freeing_anything(
    theirs: Theirs, caller: Caller, served: Served
) -> None:
    """Its `active_slots` defaults to 0: there, every apply lets others in beside the holders."""
    wanted = Resource("tf-busy", 1)
    theirs.create(wanted)
    with held(caller, "tf-busy"):
        before = len([entry for entry in served.entries() if entry.get("level") == "warning"])
        assert theirs.plan(wanted)  # 1 -> 0, as with Prefect's server
        theirs.update(wanted)
        theirs.update(replace(wanted, active_slots=5))
        assert caller.active_slots("tf-busy") == 1
        assert caller.ask("GET", "/v1/limits/tf-busy").body["held_slots"] == 1
        warned = [entry for entry in served.entries() if entry.get("level") == "warning"][before:]
        assert {str(entry["message"]) for entry in warned} == {
            "active_slots cannot be set; revoke leases instead"
        }
        assert [entry["limit"] for entry in warned] == ["tf-busy", "tf-busy"]
    assert caller.active_slots("tf-busy") == 0


def test_slots_that_a_new_limit_is_said_to_have_taken_are_not_taken(
    theirs: Theirs, caller: Caller, served: Served
) -> None:
    before = len([entry for entry in served.entries() if entry.get("level") == "warning"])
    theirs.create(Resource("tf-said", 2, active_slots=2))
    assert caller.ask("GET", "/v1/limits/tf-said").body["active_slots"] == 0
    (warned,) = [entry for entry in served.entries() if entry.get("level") == "warning"][before:]
    assert (warned["limit"], warned["wanted"]) == ("tf-said", 2)


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
