"""A point: what happened at one limit within one step, in whole numbers, so that points can be added up.

Areas are levels times milliseconds: the mean level is the area divided by the time that was seen.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

MILLI: Final = 1_000
"""Spent slots come back in fractions, so they are counted in thousandths."""


class Point(msgspec.Struct, array_like=True):
    """One step of one limit; whatever is 0 at the end of the list is not written."""

    at: int  # the number of the step: its beginning, divided by its length
    seen_ms: int  # how much of the step was seen
    slots: int = 0  # the size of the limit at the end
    held_area: int = 0  # slots x ms
    held_max: int = 0
    held_last: int = 0  # at the end: so it stays until the next point
    grants: int = 0
    waits: list[int] = msgspec.field(
        default_factory=list
    )  # by bucket of `tally`; the last zeros are left out
    waited_ms: int = 0  # all waits that ended in a grant, together
    waiting_area: int = 0  # leases x ms
    waiting_max: int = 0
    waiting_last: int = 0
    left: int = 0  # leases that left the queue without having got in
    denied: int = 0  # acquisitions that did not want to wait, and found no slot free
    spent_area: int = 0  # slots x ms
    spent_max: int = 0  # thousandths of a slot
    spent_last: int = 0  # thousandths of a slot
    back_ms: int = 0  # until the last of those will have come back, evenly


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[Point]).decode
_FIELDS: Final = Point.__struct_fields__
_NOTHING: Final[tuple[object, ...]] = (0, [])


def encoded(point: Point) -> str:
    """Return a point as a block holds it: a JSON array and a comma."""
    values = [getattr(point, name) for name in _FIELDS]
    while values[-1] in _NOTHING:
        values.pop()
    return _encode(values).decode() + ","


def decoded(text: str) -> list[Point]:
    """Return the points of a block.

    Raises:
        msgspec.MsgspecError: it holds something else.
    """
    return _decode(f"[{text[:-1]}]")


def added(waits: list[int], more: Iterable[int]) -> list[int]:
    """Return two histograms as one."""
    others = list(more)
    longer, shorter = (waits, others) if len(waits) >= len(others) else (others, waits)
    return [count + (shorter[at] if at < len(shorter) else 0) for at, count in enumerate(longer)]


def together(one: Point, other: Point) -> Point:
    """Return two points of the same step, seen by two servers or in two parts, as one.

    What was counted was counted by one of them; levels are the same for all, whoever looked longer.
    """
    later = other if other.seen_ms >= one.seen_ms else one
    return Point(
        one.at,
        one.seen_ms + other.seen_ms,
        later.slots,
        one.held_area + other.held_area,
        max(one.held_max, other.held_max),
        later.held_last,
        one.grants + other.grants,
        added(one.waits, other.waits),
        one.waited_ms + other.waited_ms,
        one.waiting_area + other.waiting_area,
        max(one.waiting_max, other.waiting_max),
        later.waiting_last,
        one.left + other.left,
        one.denied + other.denied,
        one.spent_area + other.spent_area,
        max(one.spent_max, other.spent_max),
        later.spent_last,
        later.back_ms,
    )
