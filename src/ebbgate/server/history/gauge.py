"""The levels at one limit as they go up and down, summed up over the steps that are under way.

It is told of every commit that changes something, so the mean is exact in time; the highest level is that after a
commit, since what comes and goes within one was never seen by anybody.
"""

from typing import Final

from ebbgate.core.decay import spent_about
from ebbgate.core.live import Live
from ebbgate.server.history.points import MILLI, Point, added
from ebbgate.server.tally import Tally
from ebbgate.stores.rollups import COARSE, FINE

_MS: Final = 1_000  # microseconds


class Sums:
    """What one step has brought so far."""

    __slots__ = (
        "denied", "grants", "held_area", "held_max", "left", "seen_us", "spent_area", "spent_max", "waited_us",
        "waiting_area", "waiting_max", "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        """Nothing."""
        self.seen_us = self.held_area = self.waiting_area = 0  # areas: levels x microseconds
        self.spent_area = self.spent_max = 0.0
        self.held_max = self.waiting_max = 0
        self.grants = self.left = self.denied = self.waited_us = 0
        self.waits: list[int] = []

    def add(self, other: "Sums") -> None:
        """Let a longer step have what a shorter one brought."""
        self.seen_us += other.seen_us
        self.held_area += other.held_area
        self.waiting_area += other.waiting_area
        self.spent_area += other.spent_area
        self.held_max = max(self.held_max, other.held_max)
        self.waiting_max = max(self.waiting_max, other.waiting_max)
        self.spent_max = max(self.spent_max, other.spent_max)
        self.grants += other.grants
        self.left += other.left
        self.denied += other.denied
        self.waited_us += other.waited_us
        if other.waits:
            self.waits = added(self.waits, other.waits)


class Gauge:
    """The levels of one limit, and the step of each resolution that is under way."""

    __slots__ = (
        "coarse", "coarse_changed", "counted", "empty_us", "ends_us", "fine", "fine_changed", "held", "since_us",
        "slots", "spent", "waiting",
    )  # fmt: skip

    def __init__(self, live: Live, tally: Tally | None, now_us: int, idle_us: int) -> None:
        """Look at a limit from `now_us` on.

        Args:
            live: the limit. Its levels are written even if they never change.
            tally: what was counted of it before, which is not counted again.
            now_us: the instant.
            idle_us: since when it is known to have been idle.
        """
        self.since_us = now_us
        self.fine, self.coarse = Sums(), Sums()
        begun_us = now_us // FINE.step_us * FINE.step_us
        self.ends_us = begun_us + FINE.step_us
        self.fine.seen_us = now_us - max(begun_us, idle_us)
        self.coarse.seen_us = max(begun_us - max(now_us // COARSE.step_us * COARSE.step_us, idle_us), 0)
        self.fine_changed = self.coarse_changed = True
        self.held = self.waiting = self.slots = 0
        self.spent, self.empty_us = 0.0, 0
        self.counted = _counted(tally)
        self.see(live, now_us)

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds, waits, or has spent what is not back yet."""
        return not self.held and not self.waiting and self.empty_us <= self.since_us

    def see(self, live: Live, now_us: int) -> None:
        """See how the levels are now. This is asked after every commit, so it is as short as can be."""
        held, waiting, slots, meter = live.held, live.waiting, live.limit.limit, live.meter
        same = held == self.held and waiting == self.waiting and slots == self.slots
        if same and (meter is None or meter.empty_us == self.empty_us):
            return
        self.advance(now_us)
        self.fine_changed = True
        self.held, self.waiting, self.slots = held, waiting, slots
        fine = self.fine
        fine.held_max = max(fine.held_max, held)
        fine.waiting_max = max(fine.waiting_max, waiting)
        if meter is not None and meter.empty_us != self.empty_us:
            self.empty_us = meter.empty_us
            self.spent = spent_about(meter, self.since_us)
            fine.spent_max = max(fine.spent_max, self.spent)

    def advance(self, to_us: int) -> None:
        """Let time pass, in which only spent slots come back."""
        passed_us = to_us - self.since_us
        if passed_us <= 0:
            return
        fine = self.fine
        fine.seen_us += passed_us
        if self.held:
            fine.held_area += self.held * passed_us
        if self.waiting:
            fine.waiting_area += self.waiting * passed_us
        if self.spent:
            left_us = self.empty_us - self.since_us
            after = self.spent * (left_us - passed_us) / left_us if left_us > passed_us else 0.0
            fine.spent_area += (self.spent + after) / 2 * min(passed_us, max(left_us, 0))
            self.spent = after
        self.since_us = to_us

    def count(self, tally: Tally | None) -> None:
        """Take over what was counted since the last time."""
        before, now = self.counted, _counted(tally)
        if now == before:
            return
        self.counted, fine = now, self.fine
        if before[0] > now[0]:
            before = _counted(None)  # it was counted anew
        fine.grants += now[0] - before[0]
        fine.left += now[1] - before[1]
        fine.denied += now[2] - before[2]
        fine.waited_us += now[3] - before[3]
        old = before[4] or (0,) * len(now[4])
        fine.waits = added(fine.waits, [new - known for new, known in zip(now[4], old, strict=True)])
        self.fine_changed = True

    def next_fine(self) -> None:
        """Begin a new fine step."""
        self.coarse.add(self.fine)
        self.coarse_changed |= self.fine_changed
        self.fine, self.fine_changed = self._begun(), False

    def next_coarse(self) -> None:
        """Begin a new coarse step."""
        self.coarse, self.coarse_changed = Sums(), False

    def _begun(self) -> Sums:
        sums = Sums()
        sums.held_max, sums.waiting_max, sums.spent_max = self.held, self.waiting, self.spent
        return sums

    def whole_minute(self) -> Sums:
        """Return the coarse step with the fine one that is under way."""
        sums = Sums()
        sums.add(self.coarse)
        sums.add(self.fine)
        return sums

    def point(self, at: int, sums: Sums) -> Point:
        """Return a step as it is written."""
        waits = sums.waits[:]
        while waits and not waits[-1]:
            waits.pop()
        spent = self.spent
        return Point(
            at,
            round(sums.seen_us / _MS),
            self.slots,
            round(sums.held_area / _MS),
            sums.held_max,
            self.held,
            sums.grants,
            waits,
            round(sums.waited_us / _MS),
            round(sums.waiting_area / _MS),
            sums.waiting_max,
            self.waiting,
            sums.left,
            sums.denied,
            round(sums.spent_area / _MS),
            round(sums.spent_max * MILLI),
            round(spent * MILLI),
            max(self.empty_us - self.since_us, 0) // _MS if spent else 0,
        )


Counted = tuple[int, int, int, int, tuple[int, ...]]


def _counted(tally: Tally | None) -> Counted:
    if tally is None:
        return (0, 0, 0, 0, ())
    grants = sum(tally.grants.values())
    return (grants, tally.left, tally.denied, tally.waited_us, tuple(tally.waits))
