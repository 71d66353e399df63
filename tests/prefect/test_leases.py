"""Every grant is a lease: it is renewed, ends once, and outlives nothing that it should not."""

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cli.support import wait_until
from tests.prefect.contract import LIMITS
from tests.prefect.support import Background, Caller, held
from tests.server.asking import KEY_TEXT, OTHER_KEY
from tests.server.processes import Served, started


def test_a_lease_is_a_lease_everywhere(caller: Caller) -> None:
    caller.create("l1", 3)
    holder = {"type": "flow_run", "id": "00000000-0000-4000-8000-000000000001"}
    headers = {"X-Prefect-Flow-Name": "nightly"}
    body = {"slots": 2, "names": ["l1"], "lease_duration": 60, "holder": holder}
    lease = caller.ask("POST", f"{LIMITS}/increment-with-lease", body, **headers).lease_id
    (shown,) = caller.ask("GET", "/v1/leases?limit=l1").body["items"]
    assert shown["id"] == lease
    assert shown["limits"] == [{"name": "l1", "slots": 2}]
    assert shown["lease_duration_seconds"] == 60
    labels = shown["holder"]["labels"]
    assert labels["prefect.holder"] == f"flow_run:{holder['id']}"
    assert labels["prefect.flow"] == "nightly"
    assert caller.ask("POST", f"/v1/leases/{lease}/revoke").status < 300
    gone = caller.renew(lease)
    assert (gone.status, gone.body["why"]) == (410, "revoked")


def test_a_lease_ends_once_whoever_says_so_twice(caller: Caller) -> None:
    caller.create("l2", 3)
    kept = caller.acquire("l2").lease_id
    lease = caller.acquire("l2").lease_id
    assert caller.active_slots("l2") == 2
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: caller.release(lease).status, range(16)))
    assert set(answers) == {204}
    assert caller.active_slots("l2") == 1
    caller.release(kept)


def test_a_renewal_that_its_release_overtook_is_no_reason_to_warn(caller: Caller) -> None:
    caller.create("l3", 1)
    lease = caller.acquire("l3").lease_id
    caller.release(lease)
    assert caller.renew(lease).status == 204
    wait_until(lambda: caller.renew(lease).status == 410, "a released lease is renewed for ever")
    assert caller.active_slots("l3") == 0


def test_several_limits_are_taken_all_or_none(caller: Caller) -> None:
    caller.create("l4", 1)
    caller.create("l5", 2)
    with held(caller, "l4"):
        waiter = Background(Caller(f"http://{caller.place}").acquire, "l5", "l4", "l5", "unknown")
        caller.wait_for_waiters("l4", 1)
        assert caller.active_slots("l5") == 0
    granted = waiter.answer()
    assert [limit["name"] for limit in granted.body["limits"]] == ["l4", "l5"]
    assert (caller.active_slots("l4"), caller.active_slots("l5")) == (1, 1)
    caller.release(granted.lease_id)


def test_nothing_is_kept_for_limits_that_nobody_made(caller: Caller) -> None:
    granted = caller.acquire("nobody-made-this")
    assert granted.body["limits"] == []
    assert caller.renew(granted.lease_id).status == 410
    assert caller.release(granted.lease_id).status == 204


def test_an_inactive_limit_blocks_nobody_and_its_lease_is_renewed(caller: Caller) -> None:
    caller.create("l6", 1)
    assert caller.ask("PATCH", f"{LIMITS}/l6", {"active": False}).status == 204
    leases = [caller.acquire("l6") for _ in range(3)]
    assert all(granted.body["limits"][0]["name"] == "l6" for granted in leases)
    assert all(caller.renew(granted.lease_id).status == 204 for granted in leases)
    assert caller.ask("PATCH", f"{LIMITS}/l6", {"active": True}).status == 204
    assert caller.active_slots("l6") == 0
    for granted in leases:
        caller.release(granted.lease_id)


def test_a_limit_that_is_disabled_and_enabled_while_it_is_held_loses_nothing(caller: Caller) -> None:
    caller.create("l7", 1)
    lease = caller.acquire("l7").lease_id
    assert caller.ask("PATCH", f"{LIMITS}/l7", {"active": False}).status == 204
    assert caller.ask("PATCH", f"{LIMITS}/l7", {"active": True}).status == 204
    assert caller.active_slots("l7") == 1
    caller.release(lease)
    assert caller.active_slots("l7") == 0


def test_what_is_held_of_a_decaying_limit_does_not_decay_and_is_given_back_once(caller: Caller) -> None:
    caller.create("l8", 2, 1000.0)
    lease = caller.acquire("l8", slots=2).lease_id
    other = Background(Caller(f"http://{caller.place}").acquire, "l8", mode="rate_limit")
    caller.wait_for_waiters("l8", 1)
    caller.release(lease)
    caller.release(other.answer().lease_id)


# --- without a lease, as up to 3.4.9


def test_slots_taken_without_a_lease_are_given_back_by_number(caller: Caller) -> None:
    caller.create("n1", 3)
    for _ in range(3):
        assert caller.take("n1").status == 200
    assert caller.active_slots("n1") == 3
    assert caller.give("n1").body[0]["name"] == "n1"
    assert caller.active_slots("n1") == 2
    caller.give("n1", slots=2)
    assert caller.active_slots("n1") == 0


def test_the_oldest_goes_first_of_what_was_taken_without_a_lease(caller: Caller) -> None:
    caller.create("n0", 3)
    taken = []
    for _ in range(3):
        caller.take("n0")
        (newest,) = (found for found in held_of(caller, "n0") if found not in taken)
        taken.append(newest)
    caller.give("n0")
    assert held_of(caller, "n0") == set(taken[1:])
    caller.give("n0", slots=2)
    assert held_of(caller, "n0") == set()


def held_of(caller: Caller, name: str) -> set[str]:
    """Return the ids of who holds a limit."""
    return {lease["id"] for lease in caller.ask("GET", f"/v1/leases?limit={name}&state=held").body["items"]}


def test_nobody_gives_back_what_is_kept_for_a_client_that_is_to_come_back(brief: Served) -> None:
    holder, first, second = Caller(brief.url), Caller(brief.url), Caller(brief.url)
    holder.create("n8", 2)
    assert holder.take("n8", slots=2).status == 200
    assert first.take("n8").status == 423
    holder.give("n8", slots=2)
    assert second.take("n8").status == 200
    assert second.give("n8").status == 200  # the older grant is the first's, which does not know of it
    assert first.take("n8").status == 200
    assert first.active_slots("n8") == 1
    first.give("n8")
    assert first.active_slots("n8") == 0


def test_slots_without_a_lease_are_counted_down_one_by_one(caller: Caller) -> None:
    caller.create("n9", 12)
    assert caller.take("n9", slots=10).status == 200
    seen = [caller.active_slots("n9")]
    for _ in range(10):
        assert caller.give("n9").status == 200
        seen.append(caller.active_slots("n9"))
    assert seen == list(range(10, -1, -1))
    assert caller.give("n9").status == 200  # as at Prefect's server, where a counter stays at 0
    assert caller.active_slots("n9") == 0


def test_a_part_that_is_released_is_free_for_the_next_waiter(caller: Caller) -> None:
    caller.create("n10", 3)
    assert caller.take("n10", slots=3).status == 200
    waiter = Background(Caller(f"http://{caller.place}").take, "n10", slots=2)
    caller.wait_for_waiters("n10", 1)
    caller.give("n10")
    assert not waiter.is_answered
    caller.give("n10")
    assert waiter.answer().status == 200
    caller.give("n10", slots=3)
    assert caller.active_slots("n10") == 0


def test_a_decrement_of_one_limit_releases_nothing_of_another(caller: Caller) -> None:
    caller.create("n2", 3)
    caller.create("n3", 3)
    assert caller.take("n2", "n3", slots=3).status == 200
    caller.give("n2", slots=3)
    caller.give("n3", slots=2)
    assert (caller.active_slots("n2"), caller.active_slots("n3")) == (0, 1)
    caller.take("n2", "n3", slots=2)
    caller.give("n2", "n3", slots=2)
    assert (caller.active_slots("n2"), caller.active_slots("n3")) == (0, 1)
    caller.give("n3", slots=1)
    assert (caller.active_slots("n2"), caller.active_slots("n3")) == (0, 0)


def test_nobody_gives_back_what_is_held_under_a_lease_or_spent(caller: Caller) -> None:
    caller.create("n4", 3)
    caller.create("n5", 3, 0.001)
    with held(caller, "n4"):
        caller.take("n5", mode="rate_limit")
        caller.give("n4", "n5", slots=3)
        assert (caller.active_slots("n4"), caller.active_slots("n5")) == (1, 1)


def test_what_was_taken_without_a_lease_has_an_end(caller: Caller) -> None:
    caller.create("n6", 1)
    caller.take("n6")
    (shown,) = caller.ask("GET", "/v1/leases?limit=n6").body["items"]
    assert shown["lease_duration_seconds"] == 3600
    caller.give("n6")


def test_as_many_come_back_as_were_given_however_many_ask_at_once(caller: Caller) -> None:
    caller.create("n7", 40)
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(lambda _: caller.take("n7"), range(40))} == {200}
        assert caller.active_slots("n7") == 40
        assert {answer.status for answer in pool.map(lambda _: caller.give("n7"), range(39))} == {200}
    assert caller.active_slots("n7") == 1
    caller.give("n7")
    waiter = Background(caller.take, "n7", slots=40)
    assert waiter.answer().status == 200
    caller.give("n7", slots=40)


def test_decrements_of_parts_at_once_release_as_many_as_they_say(caller: Caller) -> None:
    caller.create("n11", 60)
    for slots in (30, 1, 20, 9):
        assert caller.take("n11", slots=slots).status == 200
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda slots: caller.give("n11", slots=slots), [1, 2, 3, 4] * 5)
        assert {answer.status for answer in answers} == {200}
    assert caller.active_slots("n11") == 10
    caller.give("n11", slots=10)
    assert caller.active_slots("n11") == 0


# --- keys


def test_another_key_does_not_end_or_renew_what_a_key_took(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ci={KEY_TEXT}\nweb={OTHER_KEY}\n")
    with started(tmp_path, "--api-keys-file", str(keys)) as server:
        caller = Caller(server.url)
        one, two = {"Authorization": f"Bearer {KEY_TEXT}"}, {"Authorization": f"Bearer {OTHER_KEY}"}
        nobody = caller.ask("GET", f"{LIMITS}/k")
        assert (nobody.status, nobody.body["exception_message"]) == (401, "Unauthorized")
        assert caller.ask("GET", "/api/health").status == 200
        caller.ask("POST", f"{LIMITS}/", {"name": "k", "limit": 1}, **one)
        take = {"slots": 1, "names": ["k"]}
        lease = caller.ask("POST", f"{LIMITS}/increment-with-lease", take, **one).lease_id
        path, body = f"{LIMITS}/decrement-with-lease", {"lease_id": lease}
        assert caller.ask("POST", path, body, **two).status == 403
        assert caller.ask("POST", f"{LIMITS}/leases/{lease}/renew", {}, **two).status == 403
        assert caller.ask("POST", f"{LIMITS}/leases/{lease}/renew", {}, **one).status == 204
        assert caller.ask("POST", path, body, **one).status == 204
        assert caller.ask("GET", f"{LIMITS}/k", **two).body["active_slots"] == 0


def test_a_key_may_come_as_prefects_clients_send_an_auth_string(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY_TEXT}\n")
    with started(tmp_path, "--api-keys-file", str(keys)) as server:
        for word, status in (("user:", 200), (":", 200), ("", 200), ("user:x", 401)):
            said = b64encode(f"{word}{KEY_TEXT}".encode()).decode()
            answered = Caller(server.url).ask("POST", f"{LIMITS}/filter", {}, Authorization=f"Basic {said}")
            assert answered.status == status, word
