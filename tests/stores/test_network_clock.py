"""The time of a network store follows its clock, except for steps, and it never goes back."""

import random

import pytest

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.network_clock import SLEW, NetworkClock, machine_us

SECOND = 1_000_000
HOUR = 3_600 * SECOND
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
    clock.recorded(0)
    return clock


def test_a_store_that_never_answered_has_no_time() -> None:
    with pytest.raises(StoreUnavailable, match="has not answered yet"):
        NetworkClock().now_us()


def test_time_goes_on_between_answers_and_is_never_ahead(clock: NetworkClock, machine: Machine) -> None:
    assert clock.now_us() == NOON_US  # 100 us ago at most
    machine.now_us += SECOND
    assert clock.now_us() == NOON_US + SECOND


def test_a_slow_answer_changes_nothing(clock: NetworkClock, machine: Machine) -> None:
    machine.now_us += 10_000
    clock.measured(machine.now_us - 10_000, NOON_US + 500)
    assert clock.now_us() == NOON_US + 10_000
    assert clock.to_record() is None


def test_nothing_is_decided_before_what_was_decided(clock: NetworkClock, machine: Machine) -> None:
    clock.committed(NOON_US + SECOND)
    assert clock.now_us() == NOON_US + SECOND
    machine.now_us += 10
    assert clock.now_us() > NOON_US + SECOND


@pytest.mark.parametrize("by_us", [SECOND // 10, -SECOND // 10, 9 * SECOND // 10, HOUR, -HOUR, 48 * HOUR])
def test_a_step_of_the_stores_clock_adds_nothing_but_the_slew(
    clock: NetworkClock, machine: Machine, by_us: int
) -> None:
    step_us, before = NOON_US - machine.now_us + by_us, clock.now_us()
    for _ in range(1_000):
        machine.now_us += 10_000
        clock.measured(machine.now_us - 50, step_us + machine.now_us)
        now_us = clock.now_us()
        assert abs(now_us - before - 10_000) <= 10_000 // SLEW + 1
        before = now_us


def test_many_small_steps_add_nothing_either(clock: NetworkClock, machine: Machine) -> None:
    began_us, ahead_us = machine.now_us, NOON_US - machine.now_us
    for _ in range(100):
        ahead_us += 9 * SECOND // 10
        machine.now_us += SECOND
        clock.measured(machine.now_us - 200, ahead_us + machine.now_us - 100)
    passed_us = machine.now_us - began_us
    assert 0 <= clock.now_us() - NOON_US - passed_us <= passed_us // SLEW + 200


def test_time_never_goes_back_and_keeps_to_the_machine_whatever_the_store_says(machine: Machine) -> None:
    chance = random.Random(8)
    for _ in range(200):
        clock, ahead_us = NetworkClock(machine), NOON_US
        clock.measured(machine.now_us, ahead_us + machine.now_us)
        began_us = machine.now_us
        before = first = clock.now_us()
        for _ in range(100):
            machine.now_us += chance.choice((1, 1_000, SECOND, 60 * SECOND))
            if chance.random() < 0.3:
                ahead_us += chance.choice((1, -1)) * chance.choice(
                    (1_000, SECOND // 10, SECOND, HOUR, 100 * HOUR)
                )
            took_us = chance.choice((10, 1_000, SECOND))
            clock.measured(machine.now_us - took_us, ahead_us + machine.now_us - chance.randint(0, took_us))
            now_us = clock.now_us()
            assert now_us >= before
            before = now_us
        passed_us = machine.now_us - began_us
        assert abs(before - first - passed_us) <= passed_us // SLEW + 1


def test_a_clock_that_drifts_is_followed(clock: NetworkClock, machine: Machine) -> None:
    for passed_us in range(SECOND, 10_000 * SECOND, SECOND):
        machine.now_us += SECOND
        clock.measured(machine.now_us - 100, NOON_US + passed_us + passed_us * 200 // 1_000_000)
    assert abs(clock.now_us() - NOON_US - 9_999 * 1_000_200) < 2_000
    assert clock.to_record() is None


def test_a_server_that_starts_continues_the_recorded_time(clock: NetworkClock, machine: Machine) -> None:
    machine.now_us += SECOND
    clock.measured(machine.now_us - 100, NOON_US + SECOND + HOUR)
    behind_us = clock.to_record()
    assert behind_us is not None
    clock.recorded(behind_us)
    assert clock.to_record() is None
    other = NetworkClock(machine)
    other.measured(machine.now_us - 100, NOON_US + SECOND + HOUR)
    other.recorded(behind_us)
    assert abs(other.now_us() - clock.now_us()) <= 200
    assert other.to_record() is None


def test_reading_the_clock_often_slews_it_no_less(clock: NetworkClock, machine: Machine) -> None:
    clock.committed(NOON_US + SECOND)
    for _ in range(10_000):
        machine.now_us += 70
        clock.now_us()
    assert clock.now_us() == pytest.approx(NOON_US + SECOND + 700_000 - 700_000 / SLEW, abs=2)


def test_the_machines_clock_rises() -> None:
    read = [machine_us() for _ in range(100)]
    assert read == sorted(read)
