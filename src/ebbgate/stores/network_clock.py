"""Time of a store behind a network: the store's clock, disciplined by this machine's monotonic clock.

Each answer of the store brings its clock along, read at some instant between the question and the answer, which gives
two bounds for how far the store's clock is ahead of this machine's monotonic clock. The first answer sets the time;
from then on the time runs with the monotonic clock and is only slewed towards those bounds, by at most `SLEW` parts.
Whatever a step of the store's clock adds beyond that counts for nothing: in either direction, for one big step and
for many small ones. No rule needs a guard of its own, because every instant of a decision comes from here.

How far the store's clock is ahead of the time in use is recorded in the store next to the version, so that a server
that starts continues the same time instead of bringing the step back.

Known limits: a server that starts before a running one has recorded a step, which takes about a second, counts it as
time that passed. So does a step that no server saw because none was running: then the store's clock is all there is.
After a step, instants that people see differ from the store's clock until the slew has closed the gap: 1 s in 17
minutes. A virtual machine that is paused together with its monotonic clock is late until another server commits.
"""

import time
from collections.abc import Callable
from typing import Final

from ebbgate.errors import StoreUnavailable

SLEW: Final = 1_000
"""The time is slewed by one microsecond in so many: more than two good oscillators differ, too little to matter."""

RECORDED_US: Final = 20_000
"""The record in the store is corrected when it is off by more than this."""

_CLOCK: Final = getattr(
    time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC
)  # one that goes on while the machine sleeps


def machine_us() -> int:
    """Return this machine's time since it was booted, in microseconds."""
    return time.clock_gettime_ns(_CLOCK) // 1_000


class NetworkClock:
    """The time of a store; it never goes back."""

    def __init__(self, elapsed_us: Callable[[], int] = machine_us) -> None:
        """Start without a time; the first answer of the store sets it."""
        self.elapsed_us = elapsed_us
        self._ahead_us: int | None = None  # the time in use less elapsed time
        self._least_us = 0  # bounds of the store's clock less elapsed time
        self._most_us = 0
        self._slewed_us = 0  # elapsed time up to which the slew is accounted for
        self._recorded_us: int | None = None  # as the store has it; None: not read yet

    def measured(self, asked_us: int, store_us: int) -> None:
        """Note that the store's clock read `store_us` in the answer to a question asked at `asked_us`."""
        now_us = self.elapsed_us()
        least_us, most_us = store_us - now_us, store_us - asked_us
        if self._ahead_us is None:
            self._ahead_us, self._slewed_us = least_us, now_us
        else:
            self._slew(now_us)
            narrowed = max(least_us, self._least_us), min(most_us, self._most_us)
            if narrowed[0] <= narrowed[1]:  # else the clock stepped, or drifted
                least_us, most_us = narrowed
        self._least_us, self._most_us = least_us, most_us

    def recorded(self, behind_us: int) -> None:
        """Note what the store has on record; right after the first answer, continue the time that it describes."""
        if self._recorded_us is None and self._ahead_us is not None:
            self._ahead_us -= behind_us
        self._recorded_us = behind_us

    def to_record(self) -> int | None:
        """Return by how much the store's clock is ahead of the time in use if the record has to be corrected."""
        if self._ahead_us is None or self._recorded_us is None:
            return None
        behind_us = self._gap_us()
        return behind_us if abs(behind_us - self._recorded_us) > RECORDED_US else None

    def committed(self, instant_us: int) -> None:
        """Note that something was decided at `instant_us`: the time is not before that."""
        now_us = self.elapsed_us()
        if self._ahead_us is None or self._ahead_us < instant_us - now_us:
            self._ahead_us = instant_us - now_us

    def _gap_us(self) -> int:
        """Return the distance from the time in use to the nearest time that the last answers allow."""
        assert self._ahead_us is not None, "asked only when there is a time"
        return max(self._least_us - self._ahead_us, 0) + min(self._most_us - self._ahead_us, 0)

    def _slew(self, now_us: int) -> None:
        """Move the time towards the bounds, by as much as the time that passed allows."""
        assert self._ahead_us is not None, "asked only when there is a time"
        most_us = (now_us - self._slewed_us) // SLEW
        if most_us > 0:
            self._slewed_us += most_us * SLEW
            self._ahead_us += max(-most_us, min(most_us, self._gap_us()))

    def now_us(self) -> int:
        """Return the store's time.

        Raises:
            StoreUnavailable: the store has not answered yet.
        """
        now_us = self.elapsed_us()
        if self._ahead_us is None:
            raise StoreUnavailable("the store has not answered yet, so its clock is not known")
        self._slew(now_us)
        return self._ahead_us + now_us
