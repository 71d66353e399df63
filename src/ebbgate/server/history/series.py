"""Points of a limit put together into as many as a chart can show. Pure: no clock, no store.

Between two points levels stay as they were, and spent slots come back evenly. Where no server looked there is nothing:
neither a level nor 0.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, zip_longest
from typing import Final, NamedTuple

from ebbgate.core.model import SECOND
from ebbgate.server.history.points import MILLI, Point, together
from ebbgate.server.tally import WAIT_BUCKETS
from ebbgate.stores.rollups import COARSE, FINE, RESOLUTIONS, Span

POINTS_MAX: Final = 300

WIDTHS: Final = (10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800)
"""How many seconds one point of an answer may stand for."""

Interval = tuple[int, int]


class Window(NamedTuple):
    """What is asked for: from `start_us` to before `end_us`, in buckets of one width."""

    start_us: int
    end_us: int
    width_us: int

    @property
    def resolution(self) -> int:
        """Which points it is made of."""
        return 0 if self.width_us < COARSE.step_us else 1


class Bucket:
    """What happened at a limit within one bucket of a window."""

    __slots__ = (
        "denied", "grants", "held_area", "held_max", "histograms", "left", "seen_us", "slots", "spent_area",
        "spent_max", "start_us", "waited_ms", "waiting_area", "waiting_max",
    )  # fmt: skip

    def __init__(self, start_us: int) -> None:
        """Nothing was seen yet."""
        self.start_us = start_us
        self.seen_us = 0
        self.slots: int | None = None  # the size of the limit at the end; None: nobody knows
        self.held_area = self.waiting_area = self.spent_area = 0.0  # levels x microseconds
        self.held_max = self.waiting_max = 0
        self.spent_max = 0.0
        self.grants = self.left = self.denied = self.waited_ms = 0
        self.histograms: list[list[int]] = []  # see `Point.waits`

    @property
    def waits(self) -> list[int]:
        """All of its histograms as one."""
        return [sum(column) for column in zip_longest(*self.histograms, fillvalue=0)]

    def mean(self, area: float) -> float:
        """Return a mean level."""
        return area / self.seen_us if self.seen_us else 0.0


def window_of(now_us: int, end_us: int, length_us: int, points_max: int = POINTS_MAX) -> Window:
    """Return the buckets that show the last `length_us` before `end_us`."""
    seconds = next((width for width in WIDTHS if length_us <= width * SECOND * points_max), WIDTHS[-1])
    if end_us - length_us < now_us - FINE.keep_us:
        seconds = max(seconds, COARSE.step_us // SECOND)
    width_us = seconds * SECOND
    end_us = -(-end_us // width_us) * width_us
    count = min(max(-(-length_us // width_us), 1), points_max)
    return Window(end_us - count * width_us, end_us, width_us)


def seen(spans: Iterable[Span], window: Interval) -> list[Interval]:
    """Return when any server looked, in order and without overlaps, as far as it lies in the window."""
    found: list[Interval] = []
    for began_us, ended_us in sorted(
        (max(span.began_us, window[0]), min(span.ended_us, window[1])) for span in spans
    ):
        if ended_us <= began_us:
            continue
        if found and began_us <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], ended_us))
        else:
            found.append((began_us, ended_us))
    return found


def merged(points: Iterable[Point]) -> list[Point]:
    """Return points in order, those of the same step as one."""
    found: dict[int, Point] = {}
    for point in points:
        known = found.get(point.at)
        found[point.at] = point if known is None else together(known, point)
    return [found[at] for at in sorted(found)]


def series(points: Iterable[Point], looked: Sequence[Interval], window: Window) -> list[Bucket]:
    """Return the buckets of a window in which somebody looked, in order.

    Args:
        points: of the window's resolution, from the block on that it begins in.
        looked: when any server looked, from that block on; see `seen`.
        window: what is asked for.
    """
    filling = _Filling(window)
    step_us = RESOLUTIONS[window.resolution].step_us
    known = merged(points)
    at, counted = 0, -1
    for began_us, ended_us in looked:
        last: Point | None = None
        from_us = began_us
        while at < len(known) and (start_us := known[at].at * step_us) < ended_us:
            point, end_us = known[at], start_us + step_us
            if end_us > began_us:
                if start_us > from_us:
                    filling.stay(last, from_us, start_us)
                filling.take(point, max(start_us, began_us), min(end_us, ended_us))
                if at > counted:
                    filling.count(point, start_us)
                    counted = at
                from_us, last = min(end_us, ended_us), point
            if end_us > ended_us:
                break  # the rest of this step may have been looked at as well
            at += 1
        if from_us < ended_us:
            filling.stay(last, from_us, ended_us)
    return filling.in_order()


class _Filling:
    """The buckets of a window while they are filled."""

    def __init__(self, window: Window) -> None:
        self._start_us, self._end_us, self._width_us = window
        self._step_us = RESOLUTIONS[window.resolution].step_us
        self._buckets: dict[int, Bucket] = {}
        self._newest = Bucket(-1)  # most points lie in the bucket of the one before

    def in_order(self) -> list[Bucket]:
        """Return them; a size that is not known is the next one that is."""
        found = [self._buckets[start_us] for start_us in sorted(self._buckets)]
        slots: int | None = None
        for bucket in reversed(found):
            if bucket.slots is None:
                bucket.slots = slots
            slots = bucket.slots
        return found

    def _at(self, at_us: int) -> Bucket:
        bucket = self._newest
        if not 0 <= at_us - bucket.start_us < self._width_us or bucket.start_us < 0:
            start_us = at_us - (at_us - self._start_us) % self._width_us
            self._newest = bucket = self._buckets.setdefault(start_us, Bucket(start_us))
        return bucket

    def take(self, point: Point, from_us: int, to_us: int) -> None:
        """Take the levels of a point for a time within its step."""
        if not self._start_us <= from_us < self._end_us:
            return
        bucket, passed_us = self._at(from_us), to_us - from_us
        share = passed_us / max(point.seen_ms, 1)
        bucket.seen_us += passed_us
        bucket.slots = point.slots
        bucket.held_area += point.held_area * share
        bucket.held_max = max(bucket.held_max, point.held_max)
        if point.waiting_max:
            bucket.waiting_area += point.waiting_area * share
            bucket.waiting_max = max(bucket.waiting_max, point.waiting_max)
        if point.spent_max:
            bucket.spent_area += point.spent_area * share
            bucket.spent_max = max(bucket.spent_max, point.spent_max / MILLI)

    def count(self, point: Point, start_us: int) -> None:
        """Take what was counted in a step."""
        if self._start_us <= start_us < self._end_us:
            bucket = self._at(start_us)
            bucket.grants += point.grants
            bucket.left += point.left
            bucket.denied += point.denied
            bucket.waited_ms += point.waited_ms
            if point.waits:
                bucket.histograms.append(point.waits)

    def stay(self, last: Point | None, from_us: int, to_us: int) -> None:
        """Let the levels after a point stay for a time; None: there is nothing."""
        from_us, to_us = max(from_us, self._start_us), min(to_us, self._end_us)
        while from_us < to_us:
            bucket = self._at(from_us)
            until_us = min(bucket.start_us + self._width_us, to_us)
            passed_us = until_us - from_us
            bucket.seen_us += passed_us
            if last is not None:
                bucket.slots = last.slots
                bucket.held_area += last.held_last * passed_us
                bucket.held_max = max(bucket.held_max, last.held_last)
                bucket.waiting_area += last.waiting_last * passed_us
                bucket.waiting_max = max(bucket.waiting_max, last.waiting_last)
                if last.back_ms:
                    self._stay_spent(bucket, last, from_us, until_us)
            from_us = until_us

    def _stay_spent(self, bucket: Bucket, last: Point, from_us: int, to_us: int) -> None:
        empty_us = (last.at + 1) * self._step_us + last.back_ms * 1_000
        to_us = min(to_us, empty_us)
        if from_us < to_us:
            pace = last.spent_last / MILLI / (last.back_ms * 1_000)
            first, then = (empty_us - from_us) * pace, (empty_us - to_us) * pace
            bucket.spent_area += (first + then) / 2 * (to_us - from_us)
            bucket.spent_max = max(bucket.spent_max, first)


def quantile(waits: Sequence[int], share: float) -> float | None:
    """Return how many seconds `share` of those who got in waited at most; None: nobody got in.

    It is exact to the bucket that it lies in, within which waits count as evenly spread. In the first one, up to a
    millisecond, it is 0, and in the last one, which has no end, where that begins.
    """
    total = sum(waits)
    if not total:
        return None
    wanted = share * total
    for bucket, upto in enumerate(accumulate(waits)):
        if upto >= wanted and waits[bucket]:
            if bucket == 0:
                return 0.0
            low = WAIT_BUCKETS[bucket - 1]
            if bucket == len(WAIT_BUCKETS):
                return low
            return low + (WAIT_BUCKETS[bucket] - low) * (wanted - (upto - waits[bucket])) / waits[bucket]
    raise AssertionError("some bucket has it")
