"""`ebbgate.sync`: what `with concurrency(...)` and `rate_limit(...)` promise."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from ebbgate import Client, errors
from ebbgate.sync import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    concurrency,
    rate_limit,
)
from tests.interface.helpers import held_elsewhere, quick, wait_for_waiters, wait_until


def test_a_block_holds_its_slots_while_it_runs_and_no_longer(client: Client) -> None:
    """Occupancy rises on entering and falls on leaving."""
    client.create_limit("db", 5)
    with concurrency("db", occupy=2) as lease:
        assert client.read_limit("db").held_slots == 2
        assert lease.protected
        assert not lease.lost
        assert lease.names == ("db",)
        assert lease.fencing_token > 0
        assert lease.waited_seconds >= 0
        assert lease.expires_at > datetime.now(UTC) + timedelta(seconds=290)
    assert client.read_limit("db").held_slots == 0


def test_leaving_by_an_exception_gives_the_slots_back(client: Client) -> None:
    """The body's exception comes through, and nothing stays held."""
    client.create_limit("db", 1)
    with pytest.raises(ZeroDivisionError), concurrency("db"):
        raise ZeroDivisionError
    assert client.read_limit("db").held_slots == 0


def test_never_more_threads_inside_than_slots(client: Client) -> None:
    """Twenty threads through three slots: three at most, all served."""
    client.create_limit("db", 3)
    inside, most, guard = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        with concurrency("db"):
            with guard:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.002)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(100)))
    assert most == 3
    assert client.read_limit("db").held_slots == 0
    assert client.read_limit("db").waiting == 0


def test_threads_get_in_in_the_order_of_their_asking(client: Client) -> None:
    """First come, first served."""
    client.create_limit("db", 1)
    order: list[int] = []

    def work(number: int) -> None:
        with concurrency("db"):
            order.append(number)

    threads = []
    with concurrency("db"):
        for number in range(10):
            thread = threading.Thread(target=work, args=(number,))
            thread.start()
            threads.append(thread)
            wait_for_waiters(client, "db", number + 1)
    for thread in threads:
        thread.join(10)
    assert order == list(range(10))


def test_several_limits_are_all_or_none(client: Client) -> None:
    """Who cannot have one of two holds none of them."""
    client.create_limit("a", 1)
    client.create_limit("b", 1)
    with held_elsewhere("b"):
        with pytest.raises(errors.AcquireTimeout), concurrency(["a", "b"], timeout_seconds=0.05):
            pytest.fail("b is taken")
        assert client.read_limit("a").held_slots == 0
    with concurrency(["a", "b", "a"]):
        assert client.read_limit("a").held_slots == 1


def test_a_mapping_gives_each_limit_its_own_number_of_slots(client: Client) -> None:
    """One acquisition, two limits, two numbers."""
    client.create_limit("cpu", 8)
    client.create_limit("memory", 64)
    with concurrency({"cpu": 2, "memory": 16}):
        assert client.read_limit("cpu").held_slots == 2
        assert client.read_limit("memory").held_slots == 16


@pytest.mark.parametrize("timeout", [0, 0.05, timedelta(milliseconds=50)])
def test_a_timeout_bounds_the_wait_and_leaves_nothing(client: Client, timeout: float) -> None:
    """`AcquireTimeout` is a `TimeoutError`; afterwards nobody waits."""
    client.create_limit("db", 1)

    def wait() -> float:
        begun = time.monotonic()
        with (
            pytest.raises(AcquireConcurrencySlotTimeoutError) as caught,
            concurrency("db", timeout_seconds=timeout),
        ):
            pytest.fail("the slot is taken")
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, ConcurrencySlotAcquisitionError)
        return time.monotonic() - begun

    with held_elsewhere("db"):
        quick(wait, 1)
        assert client.read_limit("db").waiting == 0
    assert client.read_limit("db").held_slots == 0


def test_max_retries_zero_tries_once(client: Client) -> None:
    """No slot now: an acquisition error at once."""
    client.create_limit("db", 1)
    with held_elsewhere("db"), pytest.raises(errors.NoSlotFree), concurrency("db", max_retries=0):
        pytest.fail("the slot is taken")
    assert client.read_limit("db").waiting == 0


def test_empty_names_do_nothing(url: str) -> None:
    """No limit named: the block runs and nothing is asked."""
    with concurrency([]) as lease:
        assert not lease.protected
        assert not lease.lost
    rate_limit([])


def test_an_unknown_limit_warns_once_with_a_near_miss_and_the_block_runs(client: Client) -> None:
    """The known limits are enforced all the same."""
    client.create_limit("database", 1)
    with (
        pytest.warns(errors.UnknownLimitWarning, match="did you mean 'database'"),
        concurrency("databse") as lease,
    ):
        assert not lease.protected
    with concurrency("databse"):
        pass
    with (
        pytest.warns(errors.UnknownLimitWarning, match="'other'"),
        concurrency(["database", "other"]) as lease,
    ):
        assert lease.protected
        assert client.read_limit("database").held_slots == 1


def test_strict_raises_for_any_unknown_limit_before_anything_is_taken(client: Client) -> None:
    """One known, one not: nothing is held."""
    client.create_limit("database", 1)
    with pytest.raises(errors.LimitNotFound) as caught, concurrency(["database", "databas"], strict=True):
        pytest.fail("one of them does not exist")
    assert caught.value.suggestion == "database"
    assert client.read_limit("database").held_slots == 0
    with pytest.raises(errors.LimitNotFound):
        rate_limit("nothing", strict=True)


def test_more_slots_than_a_limit_has_is_an_error_at_once(client: Client) -> None:
    """An endless wait would help nobody."""
    client.create_limit("db", 5)
    with pytest.raises(errors.NeverFits), concurrency("db", occupy=6):
        pytest.fail("it never fits")


def test_an_inactive_limit_never_blocks(client: Client) -> None:
    """Its slots are not counted, and everybody gets in."""
    client.create_limit("db", 1, active=False)
    with concurrency("db"), concurrency("db", occupy=7):
        assert client.read_limit("db").held_slots == 0


def test_a_closed_gate_lets_nobody_in_until_it_is_opened(client: Client) -> None:
    """Limit = 0 is no error; raising it lets the waiter in."""
    client.create_limit("db", 0)
    entered = threading.Event()

    def work() -> None:
        with concurrency("db"):
            entered.set()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: client.read_limit("db").waiting == 1)
    assert not entered.is_set()
    client.update_limit("db", limit=1)
    assert entered.wait(5)
    thread.join(5)


def test_a_rate_limit_gives_its_burst_and_then_its_rate(client: Client) -> None:
    """Limit 5 at 100/s: 25 calls take 0.2 s, not less and hardly more."""
    names = iter(f"api {number}" for number in range(9))

    def spend() -> float:
        name = next(names)
        client.create_limit(name, 5, slot_decay_per_second=100.0)
        begun = time.monotonic()
        for _ in range(25):
            rate_limit(name)
        taken = time.monotonic() - begun
        assert taken >= 0.199
        return taken

    quick(spend, 0.5)


def test_a_rate_limit_needs_a_decay(client: Client) -> None:
    """Slots that never come back are refused, with the next step."""
    client.create_limit("db", 5)
    with pytest.raises(errors.NoSlotDecay, match="ebbgate limit update"):
        rate_limit("db")


def test_a_rate_limit_times_out_without_spending(client: Client) -> None:
    """A refusal changes nothing."""
    client.create_limit("api", 1, slot_decay_per_second="1/hour")
    rate_limit("api")
    with pytest.raises(errors.AcquireTimeout):
        rate_limit("api", timeout_seconds=0.05)
    assert client.read_limit("api").waiting == 0
    assert client.read_limit("api").active_slots == 1


def test_higher_priority_goes_first(client: Client) -> None:
    """Whatever the order of asking."""
    client.create_limit("db", 1)
    order: list[int] = []

    def work(priority: int) -> None:
        with concurrency("db", priority=priority):
            order.append(priority)

    threads = [threading.Thread(target=work, args=(priority,)) for priority in (0, 5, -3)]
    with concurrency("db"):
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_for_waiters(client, "db", count)
    for thread in threads:
        thread.join(5)
    assert order == [5, 0, -3]


def test_it_decorates_functions_each_call_in_a_block_of_its_own(client: Client) -> None:
    """Slots are held during a call, and the function stays itself."""
    client.create_limit("db", 1)

    @concurrency("db")
    def double(number: int) -> int:
        """Double it."""
        assert client.read_limit("db").held_slots == 1
        return 2 * number

    assert [double(1), double(number=4)] == [2, 8]
    assert double.__name__ == "double"
    assert client.read_limit("db").held_slots == 0


def test_waiting_for_what_one_holds_oneself_is_warned_of(client: Client) -> None:
    """The caller's own slots keep it out for ever."""
    client.create_limit("db", 1)
    with (
        concurrency("db"),
        pytest.warns(errors.NestedWaitWarning, match="holds 1 of them itself"),
        pytest.raises(errors.AcquireTimeout),
        concurrency("db", timeout_seconds=0.05),
    ):
        pytest.fail("it can never get in")


NONSENSE: list[dict[str, object]] = [
    {"names": "a/b"},
    {"names": "x" * 201},
    {"names": 7},
    {"names": ["ok", 3]},
    {"names": "db", "occupy": 0},
    {"names": "db", "occupy": -1},
    {"names": "db", "occupy": 1.5},
    {"names": "db", "occupy": True},
    {"names": {"db": 0}},
    {"names": "db", "timeout_seconds": -1},
    {"names": "db", "timeout_seconds": float("nan")},
    {"names": "db", "timeout_seconds": "5"},
    {"names": "db", "lease_duration": 0.1},
    {"names": "db", "lease_duration": 86_401},
    {"names": "db", "lease_duration": float("inf")},
    {"names": "db", "max_retries": -1},
    {"names": "db", "priority": 1.5},
    {"names": "db", "labels": {"a": 1}},
    {"names": "db", "on_unavailable": "maybe"},
]


def test_nonsense_is_refused_with_a_named_error_and_nothing_is_taken(
    client: Client, subtests: pytest.Subtests
) -> None:
    """Wrong names, types and ranges."""
    client.create_limit("db", 5)
    for arguments in NONSENSE:
        with subtests.test(str(arguments)):
            with (
                pytest.raises((errors.InvalidRequest, errors.InvalidLimit)),
                concurrency(**arguments),  # type: ignore[arg-type]  # wrong on purpose
            ):
                pytest.fail("nonsense")
            assert client.read_limit("db").held_slots == 0


def test_labels_and_the_holder_are_shown_with_the_lease(client: Client) -> None:
    """So that people see who holds what."""
    client.create_limit("db", 1)
    with concurrency("db", labels={"job": "nightly"}, holder={"type": "flow_run"}) as lease:
        (seen,) = client.list_leases("db")
        assert seen.id == lease.id
        assert seen.holder.labels == {"job": "nightly", "holder_type": "flow_run"}
        assert seen.holder.pid > 0
        assert seen.fencing_token == lease.fencing_token
