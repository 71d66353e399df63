"""What happens at the limits, gathered for those who watch: four times a second at most, made once for all.

Nothing is gathered while nobody watches, nor for longer than a minute after the last one has left: that long
a viewer whose connection broke can go on where it was.

Known limit: what happens between two tellings is told by where it led to; of leases only the first are told.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from ebbgate.core import views
from ebbgate.core.model import Lease, Limit, Stored
from ebbgate.errors import StoreUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.doing import Doer
from ebbgate.server.rest.happening import (
    Change,
    LimitEvent,
    Seen,
    definition_of,
    differences,
    lease_event,
    seen,
)
from ebbgate.wire.showing import instant, limit_info

INTERVAL_SECONDS: Final = 0.25
DECAY_SECONDS: Final = 1.0
"""How often a limit is told anew of which nothing is known but that its spent slots come back."""

BUSY_SECONDS: Final = 0.001
"""How soon to look again while the book shows what is not committed yet."""

LINGER_SECONDS: Final = 60.0
KEPT_MAX: Final = 40
LIMITS_MAX: Final = 500
LEASES_MAX: Final = 200
"""How many limits and leases one telling names; more limits come with the next, more leases are counted."""


class Listener(Protocol):
    """Whoever is told of changes."""

    def tell(self, change: Change | None) -> None:
        """Take in what has changed; None: everything may be different."""


class Viewer:
    """One who watches, and what it has not been sent yet."""

    def __init__(self, limit_id: str | None) -> None:
        """Watch one limit, or with None all of them."""
        self.limit_id = limit_id
        self.waiting: deque[Change | None] = deque()  # None: everything may be different
        self.news = asyncio.Event()
        self.lost = False  # it does not read

    def tell(self, change: Change | None) -> None:
        """Have a change sent."""
        if len(self.waiting) >= KEPT_MAX:
            self.lost = True
        else:
            self.waiting.append(change)
        self.news.set()


class Watching:
    """Gathers what happens, and tells all viewers."""

    def __init__(self, decider: Decider) -> None:
        """Watch nothing yet."""
        self._decider = decider
        self._viewers: set[Listener] = set()
        self._until: float | None = None  # when gathering ends, once the last viewer has left
        self._kept: deque[Change] = deque(maxlen=KEPT_MAX)
        self._since = -1  # the version from which on everything is kept
        self._dirty: dict[str, None] = {}  # ids of limits
        self._decaying: dict[str, None] = {}
        self._leases: list[Seen] = []
        self._known: dict[str, Limit] = {}  # limits as they were told of
        self._definitions: list[LimitEvent] = []
        self._left_out = 0
        self._arrival = 0  # the last one that was told
        self._token = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0
        self._decayed_at = 0.0
        decider.watchers.append(self._changed)

    def __len__(self) -> int:
        """Return how many watch."""
        return len(self._viewers)

    async def rest(self) -> None:
        """Return when the book shows what is committed, or when nobody knows what is."""
        with suppress(StoreUnavailable):
            await self._decider.rest()

    @property
    def version(self) -> int:
        """The store's version; -1: nothing is known of it."""
        version = self._decider.engine.version
        return version.number if version else -1

    def enter(self, viewer: Listener, last_version: int | None) -> bool:
        """Have somebody watch.

        Args:
            viewer: who.
            last_version: up to which it knows everything already; None: nothing.

        Returns:
            Whether it has been told all that came since then; else it needs everything.
        """
        if not self._viewers and not self._lingers():
            self._begin()
        self._until = None
        self._viewers.add(viewer)
        if last_version is None or not self._since <= last_version <= self.version:
            return False
        for change in self._kept:
            if change.version > last_version:
                viewer.tell(change)
        return True

    def leave(self, viewer: Listener) -> None:
        """Have somebody watch no more."""
        self._viewers.discard(viewer)
        if not self._viewers:
            self._until = asyncio.get_running_loop().time() + LINGER_SECONDS

    def _lingers(self) -> bool:
        return self._until is not None and asyncio.get_running_loop().time() < self._until

    def _begin(self) -> None:
        book = self._decider.book
        self._arrival, self._token = book.arrival, book.token
        self._since = self.version
        self._kept.clear()
        self._dirty.clear()
        self._decaying.clear()
        self._leases.clear()
        self._known = dict(book.limits)
        self._definitions.clear()
        self._left_out = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- gathering

    def _changed(self, changes: Sequence[Stored] | None, now_us: int) -> None:
        """Note what was committed; see `Watcher`. It runs after every commit, so it does little."""
        if not self._viewers and self._until is None:
            return
        if changes is None or not (self._viewers or self._lingers()):
            self._until = None
            self._begin()
            for viewer in self._viewers:
                viewer.tell(None)
            return
        arrival, token = self._arrival, self._token  # one commit brings its leases in any order
        for stored in changes:
            if stored.kind == "lease":
                if isinstance(stored.record, Lease):
                    self._lease_changed(stored.record, arrival, token)
            elif stored.kind in {"limit", "meter"}:
                self._dirty[stored.id] = None
                if stored.kind == "limit":
                    self._limit_changed(stored, now_us)
        if self._dirty or self._leases:
            self._tell_at(self._told_at + INTERVAL_SECONDS)

    def _lease_changed(self, lease: Lease, arrival: int, token: int) -> None:
        """Note what became of a lease; `arrival` and `token` are the last ones of which was told before."""
        for limit_id, _ in lease.slots:
            self._dirty[limit_id] = None
        by: Doer | None = None
        match lease.state:
            case "waiting":
                if lease.arrival <= arrival:
                    return  # asked again
            case "held":
                if lease.token <= token:
                    return  # renewed
            case _:
                by = self._decider.doers.of(lease.id) if lease.why == "revoked" else None
        self._arrival = max(self._arrival, lease.arrival)
        self._token = max(self._token, lease.token)
        if len(self._leases) >= LEASES_MAX:
            self._left_out += 1
            return
        self._leases.append(seen(lease, by))

    def _limit_changed(self, stored: Stored, now_us: int) -> None:
        """Note what people have done to a limit; its record also changes when nobody has."""
        known = self._known.pop(stored.id, None)
        before = None if known is None else definition_of(known)
        now = None
        if stored.keep and isinstance(stored.record, Limit):
            self._known[stored.id] = stored.record
            now = definition_of(stored.record)
        if before == now:
            return
        names = [definition.name for definition in (now, before) if definition is not None]
        event = LimitEvent(
            id=stored.id,
            name=names[0],
            was_named="" if before is None else before.name,
            what="deleted" if now is None else "created" if before is None else "changed",
            changes=differences(before, now, now_us),
            by=self._decider.doers.of(stored.id, *names),
            at=instant(now_us),
        )
        if len(self._definitions) < LIMITS_MAX:
            self._definitions.append(event)

    # --- telling

    def _tell_at(self, at: float) -> None:
        """Tell at this time of the loop, or at an earlier one that is set already."""
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(max(at, loop.time()), self._tell)

    def _tell(self) -> None:
        self._timer = None
        if not (self._viewers or self._lingers()):
            return
        if not self._decider.is_at_rest:
            self._timer = asyncio.get_running_loop().call_later(BUSY_SECONDS, self._tell)
            return
        now = self._told_at = asyncio.get_running_loop().time()
        if now >= self._decayed_at + DECAY_SECONDS:
            self._decayed_at = now
            self._dirty.update(self._decaying)
            self._decaying.clear()
        if self._dirty or self._leases:
            change = self._gather(self.version)
            self._kept.append(change)
            if len(self._kept) == KEPT_MAX:
                self._since = self._kept[0].version
            for viewer in self._viewers:
                viewer.tell(change)
        if self._dirty:
            self._tell_at(now + INTERVAL_SECONDS)
        elif self._decaying:
            self._tell_at(self._decayed_at + DECAY_SECONDS)

    def _gather(self, version: int) -> Change:
        book, now_us = self._decider.book, self._decider.store.clock()
        limits, gone = [], []
        for limit_id in list(self._dirty)[:LIMITS_MAX]:
            del self._dirty[limit_id]
            live = book.lives.get(limit_id)
            if live is None:
                gone.append(limit_id)
                continue
            view = views.limit_view(live, now_us)
            limits.append(limit_info(view))
            if view.spent > 0:
                self._decaying[limit_id] = None
        leases = [lease_event(book, seen) for seen in self._leases]
        left_out = self._left_out
        definitions, self._definitions = self._definitions, []
        self._leases.clear()
        self._left_out = 0
        return Change(
            version=version, now=instant(now_us), limits=limits, gone=gone, leases=leases,
            leases_left_out=left_out, definitions=definitions,
        )  # fmt: skip
