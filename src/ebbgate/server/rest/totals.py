"""What all limits together come to, kept up to date by what changes; nothing is counted while nobody looks."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from ebbgate.core.book import Book
from ebbgate.core.overview import active_slots, waiting_since_us
from ebbgate.wire.showing import instant

RATE_SECONDS: Final = 10.0
"""Over how long grants per second are taken."""

RATE_SECONDS_MIN: Final = 1.0
QUARTERS: Final = 4


class TotalsInfo(msgspec.Struct, frozen=True, kw_only=True):
    """All limits together."""

    limits: int
    full: int  # limits that are active and have no slot left
    waiting: int  # places in queues: who waits for two limits counts at both
    waiting_since: datetime | None  # when who waits longest asked; None: nobody waits
    grants_per_second: float
    quarters: int  # how full the fullest limit is that is not closed: 0 (not in use) to 4 (full)


class _Part(NamedTuple):
    """What one limit adds."""

    is_full: bool
    quarters: int
    waiting: int
    granted: int


_NOTHING: Final = _Part(is_full=False, quarters=0, waiting=0, granted=0)


class Totals:
    """Those of one book."""

    def __init__(self, book: Book, now_us: int, at: float) -> None:
        """Count all that is there; `at` is the time by a clock that only goes on."""
        self._book = book
        self._begun = at
        self._parts: dict[str, _Part] = {}
        self._since_us: dict[str, int] = {}  # of those limits where somebody waits
        self._levels = [0] * (QUARTERS + 1)
        self._full = self._waiting = 0
        self._samples: dict[str, deque[tuple[float, int]]] = {}
        self.rates: dict[str, float] = {}
        """Grants per second of the last seconds, by the id of a limit; 0 where it is missing."""
        self.update(book.lives, now_us, at)

    def update(self, limit_ids: Iterable[str], now_us: int, at: float) -> bool:
        """Take in how some limits are now, at a time of that clock.

        Returns:
            Whether one of them is new, or gone.
        """
        is_other = False
        for limit_id in limit_ids:
            live = self._book.lives.get(limit_id)
            before = self._parts.get(limit_id)
            is_other |= (live is None) is not (before is None)
            self._count(before or _NOTHING, -1, is_there=before is not None)
            if live is None:
                self._parts.pop(limit_id, None)
                self._since_us.pop(limit_id, None)
                self._samples.pop(limit_id, None)
                self.rates.pop(limit_id, None)
                continue
            size, active = live.limit.limit, active_slots(live, now_us)
            quarters = min(QUARTERS, -(-active * QUARTERS // size)) if live.limit.active and size else 0
            part = _Part(live.limit.active and active >= size, quarters, live.waiting, live.granted)
            self._parts[limit_id] = part
            self._count(part, 1, is_there=True)
            if live.waiting:
                self._since_us[limit_id] = waiting_since_us(live)
            else:
                self._since_us.pop(limit_id, None)
            if before is not None and part.granted != before.granted and limit_id not in self._samples:
                self._samples[limit_id] = deque([(max(self._begun, at - RATE_SECONDS), before.granted)])
        return is_other

    def _count(self, part: _Part, sign: int, *, is_there: bool) -> None:
        self._full += sign * part.is_full
        self._waiting += sign * part.waiting
        if is_there:
            self._levels[part.quarters] += sign

    def measure(self, at: float) -> list[str]:
        """Measure how often somebody got in lately; return the ids of the limits where that has changed."""
        changed = []
        for limit_id, samples in list(self._samples.items()):
            granted = self._parts[limit_id].granted
            if granted < samples[-1][1]:  # counted anew
                samples.clear()
            samples.append((at, granted))
            while len(samples) > 1 and samples[1][0] <= at - RATE_SECONDS:
                samples.popleft()
            since, before = samples[0]
            rate = (granted - before) / min(RATE_SECONDS, max(RATE_SECONDS_MIN, at - since))
            if rate != self.rates.get(limit_id, 0.0):
                changed.append(limit_id)
            if rate:
                self.rates[limit_id] = rate
            else:
                del self._samples[limit_id]
                self.rates.pop(limit_id, None)
        return changed

    def info(self) -> TotalsInfo:
        """Return what it comes to."""
        return TotalsInfo(
            limits=len(self._parts),
            full=self._full,
            waiting=self._waiting,
            waiting_since=instant(min(self._since_us.values())) if self._since_us else None,
            grants_per_second=round(sum(self.rates.values()), 3),
            quarters=max((level for level, count in enumerate(self._levels) if count), default=0),
        )
