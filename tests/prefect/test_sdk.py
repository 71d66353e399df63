"""Prefect's SDK, unmodified, in several versions: its blocks keep what they promise, and more."""

import itertools
import json
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import wait_until
from tests.prefect.contract import LIMITS
from tests.prefect.environments import python_of
from tests.prefect.support import Background, Caller
from tests.prefect.theirs import finish, run, start
from tests.server.asking import KEY_TEXT
from tests.server.processes import Served, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVERY = ("newest", "oldest", "leaseless")
WITH_LEASES = ("newest", "oldest")
BLOCKS = (("newest", "sync"), ("newest", "async"), ("oldest", "sync"), ("leaseless", "async"))
"""Starting a program with Prefect in it takes seconds: each version and each kind is there, not all pairs."""


def told(output: str) -> list[dict[str, Any]]:
    """Return what a program has said; other lines are the SDK's log."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def most_at_once(spans: list[dict[str, float]]) -> int:
    """Return how many spans of time overlap at most."""
    events = sorted([(span["begun"], 1) for span in spans] + [(span["ended"], -1) for span in spans])
    most = now = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most


@pytest.mark.parametrize(("version", "kind"), BLOCKS)
def test_no_more_get_in_than_there_are_slots_whatever_process_they_are_in(
    served: Served, tmp_path: Path, version: str, kind: str
) -> None:
    python, caller, name = python_of(version), Caller(served.url), f"turns-{version}-{kind}"
    caller.create(name, 2)
    caller.create(f"{name}-b", 3)
    programs = [
        start(python, "blocks.py", served.url, tmp_path, "turns", kind, f"{name},{name}-b", "6", "0.05")
        for _ in range(3)
    ]
    spans = [span for program in programs for span in told(finish(program))]
    assert len(spans) == 18
    assert 1 <= most_at_once(spans) <= 2
    assert caller.active_slots(name) == caller.active_slots(f"{name}-b") == 0


@pytest.mark.parametrize(("version", "kind"), BLOCKS)
def test_a_rate_is_kept_by_all_processes_together(
    served: Served, tmp_path: Path, version: str, kind: str
) -> None:
    python, caller, name = python_of(version), Caller(served.url), f"rate-{version}-{kind}"
    caller.create(name, 1, 10.0)
    programs = [start(python, "blocks.py", served.url, tmp_path, "spend", kind, name, "15") for _ in range(2)]
    at = sorted(entry["at"] for program in programs for entry in told(finish(program)))
    assert len(at) == 30
    assert at[-1] - at[0] >= 2.9 * 0.96
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(at))
    assert gaps[len(gaps) // 2] < 0.15, "the rate is used; a busy machine is late with some, not with most"


@pytest.mark.parametrize(("version", "kind"), BLOCKS[:3])
def test_what_goes_wrong_is_said_as_always(brief: Served, tmp_path: Path, version: str, kind: str) -> None:
    python, caller, name = python_of(version), Caller(brief.url), f"wrong-{version}-{kind}"
    caller.create(name, 2)
    lease = caller.acquire(name).lease_id
    said = told(run(python, "blocks.py", brief.url, tmp_path, "outcomes", kind, name))
    texts = [entry.get("error", "") for entry in said]
    assert texts[0] == ""
    assert all(text.startswith("ConcurrencySlotAcquisitionError") for text in texts[1:5]), texts
    if version == "newest":
        assert "must be created before acquiring slots" in texts[1]
        assert texts[2].endswith("422 Unprocessable Entity: Slots requested is greater than the limit")
        assert texts[3].endswith("slots: Input should be greater than 0")
        assert texts[4].endswith("lease_duration: Input should be greater than or equal to 60")
        assert texts[6].endswith("423 Locked: Locked")
    assert texts[5].startswith("AcquireConcurrencySlotTimeoutError")
    assert texts[6].startswith("ConcurrencySlotAcquisitionError")
    assert texts[7:9] == ["", ""]
    assert texts[9].startswith("ConcurrencySlotAcquisitionError")
    assert caller.active_slots(name) == 1
    caller.release(lease)


@pytest.mark.parametrize("version", EVERY)
def test_who_gives_up_waiting_leaves_nothing_behind(served: Served, tmp_path: Path, version: str) -> None:
    python, caller, name = python_of(version), Caller(served.url), f"given-up-{version}"
    caller.create(name, 1)
    lease = caller.acquire(name).lease_id
    said = told(run(python, "blocks.py", served.url, tmp_path, "give_up", name))
    assert ["timed out" in entry["timeout"] for entry in said] == [True, True]
    wait_until(lambda: caller.waiting(name) == 0, "it waits for ever")
    caller.release(lease)
    assert caller.active_slots(name) == 0


@pytest.mark.parametrize(
    ("variable", "warns"), [("PREFECT_API_AUTH_STRING", False), ("PREFECT_API_KEY", True)]
)
def test_a_key_may_be_given_to_the_sdk_in_both_of_its_ways(
    tmp_path: Path, variable: str, warns: bool
) -> None:
    keys = {"EBBGATE_API_KEYS": f"team={KEY_TEXT}"}
    with started(tmp_path, environment=keys) as server:
        admin = {"Authorization": f"Bearer {KEY_TEXT}"}
        caller = Caller(server.url)
        assert caller.ask("POST", f"{LIMITS}/", {"name": "keyed", "limit": 1}, **admin).status == 201
        more = {variable: KEY_TEXT}
        said = run(
            python_of("newest"), "blocks.py", server.url, tmp_path, "turns", "sync", "keyed", "2", "0", **more
        )
        assert len(told(said)) == 2, said
        assert caller.ask("GET", f"{LIMITS}/keyed", **admin).body["active_slots"] == 0
        assert ("event data" in said) is warns, said


def test_what_the_sdk_takes_for_a_cancelled_caller_it_gives_back(served: Served, tmp_path: Path) -> None:
    python, caller = python_of("newest"), Caller(served.url)
    caller.create("cancelled", 1)
    lease = caller.acquire("cancelled").lease_id
    program = start(python, "blocks.py", served.url, tmp_path, "cancelled", "cancelled")
    caller.wait_for_waiters("cancelled", 1)
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()
    caller.release(lease)
    assert told(finish(program)) == [{"cancelled": True}]
    wait_until(lambda: caller.active_slots("cancelled") == 0, "a slot leaked")


def test_a_waiting_process_gets_in_the_moment_that_the_holder_leaves(served: Served, tmp_path: Path) -> None:
    python, caller = python_of("newest"), Caller(served.url)
    caller.create("handed", 1)
    lease = caller.acquire("handed").lease_id
    programs = [start(python, "blocks.py", served.url, tmp_path, "turns", "sync", "handed", "1", "0.01")
                for _ in range(2)]  # fmt: skip
    caller.wait_for_waiters("handed", 2)
    waiter = Background(Caller(served.url).acquire, "handed")
    caller.wait_for_waiters("handed", 3)
    caller.release(lease)
    granted = waiter.answer()
    caller.release(granted.lease_id)
    for program in programs:
        assert len(told(finish(program))) == 1


def test_the_slot_of_a_killed_process_waits_for_its_countdown_and_no_longer_than_one_lease(
    served: Served, tmp_path: Path
) -> None:
    python, caller = python_of("newest"), Caller(served.url)
    caller.create("killed", 1)
    program = start(python, "blocks.py", served.url, tmp_path, "take", "killed")
    wait_until(lambda: caller.active_slots("killed") == 1, "it is not in")
    program.kill()
    program.communicate()
    (lease,) = caller.ask("GET", "/v1/leases?limit=killed").body["items"]
    assert lease["lease_duration_seconds"] == 300
    assert caller.ask("POST", f"/v1/leases/{lease['id']}/revoke").status < 300
    assert caller.active_slots("killed") == 0


def test_a_lease_is_renewed_over_a_minute_while_the_server_is_replaced(tmp_path: Path) -> None:
    """All versions at once: whatever else they renew, they do it three quarters of a minute after the grant."""
    programs = {}
    with started(tmp_path) as server:
        url, port = server.url, server.url.rpartition(":")[2]
        caller = Caller(url)
        for version in WITH_LEASES:
            caller.create(version, 1)
            programs[version] = start(python_of(version), "blocks.py", url, tmp_path, "hold", version)
        for version in WITH_LEASES:
            wait_until(lambda name=version: caller.active_slots(name) == 1, "it is not in")  # type: ignore[misc]
        first = {version: the_lease(caller, version) for version in WITH_LEASES}
        assert server.end() == 0
    with started(tmp_path, "--port", port) as server:
        assert server.url == url
        for version in WITH_LEASES:
            wait_renewed(caller, version, first[version])
        for version, program in programs.items():
            output, _ = program.communicate("\n", timeout=60)
            assert program.returncode == 0, output
            assert {"left": version} in told(output), output
            assert caller.active_slots(version) == 0


def the_lease(caller: Caller, name: str) -> dict[str, Any]:
    """Return who holds a limit."""
    (lease,) = caller.ask("GET", f"/v1/leases?limit={name}&state=held").body["items"]
    return dict(lease)


def wait_renewed(caller: Caller, name: str, first: dict[str, Any]) -> None:
    """Return when the lease of a minute has been renewed late in that minute."""
    enough = datetime.fromisoformat(first["granted"]) + timedelta(seconds=60 + 40)
    for _ in range(5):  # longer than anything else is waited for
        with suppress(AssertionError):
            wait_until(lambda: datetime.fromisoformat(the_lease(caller, name)["expires"]) > enough)
            break
    lease = the_lease(caller, name)
    assert lease["id"] == first["id"]
    assert datetime.fromisoformat(lease["expires"]) > enough, "it was not renewed"


@pytest.mark.parametrize("version", EVERY)
def test_the_clients_methods_do_what_they_promise(served: Served, tmp_path: Path, version: str) -> None:
    said = run(python_of(version), "methods.py", served.url, tmp_path, f"methods-{version}")
    assert said.endswith("all is well\n")
