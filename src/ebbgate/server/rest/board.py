"""Keeps what pages show up to date: only what somebody looks at, rendered once for all who look at it.

What all together cost is bounded, whatever is looked at: what took long to work out is worked out less often.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import islice
from typing import Final

from ebbgate.core import views
from ebbgate.core.live import Live
from ebbgate.core.managing import find
from ebbgate.core.overview import overview
from ebbgate.server.decider import Decider
from ebbgate.server.rest.happening import Change, Event, LeaseEvent, LimitEvent, event_bytes, past
from ebbgate.server.rest.sights import (
    EventsSight,
    EventsView,
    LeasesSight,
    LimitRow,
    LimitSight,
    LimitsSight,
    LimitsView,
    LimitView,
    TotalsSight,
    View,
)
from ebbgate.server.rest.totals import Totals, TotalsInfo
from ebbgate.server.rest.watching import BUSY_SECONDS, Watching
from ebbgate.wire.questions import ListLeases, answer
from ebbgate.wire.shapes import LeaseInfo
from ebbgate.wire.showing import instant, limit_shape

BEAT_SECONDS: Final = 1.0
REORDER_SECONDS: Final = 2.0
"""How long an order stays while no limit comes or goes: rows that jump about cannot be read."""

LEASES_SECONDS: Final = 0.2
RENEWALS_SECONDS: Final = 5.0
"""How long leases may stand as they are: a renewal is no news, but moves the countdown."""

SHARE: Final = 40
"""What took a while is not done again for so many times as long."""

UNREAD_BYTES_MAX: Final = 16_000_000
EVENTS_KEPT: Final = 1_000
EVENTS_SHOWN: Final = 300

Order = tuple[str, str, str]


class Looker:
    """One who looks at some views, and what has not been sent yet."""

    def __init__(self, looks_at: Sequence[View]) -> None:
        """Look at some views."""
        self.views = looks_at
        self.news = asyncio.Event()
        self.lost = False  # it does not read
        self._unsent: list[bytes] = []
        self._bytes = 0

    def tell(self, event: bytes) -> None:
        """Have an event sent."""
        self._unsent.append(event)
        self._bytes += len(event)
        self.lost |= self._bytes > UNREAD_BYTES_MAX
        self.news.set()

    def taken(self) -> bytes:
        """Return all that is to be sent now."""
        event = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        self._bytes = 0
        return event


class _Ranking:
    """All limits that one search finds, in order."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.due = 0.0  # when it may be worked out anew, by the loop's clock
        self.is_stale = True


class _Shown:
    """A view, and what those who look at it know."""

    def __init__(self) -> None:
        self.lookers: set[Looker] = set()
        self.ids: list[str] = []  # of the limits in it
        self.matching = -1
        self.due = 0.0  # when its leases may be looked up again
        self.looked = 0.0  # when they were
        self.is_stale = True
        self.timer: asyncio.TimerHandle | None = None


class Board:
    """All views that somebody looks at."""

    def __init__(self, decider: Decider, watching: Watching) -> None:
        """Nobody looks yet."""
        self._decider = decider
        self._book = decider.book
        self._watching = watching
        self._lookers: set[Looker] = set()
        self._shown: dict[View, _Shown] = {}
        self._rankings: dict[Order, _Ranking] = {}
        self._totals = Totals(decider.book, 0, 0.0)
        self._told: TotalsInfo | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._beat_timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0  # by the loop's clock
        self._measured: list[str] = []  # limits whose grants per second are to be told anew

    def __len__(self) -> int:
        """Return how many look."""
        return len(self._lookers)

    # --- who looks

    def enter(self, looker: Looker) -> None:
        """Have somebody look; how everything is at present is the first that it is told."""
        if not self._lookers:
            self._watching.enter(self, None)
            now_us, doers = self._decider.store.clock(), self._decider.doers
            self._events = deque(past(self._book, doers, now_us, self._events, EVENTS_SHOWN), EVENTS_KEPT)
            self._begin()
        self._lookers.add(looker)
        for view in looker.views:
            shown = self._shown.get(view)
            if shown is None:
                shown = self._shown[view] = _Shown()
            looker.tell(self._everything(view, shown))
            shown.lookers.add(looker)
            if isinstance(view, LimitView) and view.leases:
                shown.due = 0.0
                self._look_up(view, shown)
        looker.tell(self._event("totals", TotalsSight(now=self._now(), totals=self._totals.info())))

    def leave(self, looker: Looker) -> None:
        """Have somebody look no more."""
        self._lookers.discard(looker)
        for view in looker.views:
            shown = self._shown.get(view)
            if shown is None:
                continue
            shown.lookers.discard(looker)
            if not shown.lookers:
                del self._shown[view]
                if shown.timer is not None:
                    shown.timer.cancel()
        orders = {_order(view) for view in self._shown if isinstance(view, LimitsView)}
        for order in self._rankings.keys() - orders:
            del self._rankings[order]
        if not self._lookers:
            self._watching.leave(self)
            if self._beat_timer is not None:
                self._beat_timer.cancel()
                self._beat_timer = None

    def _begin(self) -> None:
        """Count everything anew."""
        loop = asyncio.get_running_loop()
        self._totals = Totals(self._book, self._decider.store.clock(), loop.time())
        self._rankings.clear()
        if self._beat_timer is None:
            self._beat_timer = loop.call_later(BEAT_SECONDS, self._beat)

    # --- what is new

    def tell(self, change: Change | None) -> None:
        """See `Listener`."""
        if change is None:
            asyncio.get_running_loop().call_soon(self._begin_again)
            return
        changed = {limit.id for limit in change.limits}.union(change.gone)
        at = asyncio.get_running_loop().time()
        comes_or_goes = self._totals.update(changed, self._decider.store.clock(), at)
        for ranking in self._rankings.values():
            ranking.is_stale = True
            if comes_or_goes:
                ranking.due = 0.0
        self._tell_events(change)
        self._tell_limits(changed)
        self._told_at = at
        for view, shown in list(self._shown.items()):
            if isinstance(view, LimitView) and view.leases and shown.is_stale:
                self._look_up(view, shown)

    def _begin_again(self) -> None:
        if not self._lookers:
            return
        if not self._decider.is_at_rest:
            asyncio.get_running_loop().call_later(BUSY_SECONDS, self._begin_again)
            return
        self._begin()
        for view, shown in self._shown.items():
            shown.is_stale = True
            self._tell(shown, self._everything(view, _Shown()))

    def _beat(self) -> None:
        """Tell what changes with time alone."""
        loop = asyncio.get_running_loop()
        is_busy = not self._decider.is_at_rest
        self._beat_timer = loop.call_later(BUSY_SECONDS if is_busy else BEAT_SECONDS, self._beat)
        if is_busy:
            return
        self._measured += self._totals.measure(loop.time())
        if loop.time() - self._told_at > BEAT_SECONDS / 2:  # else it is told with the next change
            self._tell_limits(frozenset())
        for view, shown in list(self._shown.items()):
            is_due = shown.is_stale or loop.time() - shown.looked > RENEWALS_SECONDS
            if isinstance(view, LimitView) and view.leases and is_due:
                self._look_up(view, shown)

    def _tell_limits(self, changed: AbstractSet[str]) -> None:
        """Tell of limits that have changed, and of those where only the grants per second have."""
        anew = {*changed, *self._measured}
        self._measured.clear()
        for view, shown in self._shown.items():
            if isinstance(view, LimitsView):
                sight = self._limits_sight(view, shown, anew)
                if sight is not None:
                    self._tell(shown, self._event("limits", sight))
            elif isinstance(view, LimitView):
                live = find(self._book, view.limit)
                ids = [live.limit.id] if live else []
                shown.is_stale |= ids != shown.ids or not changed.isdisjoint(ids)
                if ids != shown.ids or not anew.isdisjoint(ids):
                    shown.ids = ids
                    self._tell(shown, self._event("limit", self._limit_sight(view)))
        totals = self._totals.info()
        if totals != self._told:
            self._told = totals
            event = self._event("totals", TotalsSight(now=self._now(), totals=totals))
            for looker in self._lookers:
                looker.tell(event)

    def _tell_events(self, change: Change) -> None:
        self._events.extend(change.leases)
        self._events.extend(change.definitions)
        if not (change.leases or change.definitions or change.leases_left_out):
            return
        for view, shown in self._shown.items():
            if isinstance(view, EventsView):
                sight = self._events_sight(
                    view, [*change.leases, *change.definitions], change.leases_left_out
                )
                if sight.leases or sight.definitions or sight.left_out:
                    self._tell(shown, self._event("events", sight))

    @staticmethod
    def _tell(shown: _Shown, event: bytes) -> None:
        for looker in shown.lookers:
            looker.tell(event)

    def _now(self) -> datetime:
        return instant(self._decider.store.clock())

    def _event(self, name: str, sight: object) -> bytes:
        return event_bytes(name, self._watching.version, sight)

    # --- how it is

    def _everything(self, view: View, shown: _Shown) -> bytes:
        """Return all there is to see in a view."""
        if isinstance(view, LimitsView):
            if not shown.lookers:  # else it is as those know it, and goes on from there for all
                self._limits_sight(view, shown, ())
            ids = shown.ids
            sight = LimitsSight(
                view=view, now=self._now(), matching=shown.matching, order=ids, limits=self._rows(ids)
            )
            return self._event("limits", sight)
        if isinstance(view, LimitView):
            return self._event("limit", self._limit_sight(view))
        return self._event("events", self._events_sight(view, list(self._events)[-EVENTS_SHOWN:], 0))

    def _limits_sight(self, view: LimitsView, shown: _Shown, changed: Collection[str]) -> LimitsSight | None:
        """Return what is new in a part of the list, None if nothing is."""
        found = self._ranked(view)
        ids = list(islice(found, view.first, view.first + view.count))
        before = set(shown.ids)
        is_other = ids != shown.ids
        rows = [id_ for id_ in ids if id_ in changed or id_ not in before]
        if not (rows or is_other or len(found) != shown.matching):
            return None
        shown.ids, shown.matching = ids, len(found)
        return LimitsSight(
            view=view, now=self._now(), matching=len(found), order=ids if is_other else None,
            limits=self._rows(rows),
        )  # fmt: skip

    def _ranked(self, view: LimitsView) -> list[str]:
        order = _order(view)
        ranking = self._rankings.get(order)
        if ranking is None:
            ranking = self._rankings[order] = _Ranking()
        loop = asyncio.get_running_loop()
        begun, started = loop.time(), time.perf_counter()
        if ranking.is_stale and begun >= ranking.due:
            found = overview(
                self._book, self._decider.store.clock(), self._totals.rates,
                search=view.search, show=view.show, sort=view.sort,
            )  # fmt: skip
            ranking.ids = [live.limit.id for live in found]
            ranking.is_stale = view.show == "off" or view.sort == "grants"  # time alone changes these
            stays = REORDER_SECONDS if view.show == "all" else 0.0
            ranking.due = begun + max(stays, SHARE * (time.perf_counter() - started))
        return ranking.ids

    def _rows(self, ids: Sequence[str]) -> list[LimitRow]:
        now_us = self._decider.store.clock()
        lives = self._book.lives
        return [self._row(lives[id_], now_us) for id_ in ids if id_ in lives]

    def _row(self, live: Live, now_us: int) -> LimitRow:
        rate = round(self._totals.rates.get(live.limit.id, 0.0), 3)
        return limit_shape(LimitRow, views.limit_view(live, now_us), grants_per_second=rate)

    def _limit_sight(self, view: LimitView) -> LimitSight:
        live = find(self._book, view.limit)
        row = self._row(live, self._decider.store.clock()) if live else None
        return LimitSight(view=view, now=self._now(), limit=row)

    def _look_up(self, view: LimitView, shown: _Shown) -> None:
        """Tell who holds a limit and who waits for it, now or as soon as it is time."""
        loop = asyncio.get_running_loop()
        if shown.timer is not None:
            return
        if shown.due <= loop.time():
            self._look(view, shown)
        else:
            shown.timer = loop.call_at(shown.due, self._look, view, shown)

    def _look(self, view: LimitView, shown: _Shown) -> None:
        shown.timer = None
        if not self._decider.is_at_rest:
            shown.timer = asyncio.get_running_loop().call_later(BUSY_SECONDS, self._look, view, shown)
            return
        started = time.perf_counter()
        shown.is_stale = False
        self._tell(shown, self._event("leases", self._leases_sight(view)))
        shown.looked = asyncio.get_running_loop().time()
        shown.due = shown.looked + max(LEASES_SECONDS, SHARE * (time.perf_counter() - started))

    def _leases_sight(self, view: LimitView) -> LeasesSight:
        held, waiting = self._leases(view, "held"), self._leases(view, "waiting")
        live = find(self._book, view.limit)
        return LeasesSight(
            view=view, now=self._now(),
            held=held, held_more=live is not None and len(live.holders) > len(held),
            waiting=waiting, waiting_more=live is not None and live.waiting > len(waiting),
        )  # fmt: skip

    def _leases(self, view: LimitView, state: str) -> list[LeaseInfo]:
        question = ListLeases(view.limit, state, count=view.leases)
        found = answer(question, self._book, self._decider.store.clock(), list)
        return [lease for lease in found if isinstance(lease, LeaseInfo)] if isinstance(found, list) else []

    def _events_sight(self, view: EventsView, events: Sequence[Event], left_out: int) -> EventsSight:
        live = find(self._book, view.limit) if view.limit else None
        name = live.limit.name if live else view.limit
        leases = [event for event in events if isinstance(event, LeaseEvent)]
        definitions = [event for event in events if isinstance(event, LimitEvent)]
        if name:
            leases = [event for event in leases if any(limit.name == name for limit in event.limits)]
            definitions = [event for event in definitions if name in {event.name, event.was_named}]
        return EventsSight(
            view=view, now=self._now(),
            leases=leases, definitions=definitions,
            left_out=left_out,
        )  # fmt: skip


def _order(view: LimitsView) -> Order:
    return (view.search, view.show, view.sort)
