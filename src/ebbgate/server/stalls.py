"""Detection of times in which no client could renew: this process stalled, or the time in use jumped ahead.

A step of a network store's clock is not among them: `NetworkClock` keeps it out of the time. What is left are jumps to
the instant of another server's commit, after this machine's own clock stood still.
"""

import logging
from typing import Final, Protocol

from ebbgate.core.grace import STALL_US
from ebbgate.core.model import SECOND
from ebbgate.stores.network_clock import machine_us

_log: Final = logging.getLogger("ebbgate.server")


class Clocked(Protocol):
    """A store, as far as everybody needs it who is to know the time."""

    def clock(self) -> int:
        """Return its time; see `Store.clock`."""


class Stalls:
    """Compares two clocks, as often as it is asked."""

    def __init__(self, store: Clocked) -> None:
        """Compare the clock of `store` with this machine's own."""
        self._store = store
        self._ran_us = 0
        self._ahead_us = 0

    def begin(self, now_us: int) -> None:
        """All is well at `now_us` of the store's clock."""
        self._ran_us = machine_us()
        self._ahead_us = now_us - self._ran_us

    def seen(self) -> tuple[int, bool]:
        """Return the store's time, and whether there was a stall since this was asked last."""
        monotonic_us = machine_us()  # it runs while the machine sleeps, when no client could renew either
        now_us = self._store.clock()
        ahead_us = now_us - monotonic_us
        stalled = monotonic_us - self._ran_us > STALL_US or ahead_us - self._ahead_us > STALL_US
        if stalled:
            _log.warning(
                "stalled for %.1f s, or the store's clock ran ahead by %.1f s: nothing expires for a while",
                (monotonic_us - self._ran_us) / SECOND, (ahead_us - self._ahead_us) / SECOND,
            )  # fmt: skip
        self._ran_us, self._ahead_us = monotonic_us, ahead_us
        return now_us, stalled
