"""Records what happens at limits, beside the decisions: levels as they change, and what `tally` counts.

A limit in which nothing happens writes nothing, and whoever reads lets its levels stand: but at the beginning of each
block everybody who is not idle writes one point, so that no block needs an earlier one to be understood.

Known limit: what happened since the last flush, up to 10 s of it, is lost when the server is killed.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from ebbgate.core.live import Live
from ebbgate.core.model import Lease, Stored
from ebbgate.server.audience import Watched
from ebbgate.server.history.gauge import Gauge
from ebbgate.server.history.points import Point
from ebbgate.server.tally import Tallies
from ebbgate.stores.rollups import COARSE, FINE, Place

SLICE: Final = 100
"""How many limits are looked at in one turn of the loop: less than a millisecond."""

Points = dict[Place, list[Point]]


class Recorder:
    """What has happened at all limits of one server and is not written yet."""

    def __init__(self, decider: Watched, tallies: Tallies) -> None:
        """Record nothing before `begin`."""
        self._book = decider.book
        self._tallies = tallies
        self._gauges: dict[str, Gauge] = {}  # of limits that are not idle, or were not a minute ago
        self._busy: dict[str, Gauge] = {}  # of those in which something happened
        self._points: Points = {}
        self._forgotten: list[str] = []
        self._now_us = self._began_us = -1  # -1: it has not begun
        self._is_stale = False
        # First of all watchers: a step that is over must be closed before `tally` counts what came after it.
        decider.watchers.insert(0, self._watch)
        if tallies.own:
            decider.own_watchers.insert(0, self._watch)
        tallies.denied.append(self._denied)

    # --- what the decider tells

    def _watch(self, stored: Sequence[Stored] | None, now_us: int) -> None:
        """Take notice of what was committed; see `Watcher`."""
        if self._now_us < 0:
            return
        self._now_us = max(now_us, self._now_us)
        if stored is None:
            self._is_stale = True
            return
        lives = self._book.lives
        for entry in stored:
            if entry.kind == "lease":
                lease = entry.record
                if type(lease) is Lease:
                    for limit_id, _ in lease.slots:
                        live = lives.get(limit_id)
                        if live is not None:
                            self._look(limit_id, live)
            elif entry.kind == "limit":
                live = lives.get(entry.id)
                if live is None:
                    self._forget(entry.id)
                else:
                    self._look(entry.id, live)

    def _denied(self, live: Live) -> None:
        """Take notice of a limit at which only `tally` saw something."""
        if self._now_us >= 0:
            self._look(live.limit.id, live)

    def _look(self, limit_id: str, live: Live, *, was_idle: bool = True) -> None:
        gauge, now_us = self._gauges.get(limit_id), self._now_us
        if gauge is None:
            idle_us = max(self._began_us, live.limit.created_us) if was_idle else now_us
            gauge = Gauge(live, self._tallies.of(limit_id), now_us, min(idle_us, now_us))
            self._gauges[limit_id] = gauge
        else:
            if now_us >= gauge.ends_us:
                self._roll(limit_id, gauge, now_us)
            gauge.see(live, now_us)
        self._busy[limit_id] = gauge

    def _forget(self, limit_id: str) -> None:
        self._gauges.pop(limit_id, None)
        self._busy.pop(limit_id, None)
        self._forgotten.append(limit_id)

    # --- steps that are over

    def _roll(self, limit_id: str, gauge: Gauge, now_us: int) -> None:
        """Close all steps that ended by `now_us`."""
        gauge.count(self._tallies.of(limit_id))
        while (end_us := gauge.ends_us) <= now_us:
            gauge.advance(end_us)
            begins_block = not (end_us - FINE.step_us) % FINE.block_us
            changed = gauge.fine_changed
            if changed or (begins_block and not gauge.is_idle):
                self._put(0, limit_id, gauge.point(end_us // FINE.step_us - 1, gauge.fine))
            gauge.next_fine()
            if not end_us % COARSE.step_us:
                begins_block = not (end_us - COARSE.step_us) % COARSE.block_us
                if gauge.coarse_changed or (begins_block and not gauge.is_idle):
                    self._put(1, limit_id, gauge.point(end_us // COARSE.step_us - 1, gauge.coarse))
                gauge.next_coarse()
            gauge.ends_us = end_us + FINE.step_us
            if (
                not changed and end_us % FINE.block_us
            ):  # nothing happens any more: up to the end of the minute at once
                whole_us = now_us // FINE.step_us * FINE.step_us
                minute_us = (end_us // COARSE.step_us + 1) * COARSE.step_us
                gauge.ends_us = max(gauge.ends_us, min(whole_us, minute_us))

    def _put(self, resolution: int, limit_id: str, point: Point) -> None:
        each = (FINE, COARSE)[resolution]
        place = Place(resolution, point.at * each.step_us // each.block_us, limit_id)
        self._points.setdefault(place, []).append(point)

    # --- for who writes

    def begin(self, now_us: int) -> None:
        """Look from now on; then `catch_up`."""
        self._now_us = self._began_us = max(now_us, self._now_us)
        self._gauges.clear()
        self._busy.clear()
        self._is_stale = True

    async def catch_up(self) -> None:
        """See how the levels of all limits are, if everything may be different."""
        if not self._is_stale:
            return
        self._is_stale = False
        lives = self._book.lives
        for limit_ids in _slices(list(lives)):
            for limit_id in limit_ids:
                live = lives.get(limit_id)
                if live is not None and (limit_id in self._gauges or not _is_idle(live, self._now_us)):
                    self._look(limit_id, live, was_idle=False)
            await asyncio.sleep(0)
        for limit_id in self._gauges.keys() - lives.keys():
            self._forget(limit_id)

    async def close_steps(self, until_us: int, *, every: bool) -> None:
        """Close what ended by `until_us`, of limits in which something happened, or of every one."""
        await self.catch_up()
        for limit_ids in _slices(list(self._gauges if every else self._busy)):
            for limit_id in limit_ids:
                gauge = self._gauges.get(limit_id)
                if gauge is not None:
                    self._roll(limit_id, gauge, until_us)
                    self._settle(limit_id, gauge)
            await asyncio.sleep(0)

    def _settle(self, limit_id: str, gauge: Gauge) -> None:
        """Look no longer at a limit in which nothing happens."""
        if gauge.fine_changed or gauge.coarse_changed:
            return
        self._busy.pop(limit_id, None)
        if gauge.is_idle:
            del self._gauges[limit_id]

    def end(self, now_us: int) -> None:
        """Close the steps that are under way, as far as they have come."""
        self._now_us = max(now_us, self._now_us)
        for limit_id, gauge in self._busy.items():
            self._roll(limit_id, gauge, self._now_us)
            for resolution, point in self._under_way(limit_id, gauge):
                self._put(resolution, limit_id, point)
        self._gauges.clear()
        self._busy.clear()

    def _under_way(self, limit_id: str, gauge: Gauge) -> Iterable[tuple[int, Point]]:
        gauge.count(self._tallies.of(limit_id))
        at_us = gauge.ends_us - FINE.step_us
        gauge.advance(max(self._now_us, at_us + 1_000))  # a point of less than a millisecond has no mean
        if gauge.fine.seen_us:
            yield 0, gauge.point(at_us // FINE.step_us, gauge.fine)
        minute = gauge.whole_minute()
        if minute.seen_us:
            yield 1, gauge.point(at_us // COARSE.step_us, minute)

    def take(self) -> tuple[Points, list[str]]:
        """Return what is to be written, and which limits are to be forgotten."""
        taken = self._points, self._forgotten
        self._points, self._forgotten = {}, []
        return taken

    # --- for who reads

    def waiting(self, place: Place) -> list[Point]:
        """Return the points of a block that were not taken yet."""
        return self._points.get(place, [])

    def under_way(self, limit_id: str, now_us: int) -> list[tuple[int, Point]]:
        """Return the steps of a limit that are under way, each with its resolution."""
        gauge = self._gauges.get(limit_id)
        if gauge is None:
            return []
        self._now_us = max(now_us, self._now_us)
        self._roll(limit_id, gauge, self._now_us)
        return list(self._under_way(limit_id, gauge))


def _is_idle(live: Live, now_us: int) -> bool:
    return not live.held and not live.waiting and (live.meter is None or live.meter.empty_us <= now_us)


def _slices(limit_ids: list[str]) -> Iterable[list[str]]:
    return (limit_ids[at : at + SLICE] for at in range(0, len(limit_ids), SLICE))
