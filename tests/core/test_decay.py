"""Slots that come back by themselves: integers that say exactly what fractions say."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbgate.core import decay
from ebbgate.core.commands import Acquire, Held, Tick
from ebbgate.core.model import LATENESS_CREDIT_US, SECOND, Meter
from ebbgate.errors import InvalidLimit
from tests.core.support import T0, Desk

rates = st.one_of(
    st.floats(decay.DECAY_MIN, decay.DECAY_MAX),
    st.builds(lambda n, d: n / d, st.integers(1, 10**6), st.integers(1, 10**6)),
    st.sampled_from([1e-9, 1e6, 1 / 60, 1 / 3, 0.1, 1.0, 5.0, 1000 / 86_400]),
)
instants = st.integers(T0, T0 + 10**12)


def exactly_spent(meter: Meter, now_us: int) -> Fraction:
    empty = meter.empty_us + Fraction(meter.rest, meter.numerator)
    return max(Fraction(0), (empty - now_us) * Fraction(meter.numerator, meter.denominator) / SECOND)


@st.composite
def meters(draw: st.DrawFn) -> Meter:
    numerator, denominator = decay.rate_of(draw(rates))
    return Meter("m", numerator, denominator, draw(instants), draw(st.integers(0, numerator - 1)))


@given(rates)
def test_a_rate_survives_as_a_fraction(rate: float) -> None:
    numerator, denominator = decay.rate_of(rate)
    assert float(Fraction(numerator, denominator)) == rate
    assert math.gcd(numerator, denominator) == 1


@given(
    st.one_of(st.floats(1e-3, 1e3), st.builds(lambda n, d: n / d, st.integers(1, 300), st.integers(1, 300)))
)
def test_no_simpler_fraction_has_this_double(rate: float) -> None:
    _, denominator = decay.rate_of(rate)
    for smaller in range(1, min(denominator, 400)):
        nearest = round(Fraction(rate) * smaller)
        assert nearest < 1 or float(Fraction(nearest, smaller)) != rate


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_every_rate_that_people_write_is_found_again(numerator: int, denominator: int) -> None:
    simple = Fraction(numerator, denominator)
    assert Fraction(*decay.rate_of(numerator / denominator)) == simple


def test_sixty_an_hour_is_one_a_minute() -> None:
    assert decay.rate_of(0.016666666666666666) == (1, 60)
    assert decay.unspent("m", 0.016666666666666666) == Meter("m", 1, 60, 0, 0)


@given(meters(), st.integers(-(10**9), 10**12))
def test_spent_slots_are_counted_exactly_and_rounded_up(meter: Meter, before_us: int) -> None:
    now_us = meter.empty_us - before_us
    assert decay.spent_exactly(meter, now_us) == exactly_spent(meter, now_us)
    assert decay.spent_slots(meter, now_us) == math.ceil(exactly_spent(meter, now_us))


@given(meters(), st.integers(0, 10**6))
def test_the_first_microsecond_with_room_is_the_first(meter: Meter, slots: int) -> None:
    at_us = decay.when_spent_is(meter, slots)
    assert decay.spent_slots(meter, at_us) <= slots
    empty = meter.empty_us + Fraction(meter.rest, meter.numerator)
    unclipped = (empty - (at_us - 1)) * Fraction(meter.numerator, meter.denominator) / SECOND
    assert unclipped > slots


@given(meters(), st.integers(1, 10**6), st.integers(-(10**8), 10**8))
def test_spending_adds_exactly_the_slots(meter: Meter, slots: int, later_us: int) -> None:
    now_us = meter.empty_us + later_us
    after = decay.spend(meter, slots, now_us=now_us)
    assert exactly_spent(after, now_us) == exactly_spent(meter, now_us) + slots
    assert 0 <= after.rest < after.numerator


@given(meters(), st.integers(1, 1000), st.integers(0, 10**8), st.integers(0, 10**8))
def test_the_credit_for_lateness_is_bounded(meter: Meter, slots: int, later_us: int, waited_us: int) -> None:
    """A late grant counts from when it could have been, by a tenth of an interval and 5 ms at most."""
    now_us = meter.empty_us + later_us
    after = decay.spend(meter, slots, now_us=now_us, waiting_since_us=now_us - waited_us)
    plain = decay.spend(meter, slots, now_us=now_us)
    instant = after.empty_us + Fraction(after.rest, after.numerator)
    credit_us = plain.empty_us + Fraction(plain.rest, plain.numerator) - instant
    interval_us = Fraction(meter.denominator * SECOND, meter.numerator)
    assert 0 <= credit_us <= min(interval_us / 10, Fraction(LATENESS_CREDIT_US))
    assert credit_us <= min(waited_us, max(later_us, 0))


@given(meters(), rates, st.integers(-(10**10), 10**10))
def test_a_new_rate_keeps_what_is_spent_to_the_microsecond(meter: Meter, rate: float, later_us: int) -> None:
    now_us = meter.empty_us + later_us
    after = decay.at_new_rate(meter, rate, now_us=now_us)
    assert (after.numerator, after.denominator) == decay.rate_of(rate)
    more = exactly_spent(after, now_us) - exactly_spent(meter, now_us)
    assert 0 <= more < Fraction(after.numerator, after.denominator) / SECOND


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/hour", 1 / 60), ("60/h", 1 / 60), ("5/s", 5.0), ("1000/day", 1000 / 86_400),
        ("100/min", 100 / 60),
        ("100 per minute", 100 / 60), (" 1.5 / sec ", 1.5), ("2/seconds", 2.0), ("7/days", 7 / 86_400),
        ("900/15min", 1.0), ("900 per 15 minutes", 1.0), ("3 / 2 days", 3 / 172_800),
    ],
)  # fmt: skip
def test_rates_are_read_as_people_write_them(text: str, rate: float) -> None:
    assert decay.parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5/0s",
        "5/-1s",
        "5/1.5s",
        "5/",
        "/s",
        "5/week",
        "-1/s",
        "5/sx",
        "five/s",
        "1e3/s",
        "5/ss/s",
        "9" * 400 + "/s",
        "9" * 5000 + "/s",
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidLimit, match="not a rate"):
        decay.parse_rate(text)


@pytest.mark.parametrize("text", ["90", " 90 ", "0.5"])
def test_a_rate_without_a_unit_of_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidLimit, match=rf"has no unit of time; write {text.strip()}/s, "):
        decay.parse_rate(text)


@pytest.mark.parametrize("text", ["0/s", "0.0/day", "0 per 15 min"])
def test_a_rate_of_zero_is_refused(text: str) -> None:
    with pytest.raises(InvalidLimit, match="give a rate above 0, such as 1/min, or leave the rate out"):
        decay.parse_rate(text)


@pytest.mark.parametrize("value", [0, 0.0, -0.0, 1e-9, 1e6, 1, 5.5])
def test_a_decay_is_zero_or_within_its_range(value: float) -> None:
    assert decay.check_decay(value) == value
    assert isinstance(decay.check_decay(value), float)


@pytest.mark.parametrize(
    "value", [-1, 9e-10, 1.1e6, math.nan, math.inf, -math.inf, True, False, "1", None, 10**400]
)
def test_any_other_decay_is_refused(value: object) -> None:
    with pytest.raises(InvalidLimit):
        decay.check_decay(value)  # type: ignore[arg-type]


# --- through the book


def spends(seed: int, limit: int, rate: float, *, lateness_max_us: int, steps: int) -> list[tuple[int, int]]:
    """Ask for random spends at random times, with a machine that is late; return (instant, slots) granted."""
    r = random.Random(seed)
    desk = Desk()
    desk.limit("a", limit, decay=rate)
    granted: list[tuple[int, int]] = []
    slots: dict[str, int] = {}
    mean_us = round(SECOND / rate)
    for number in range(steps):
        due_us = desk.book.next_due(desk.now).at_us
        gap_us = r.choice((0, 0, r.randrange(mean_us + 1), r.randrange(4 * mean_us + 1)))
        if due_us >= 0 and due_us <= desk.now + gap_us:
            desk.now = due_us + r.randrange(lateness_max_us + 1)
            decision = desk.book.decide([Tick()], desk.now)
        else:
            desk.now += gap_us
            lease_id = f"l{number}"
            slots[lease_id] = r.choice((1, 1, 1, min(2, limit), limit))
            ask = Acquire(lease_id, "s", 1, (("a", slots[lease_id]),), 60 * SECOND, spend=True)
            decision = desk.book.decide([ask], desk.now)
        outcomes = [*decision.outcomes, *(told.outcome for told in decision.told)]
        granted += [(held.at_us, slots[held.id]) for held in outcomes if isinstance(held, Held)]
        desk.book.confirm(decision.head)
    return sorted(granted)


@given(
    st.integers(0, 10**9),
    st.integers(1, 5),
    st.sampled_from([0.2, 1.0, 3.7, 1 / 3, 10.0, 100.0, 7777.0]),
    st.sampled_from([0, 100, 5_000, 50_000, 3_000_000]),
)
def test_no_window_holds_more_than_the_limit_and_what_came_back(
    seed: int, limit: int, rate: float, lateness_max_us: int
) -> None:
    granted = spends(seed, limit, rate, lateness_max_us=lateness_max_us, steps=60)
    exact = Fraction(*decay.rate_of(rate))
    for start, (from_us, _) in enumerate(granted):
        total = 0
        for at_us, slots in granted[start:]:
            total += slots
            assert total <= limit + exact * (at_us - from_us) / SECOND + Fraction(1, 10)


@pytest.mark.parametrize("rate", [0.5, 3.7, 10.0, 99.0, 1000.0])
def test_a_queue_that_never_runs_dry_gets_the_whole_rate(rate: float) -> None:
    """Every grant is late, by less than a tenth of an interval and 5 ms; still none is lost."""
    r = random.Random(7)
    desk = Desk()
    desk.limit("a", 2, decay=rate)
    late_max_us = min(round(SECOND / rate / 10), LATENESS_CREDIT_US)
    for number in range(300):
        desk.ask(f"l{number}", "a", spend=True)
    start_us, grants = desk.now, 2
    while (due_us := desk.book.next_due(desk.now).at_us) >= 0:
        desk.now = due_us + r.randrange(late_max_us)
        decision = desk.book.decide([Tick()], desk.now)
        desk.book.confirm(decision.head)
        grants += len(decision.told)
        if not desk.book.queue.groups:
            break
    assert grants == 300
    least_us = math.ceil((300 - 2) * SECOND / Fraction(*decay.rate_of(rate)))
    assert desk.now - start_us <= least_us + late_max_us + 1
