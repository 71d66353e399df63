"""Creating, changing and deleting limits; seeing and revoking leases."""

import math
import os
import threading
import uuid

import pytest

from ebbgate import Client, errors
from ebbgate.sync import concurrency, rate_limit
from tests.interface.helpers import held_elsewhere, wait_for_waiters, wait_until

UNADDRESSABLE = (
    "", "a/b", "a\\b", "a%b", "a&b", "a>b", "a<b", "a?b", "a#b", ".", "..", " a", "a ", "a\nb", "a\x00b", "x" * 201,
    "0b5e7d0e-1111-4222-a333-444455556666", "0b5e7d0e11114222a333444455556666", None, 7,
)  # fmt: skip


def test_a_limit_is_created_read_changed_and_deleted(client: Client) -> None:
    """By name and by id."""
    made = client.create_limit("db", 5, description="the warehouse")
    assert (made.limit, made.active, made.description) == (5, True, "the warehouse")
    assert client.read_limit("db") == client.read_limit(made.id)
    changed = client.update_limit(made.id, name="warehouse", limit=6, active=False)
    assert (changed.id, changed.name, changed.limit, changed.active) == (made.id, "warehouse", 6, False)
    assert changed.description == "the warehouse"
    client.delete_limit("warehouse")
    with pytest.raises(errors.LimitNotFound):
        client.read_limit(made.id)


def test_the_status_counts_what_there_is(client: Client) -> None:
    """Limits, leases that are held, leases that wait."""
    client.create_limit("db", 1)
    with held_elsewhere("db"):
        found = client.status()
        assert (found.limits, found.held, found.waiting) == (1, 1, 0)
        assert found.sessions >= 1
    assert client.status().held == 0


def test_a_second_limit_of_the_same_name_is_refused(client: Client) -> None:
    """On creating and on renaming."""
    client.create_limit("a", 1)
    client.create_limit("b", 1)
    with pytest.raises(errors.LimitExists):
        client.create_limit("a", 2)
    with pytest.raises(errors.LimitExists):
        client.update_limit("b", name="a")
    assert client.read_limit("a").limit == 1


def test_put_creates_or_replaces(client: Client) -> None:
    """For scripts that run again and again."""
    first = client.put_limit("api", 5, slot_decay_per_second="60/hour")
    second = client.put_limit("api", 7)
    assert (second.id, second.limit, second.slot_decay_per_second) == (first.id, 7, 0)


def test_limits_are_listed_by_name_and_prefix(client: Client) -> None:
    """All of them, in order."""
    for name in ("b", "a", "team:x", "team:y"):
        client.create_limit(name, 1)
    assert [info.name for info in client.list_limits()] == ["a", "b", "team:x", "team:y"]
    assert [info.name for info in client.list_limits("team:")] == ["team:x", "team:y"]


# Many values are tried on one store: a server for each of them would take longer than all the rest.
def test_names_that_could_not_be_addressed_are_refused(client: Client, subtests: pytest.Subtests) -> None:
    """With `InvalidLimit`, on creating and on renaming."""
    client.create_limit("ok", 1)
    for name in UNADDRESSABLE:
        with subtests.test(name=name):
            with pytest.raises(errors.InvalidLimit):
                client.create_limit(name, 1)  # type: ignore[arg-type]  # what users may write
            if name is not None:
                with pytest.raises(errors.InvalidLimit):
                    client.update_limit("ok", name=name)  # type: ignore[arg-type]  # what users may write
            assert [info.name for info in client.list_limits()] == ["ok"]


def test_every_other_name_works_everywhere(client: Client, subtests: pytest.Subtests) -> None:
    """Created, used, listed, deleted."""
    for name in ("a", "tag:x", "München", "a b", "日本語", "a.b", "x" * 200, "-", "a:b=c,d;e|f"):
        with subtests.test(name=name):
            client.create_limit(name, 1)
            with concurrency(name, strict=True):
                assert client.read_limit(name).held_slots == 1
            assert [info.name for info in client.list_limits()] == [name]
            client.delete_limit(name)


def test_numbers_of_slots_out_of_range_are_refused(client: Client, subtests: pytest.Subtests) -> None:
    """Whole numbers from 0 to 1,000,000,000."""
    for limit in (-1, 1.5, "5", True, None, 10**9 + 1, math.nan):
        with subtests.test(limit=limit):
            with pytest.raises(errors.InvalidLimit):
                client.create_limit("db", limit)  # type: ignore[arg-type]  # what users may write
            assert client.list_limits() == []


def test_decays_out_of_range_are_refused(client: Client, subtests: pytest.Subtests) -> None:
    """0, or 1e-9 to 1e6 per second, or a rate."""
    for decay in (-1.0, math.nan, math.inf, 1e-10, 1e7, "fast", "5/fortnight", "-5/s", True, ""):
        with subtests.test(decay=decay):
            with pytest.raises(errors.InvalidLimit):
                client.create_limit("api", 1, slot_decay_per_second=decay)
            assert client.list_limits() == []


def test_a_limit_in_use_is_deleted_only_by_force_and_the_error_says_who(client: Client) -> None:
    """Its waiters go on as for an unknown name."""
    client.create_limit("db", 1)
    entered = threading.Event()

    def work() -> None:
        with concurrency("db", suppress_warnings=True):
            entered.set()

    thread = threading.Thread(target=work)
    with held_elsewhere("db"):
        thread.start()
        wait_until(lambda: client.read_limit("db").waiting == 1)
        with pytest.raises(errors.LimitInUse) as caught:
            client.delete_limit("db")
        assert (caught.value.holders, caught.value.waiters) == (1, 1)
        assert caught.value.who
        client.delete_limit("db", force=True)
        assert entered.wait(5)
    thread.join(5)
    assert client.list_leases() == []


def test_waiters_are_listed_with_position_and_what_they_wait_for(client: Client) -> None:
    """So that people see why."""
    client.create_limit("db", 1)
    threads = []
    with held_elsewhere("db"):
        holder = client.list_leases("db", "held")[0]
        for count in (1, 2):
            thread = threading.Thread(target=_enter_and_leave)
            thread.start()
            threads.append(thread)
            wait_for_waiters(client, "db", count)
        waiters = client.list_waiters("db")
        assert [waiter.position for waiter in waiters] == [1, 2]
        assert all(waiter.lacks == ["db"] for waiter in waiters)
        assert all(waiter.blocked_by == [holder.id] for waiter in waiters)
    for thread in threads:
        thread.join(5)


def _enter_and_leave() -> None:
    with concurrency("db"):
        pass


def test_a_spend_that_waits_has_an_estimate(client: Client) -> None:
    """The rate tells when."""
    client.create_limit("api", 1, slot_decay_per_second="1/hour")
    rate_limit("api")
    thread = threading.Thread(target=_give_up)
    thread.start()
    wait_until(lambda: client.read_limit("api").waiting == 1)
    (waiter,) = client.list_waiters("api")
    assert waiter.kind == "spend"
    assert waiter.estimate_seconds == pytest.approx(3600, abs=5)
    client.revoke_lease(waiter.id)
    thread.join(5)


def _give_up() -> None:
    with pytest.raises(errors.WaiterRemoved):
        rate_limit("api")


def test_a_revoked_lease_is_lost_at_once_and_its_slot_passes_on(client: Client) -> None:
    """Its holder is warned; the next one is inside."""
    client.create_limit("db", 1)
    with concurrency("db", suppress_warnings=True) as lease:
        client.revoke_lease(lease.id)
        wait_until(lambda: lease.lost)
        with pytest.raises(errors.LeaseLost, match="revoked"):
            lease.raise_if_lost()
        with concurrency("db", timeout_seconds=1):
            assert client.read_limit("db").held_slots == 1
    assert client.read_limit("db").held_slots == 0


def test_ended_leases_are_remembered_for_people(client: Client) -> None:
    """The newest first, with why they ended."""
    client.create_limit("db", 1)
    with concurrency("db") as lease:
        pass
    ended = client.list_leases("db", "ended")
    assert ended[0].id == lease.id
    assert ended[0].why == "released"
    assert ended[0].holder.pid == os.getpid()
    assert client.read_lease(lease.id).state == "ended"


def test_what_does_not_exist_is_said_to_be_missing(client: Client) -> None:
    """With a near miss for limits."""
    client.create_limit("database", 1)
    for call in (client.read_limit, client.delete_limit, client.update_limit):
        with pytest.raises(errors.LimitNotFound) as caught:
            call("databse")
        assert caught.value.suggestion == "database"
    with pytest.raises(errors.LeaseNotFound):
        client.read_lease(str(uuid.uuid4()))
    with pytest.raises(errors.LeaseNotFound):
        client.revoke_lease(str(uuid.uuid4()))
    with pytest.raises(errors.LimitNotFound):
        client.list_leases("databse")
    with pytest.raises(errors.InvalidRequest):
        client.list_leases(state="dead")
