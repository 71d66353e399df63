"""What a process far away takes for the store's time is right, safe, and never goes back."""

import pytest

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.network_clock import NetworkClock, machine_us

SECOND = 1_000_000
NOON_US = 1_700_000_000 * SECOND


class Machine:
    now_us = 5_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> NetworkClock:
    """Measured once: it took 100 us, the store said noon."""
    clock = NetworkClock(machine)
    machine.now_us += 100
    clock.measured(machine.now_us - 100, NOON_US)
    return clock


def test_a_store_that_never_answered_has_no_time() -> None:
    with pytest.raises(StoreUnavailable, match="not reached yet"):
        NetworkClock().now_us()


def test_time_goes_on_between_answers_and_is_never_ahead(clock: NetworkClock, machine: Machine) -> None:
    assert clock.now_us() == NOON_US  # 100 us ago at most
    machine.now_us += SECOND
    assert clock.now_us() == NOON_US + SECOND


def test_a_quicker_answer_brings_it_closer_and_a_slower_one_changes_nothing(
    clock: NetworkClock, machine: Machine
) -> None:
    machine.now_us += 10
    clock.measured(machine.now_us - 10, NOON_US + 60)
    assert clock.now_us() == NOON_US + 60
    machine.now_us += 10_000
    clock.measured(machine.now_us - 10_000, NOON_US + 500)
    assert clock.now_us() == NOON_US + 60 + 10_000


def test_a_store_that_ran_ahead_is_followed_at_once(clock: NetworkClock, machine: Machine) -> None:
    machine.now_us += 10
    clock.measured(machine.now_us - 10, NOON_US + 3600 * SECOND)
    assert clock.now_us() == NOON_US + 3600 * SECOND


def test_a_store_that_was_set_back_is_followed_slowly_and_time_never_stands_still(
    clock: NetworkClock, machine: Machine
) -> None:
    before = clock.now_us()
    for _ in range(1_000):  # ten seconds; the store has lost 0.1 s
        machine.now_us += 10_000
        clock.measured(machine.now_us, NOON_US + machine.now_us - 5_100 - 100_000)
        assert before < clock.now_us() <= before + 10_000
        before = clock.now_us()
    assert before == NOON_US + machine.now_us - 5_100 - 100_000, "they agree again"


def test_nothing_is_decided_before_what_was_decided(clock: NetworkClock, machine: Machine) -> None:
    clock.committed(NOON_US + SECOND)
    assert clock.now_us() == NOON_US + SECOND
    machine.now_us += 10
    assert clock.now_us() > NOON_US + SECOND


def test_reading_it_often_slows_it_no_less(clock: NetworkClock, machine: Machine) -> None:
    clock.committed(NOON_US + SECOND)
    for _ in range(1_000):
        machine.now_us += 7
        clock.now_us()
    assert clock.now_us() == pytest.approx(NOON_US + SECOND + 7_000 * 0.9, abs=2)


def test_the_machines_clock_rises() -> None:
    read = [machine_us() for _ in range(100)]
    assert read == sorted(read)
