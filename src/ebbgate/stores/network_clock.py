"""A store's clock as a process far away knows it: measured with every answer, read without asking.

Each answer tells the store's time at some instant between the question and the answer, hence two bounds of how
far the store is ahead of this machine's monotonic clock. What is used is the lowest offset that fits, so that
nobody's lease ends early; it grows at once and shrinks slowly.

Known limit: when the store's clock is set back, time goes on a tenth slower until both agree again, rather
than stand still; leases last that much longer meanwhile.
"""

import time
from collections.abc import Callable
from typing import Final

from ebbgate.errors import StoreUnavailable

SLOWER: Final = 10
"""While the clock is ahead of the store's, one microsecond in so many is left out."""

_CLOCK: Final = getattr(
    time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC
)  # one that goes on while the machine sleeps


def machine_us() -> int:
    """Return this machine's time since it was booted, in microseconds."""
    return time.clock_gettime_ns(_CLOCK) // 1_000


class NetworkClock:
    """The time of a store; it never goes back."""

    def __init__(self, elapsed_us: Callable[[], int] = machine_us) -> None:
        """Know nothing yet."""
        self.elapsed_us = elapsed_us
        self._ahead_us: int | None = None  # store time less elapsed time, as it is used
        self._most_us = 0  # as the last answer allows at most
        self._slowed_us = 0  # until when time that was left out is accounted for

    def measured(self, asked_us: int, store_us: int) -> None:
        """Take in that the store said `store_us` to a question asked at `asked_us` of `elapsed_us`."""
        now_us = self.elapsed_us()
        if self._ahead_us is None or self._ahead_us <= self._most_us:
            self._slowed_us = now_us
        self._least(store_us - now_us)
        self._most_us = store_us - asked_us

    def committed(self, instant_us: int) -> None:
        """Take in that something was decided at `instant_us`."""
        self._least(instant_us - self.elapsed_us())

    def _least(self, ahead_us: int) -> None:
        if self._ahead_us is None or self._ahead_us < ahead_us:
            self._ahead_us = ahead_us

    def now_us(self) -> int:
        """Return the store's time.

        Raises:
            StoreUnavailable: it never told it.
        """
        now_us = self.elapsed_us()
        ahead_us = self._ahead_us
        if ahead_us is None:
            raise StoreUnavailable("the store was not reached yet, so its clock is not known")
        if ahead_us > self._most_us and (left_out := (now_us - self._slowed_us) // SLOWER) > 0:
            self._ahead_us = ahead_us = max(self._most_us, ahead_us - left_out)
            self._slowed_us += left_out * SLOWER
        return ahead_us + now_us
