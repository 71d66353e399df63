"""The arithmetic of slots that come back by themselves: exact, in integers.

Source: the generic cell rate algorithm, ITU-T I.371, in its "virtual scheduling" form: all that is spent is
one instant, the moment at which the last spent slot will have come back.

A rate is a fraction of slots per second. With rate n/d one slot comes back every d * 1,000,000 / n
microseconds; instants are counted in 1/n microseconds, in which that interval is a whole number.
"""

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Final

from ebbgate.core.model import LATENESS_CREDIT_US, SECOND, Meter
from ebbgate.errors import InvalidLimit

DECAY_MIN: Final = 1e-9
DECAY_MAX: Final = 1e6

RATE_PATTERN: Final = (
    r"^ *([1-9][0-9]{0,5}(\.[0-9]{1,20})? *(/|per) *([1-9][0-9]{0,3})?|0\.[0-9]{0,3}[1-9] *(/|per)) *"
    r"(s|sec|second|min|minute|h|hour|d|day)s? *$"
)
"""Rates for schemas: `parse_rate` and `check_decay` accept every match, and other rates too, such as 000.5/s."""

_PER: Final = {
    "s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60,
    "h": 3600, "hour": 3600, "d": 86_400, "day": 86_400,
}  # fmt: skip
_RATE: Final = re.compile(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*(?:/|per)\s*(\d{0,6})\s*([a-z]+?)s?\s*", re.ASCII)
_NUMBER: Final = re.compile(r"\s*\d{1,20}(?:\.\d{1,20})?\s*", re.ASCII)


def parse_rate(text: str) -> float:
    """Return slots per second for a rate as people write it.

    >>> parse_rate("60/hour") == 1 / 60
    True
    >>> parse_rate("5/s")
    5.0
    >>> parse_rate("900/15min")
    1.0

    Raises:
        InvalidLimit: `text` is not a number and a unit of time, or it is 0, with which no slot ever comes back.
    """
    match = _RATE.fullmatch(text)
    unit = _PER.get(match[3]) or _PER.get(match[3] + "s") if match else None
    seconds = unit * int(match[2] or 1) if match and unit else 0
    if match is None or not seconds:
        if _NUMBER.fullmatch(text):
            number = text.strip()
            raise InvalidLimit(
                f"the rate {number!r} has no unit of time; write {number}/s, {number}/min or {number}/hour"
            )
        raise InvalidLimit(f"{text!r} is not a rate; write it like 5/s, 100/min, 900/15min or 1000/day")
    amount = Fraction(match[1])
    if amount == 0:
        raise InvalidLimit(
            f"the rate {text!r} would never return a slot; give a rate above 0, such as 1/min, or leave the rate out "
            "for a concurrency limit (to remove the rate of an existing limit: slot_decay_per_second 0)"
        )
    return float(amount / seconds)


def check_decay(value: float) -> float:
    """Return `value` as a float if it is an allowed `slot_decay_per_second`.

    Raises:
        InvalidLimit: it is neither 0 nor from 1e-9 to 1e6.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidLimit(f"slot_decay_per_second must be a number, got {value!r}")
    if value == 0:
        return 0.0
    if not DECAY_MIN <= value <= DECAY_MAX:  # also false for NaN
        raise InvalidLimit(
            f"slot_decay_per_second must be 0, or from 1e-9 to 1e6 slots per second, got {value!r}"
        )
    return float(value)


@lru_cache(maxsize=4096)  # many limits have the same rate, and finding it costs as much as ten decisions
def rate_of(decay: float) -> tuple[int, int]:
    """Return the simplest fraction whose nearest double is `decay`, as (numerator, denominator).

    So 60/hour stays 1/60 although it travels as 0.016666666666666666.

    >>> rate_of(0.016666666666666666)
    (1, 60)

    Args:
        decay: > 0 and finite.
    """
    exact = Fraction(decay)
    low = (exact + Fraction(math.nextafter(decay, 0.0))) / 2
    high = (exact + Fraction(math.nextafter(decay, math.inf))) / 2
    simple = _simplest_between(low, high)
    assert float(simple) == decay, "every number strictly between the midpoints rounds to the double"
    return simple.numerator, simple.denominator


def _simplest_between(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction of smallest denominator strictly between two: a walk down the Stern-Brocot tree."""
    whole = math.floor(low)
    if whole + 1 < high:
        return Fraction(whole + 1)
    # Both lie in [whole, whole + 1]: the simplest is whole + 1/x for the simplest x between the reciprocals.
    low_part, high_part = low - whole, high - whole
    if low_part == 0:
        return whole + Fraction(1, math.floor(1 / high_part) + 1)
    return whole + 1 / _simplest_between(1 / high_part, 1 / low_part)


def unspent(limit_id: str, decay: float) -> Meter:
    """Return the meter of a limit that nothing was ever spent of."""
    numerator, denominator = rate_of(decay)
    return Meter(limit_id, numerator, denominator, 0, 0)


def spent_slots(meter: Meter, now_us: int) -> int:
    """Return how many slots are spent at `now_us`, rounded up to whole slots."""
    left = (meter.empty_us - now_us) * meter.numerator + meter.rest
    if left <= 0:
        return 0
    return -(-left // (meter.denominator * SECOND))


def spent_exactly(meter: Meter, now_us: int) -> Fraction:
    """Return how many slots are spent at `now_us`, as an exact number."""
    left = (meter.empty_us - now_us) * meter.numerator + meter.rest
    return Fraction(max(left, 0), meter.denominator * SECOND)


def spent_about(meter: Meter, now_us: int) -> float:
    """Return how many slots are spent at `now_us`, as people see it."""
    left = (meter.empty_us - now_us) * meter.numerator + meter.rest
    return max(left, 0) / (meter.denominator * SECOND)


def when_spent_is(meter: Meter, slots: int) -> int:
    """Return the first microsecond at which at most `slots` (>= 0) are spent; it may be long past."""
    empty = meter.empty_us * meter.numerator + meter.rest
    return -((slots * meter.denominator * SECOND - empty) // meter.numerator)


def spend(meter: Meter, slots: int, *, now_us: int, waiting_since_us: int | None = None) -> Meter:
    """Take `slots`, for which there must be room, and return the meter after it.

    Args:
        meter: as it stands.
        slots: >= 1.
        now_us: the instant of the grant.
        waiting_since_us: when a spend that had to wait was asked. The lateness of its grant is credited, up to
            a tenth of an interval and 5 ms, so that a queue that never runs dry gets the whole rate.
    """
    n = meter.numerator
    interval = meter.denominator * SECOND  # in 1/n microseconds
    base = now_us * n
    if waiting_since_us is not None:
        base = max(base - min(interval // 10, LATENESS_CREDIT_US * n), waiting_since_us * n)
    empty = max(meter.empty_us * n + meter.rest, base) + slots * interval
    empty_us, rest = divmod(empty, n)
    return meter._replace(empty_us=empty_us, rest=rest)


def at_new_rate(meter: Meter, decay: float, *, now_us: int) -> Meter:
    """Return the meter after a change of the decay to `decay` > 0: what is still spent stays spent.

    It is rounded up to a whole microsecond at the new rate.
    """
    numerator, denominator = rate_of(decay)
    spent = spent_exactly(meter, now_us)
    left_us = math.ceil(spent * denominator * SECOND / numerator)
    return Meter(meter.id, numerator, denominator, now_us + left_us, 0)
