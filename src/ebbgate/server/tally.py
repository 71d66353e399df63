"""Counts what happens at the limits, as it is committed; `metrics` shows it to whoever wants to know.

Counting is part of every commit, so it is plain numbers in plain dictionaries: a pair costs half a microsecond.
A limit that is deleted takes its numbers with it.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from ebbgate.core.commands import Refused
from ebbgate.core.live import Live
from ebbgate.core.model import SECOND, Lease, Stored
from ebbgate.errors import NoSlotFree
from ebbgate.server.audience import Watched

WAIT_BUCKETS: Final = (
    0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0,
    3_600.0, 7_200.0,
)  # fmt: skip
HOLD_BUCKETS: Final = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0)

_WAIT_BOUNDS_US: Final = tuple(round(bound * SECOND) for bound in WAIT_BUCKETS)
_HOLD_BOUNDS_US: Final = tuple(round(bound * SECOND) for bound in HOLD_BUCKETS)


class Tally:
    """What has happened at one limit, or at several together."""

    __slots__ = ("denied", "ends", "grants", "held_us", "holds", "left", "waited_us", "waits")

    def __init__(self) -> None:
        """Nothing has."""
        self.grants: dict[str, int] = {}  # by kind of lease
        self.ends: dict[str, int] = {}  # by why
        self.left = 0  # of those ends: out of the queue, without having got in
        self.denied = 0  # acquisitions that did not want to wait, and found it full
        self.waits = [0] * (
            len(WAIT_BUCKETS) + 1
        )  # how many took no longer than this bucket's bound, and the rest
        self.waited_us = 0
        self.holds = [0] * (len(HOLD_BUCKETS) + 1)
        self.held_us = 0

    def granted(self, lease: Lease) -> None:
        """Count a lease that has got in."""
        self.grants[lease.kind] = self.grants.get(lease.kind, 0) + 1
        waited_us = lease.at_us - lease.since_us
        if waited_us <= 0:
            self.waits[0] += 1
            return
        self.waits[bisect_left(_WAIT_BOUNDS_US, waited_us)] += 1
        self.waited_us += waited_us

    def ended(self, lease: Lease) -> None:
        """Count a lease that is over."""
        self.ends[lease.why] = self.ends.get(lease.why, 0) + 1
        if lease.at_us < 0:
            self.left += lease.why != "refused"
        else:
            held_us = lease.ended_us - lease.at_us
            self.holds[bisect_left(_HOLD_BOUNDS_US, held_us)] += 1
            self.held_us += held_us

    def add(self, other: "Tally") -> None:
        """Count what another one has counted as well."""
        for mine, its in ((self.grants, other.grants), (self.ends, other.ends)):
            for key, number in its.items():
                mine[key] = mine.get(key, 0) + number
        self.left += other.left
        self.denied += other.denied
        self.waits = [a + b for a, b in zip(self.waits, other.waits, strict=True)]
        self.holds = [a + b for a, b in zip(self.holds, other.holds, strict=True)]
        self.waited_us += other.waited_us
        self.held_us += other.held_us


class Tallies:
    """Those of all limits of one server, from its start on."""

    def __init__(self, decider: Watched, *, own: bool = False) -> None:
        """Count from now on what is committed.

        Args:
            decider: tells of it.
            own: only what it commits itself, for several servers whose counts are added up.
        """
        self.refusals: dict[str, int] = {}  # by the code of the error
        self.denied: list[Callable[[Live], None]] = []  # called with each limit at which somebody was denied
        self._book = decider.book
        self._by_limit: dict[str, Tally] = {}
        self._seen_us = 0
        self._token = (
            0  # the last one that was counted; servers that share a store decide at the same instant
        )
        self.own = own
        if own:
            decider.own_watchers.append(self._watch)
            decider.watchers.append(self._pass_over)
        else:
            decider.watchers.append(self._watch)
        decider.refused.append(self._refused)

    def of(self, limit_id: str) -> Tally | None:
        """Return the tally of a limit, None if nothing has happened at it."""
        return self._by_limit.get(limit_id)

    def _refused(self, refused: Refused) -> None:
        self.refusals[refused.code] = self.refusals.get(refused.code, 0) + 1
        if refused.code == NoSlotFree.code:
            names = refused.details.get("names", ())
            for name in names if isinstance(names, Sequence) else ():
                live = self._book.names.get(name)
                if live is not None:
                    self._tally(live.limit.id).denied += 1
                    for denied in self.denied:
                        denied(live)

    def _pass_over(self, stored: Sequence[Stored] | None, now_us: int) -> None:
        """Take notice of what others committed, which is not counted here."""
        self._seen_us, self._token = now_us, self._book.token
        if stored is None:
            self._drop_deleted()
        for entry in stored or ():
            if entry.kind == "limit" and not entry.keep:
                self._by_limit.pop(entry.id, None)

    def _watch(self, stored: Sequence[Stored] | None, now_us: int) -> None:
        """Count what was committed; see `Watcher`."""
        before_us, self._seen_us = self._seen_us, now_us
        token, self._token = self._token, self._book.token
        if stored is None:
            self._drop_deleted()
            return
        for entry in stored:
            if entry.kind == "lease":
                lease = entry.record
                if type(lease) is Lease and lease.slots:
                    granted = lease.token > token
                    ended = lease.ended_us >= before_us and lease.why != "spent"
                    if granted or ended:
                        self._count(lease, granted=granted, ended=ended)
            elif entry.kind == "limit" and not entry.keep:
                self._by_limit.pop(entry.id, None)

    def _drop_deleted(self) -> None:
        for limit_id in self._by_limit.keys() - self._book.lives.keys():
            del self._by_limit[limit_id]

    def _count(self, lease: Lease, *, granted: bool, ended: bool) -> None:
        for limit_id, _ in lease.slots:
            if limit_id not in self._book.lives:
                continue  # deleted meanwhile
            tally = self._tally(limit_id)
            if granted:
                tally.granted(lease)
            if ended:
                tally.ended(lease)

    def _tally(self, limit_id: str) -> Tally:
        tally = self._by_limit.get(limit_id)
        if tally is None:
            tally = self._by_limit[limit_id] = Tally()
        return tally
