"""What people are shown of a book: limits, leases, and why somebody waits. Reads only; decides nothing."""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import islice, takewhile
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple, TypeVar

from ebbgate.core.book import Book
from ebbgate.core.commands import PRIORITY_MAX
from ebbgate.core.decay import spent_about, spent_slots, unspent
from ebbgate.core.limits import near_miss
from ebbgate.core.line import Key
from ebbgate.core.live import Group, Live
from ebbgate.core.managing import find
from ebbgate.core.model import SECOND, Lease, Limit, Session
from ebbgate.core.overview import waiting_since_us

BLOCKERS_MAX: Final = 20

NOBODY: Final = (-PRIORITY_MAX - 1, -1)
"""A place before everybody."""

_PLACE: Final = re.compile(r"at:([01]):(-?\d{1,7}):(\d{1,18})", re.ASCII)

L = TypeVar("L", bound="Lease | LeaseView")


class LimitView(NamedTuple):
    """A limit and what is going on at it."""

    limit: Limit
    held: int  # slots
    spent: float  # slots
    active: int  # slots: held, and spent rounded up
    waiting: int  # leases
    cool_until_us: int = -1  # nobody is let in before; -1: it is not cooling down
    granted: int = 0  # leases that were let in, counted from some moment on
    waiting_since_us: int = -1  # when who waits longest asked; -1: nobody waits


class WaitView(NamedTuple):
    """Why a lease waits, and for how long."""

    position: int  # 1: next, among those who want a limit that it lacks
    lacks: tuple[str, ...]  # names
    blocked_by: tuple[str, ...]  # lease ids
    estimate_us: int | None  # until it gets in; None: nobody can tell


class LeaseView(NamedTuple):
    """A lease with its holder and, while it waits, why."""

    lease: Lease
    session: Session | None
    names: tuple[tuple[str, int], ...]  # of its limits, as they are called now
    wait: WaitView | None


def limits(
    book: Book, now_us: int, *, prefix: str = "", after: str = "", count: int | None = None
) -> list[LimitView]:
    """Return limits whose name begins with `prefix` and comes after `after`, by name, `count` at most."""
    names = book.names_in_order()
    start = bisect_left(names, prefix) if prefix > after else bisect_right(names, after)
    begins = takewhile(lambda name: name.startswith(prefix), islice(names, start, None))
    return [limit_view(book.names[name], now_us) for name in islice(begins, count)]


def limit(book: Book, now_us: int, name_or_id: str) -> LimitView | None:
    """Return one limit, or None."""
    live = find(book, name_or_id)
    return limit_view(live, now_us) if live else None


def limit_view(live: Live, now_us: int) -> LimitView:
    """Return a limit and what is going on at it."""
    meter, held = live.meter, live.held
    cool_us = live.cool_until_us if live.cool_until_us > now_us else -1
    spent, active = (
        (0.0, held) if meter is None else (spent_about(meter, now_us), held + spent_slots(meter, now_us))
    )
    return LimitView(
        live.limit, held, spent, active, live.waiting, cool_us, live.granted, waiting_since_us(live)
    )


def near_miss_of(book: Book, name: str) -> str | None:
    """Return the existing name that was perhaps meant."""
    return near_miss(name, book.names)


def leases(
    book: Book,
    now_us: int,
    *,
    limit_id: str | None = None,
    state: str | None = None,
    holder: str | None = None,
    after: str = "",
    count: int | None = None,
) -> list[LeaseView]:
    """Return the held leases in order of arrival, then the waiting ones in their order.

    Args:
        book: what is looked at.
        now_us: the store's time.
        limit_id: only those of this limit.
        state: only those in this state.
        holder: only those of this host or session, or with a label of this value.
        after: only those that come after the lease of this id, or after a place as `place_named` gives it; a
            lease that nobody knows any more ends the list.
        count: so many at most.
    """
    last = _last(book, after) if after else (-1, NOBODY)
    if last is None:
        return []
    found: list[Lease] = []
    for rank, kind, among in ((0, "held", _held), (1, "waiting", _waiting)):
        left = None if count is None else count - len(found)
        if state in {None, kind} and last[0] <= rank and left != 0:
            later = among(
                book, limit_id, last[1] if last[0] == rank else NOBODY, left if holder is None else None
            )
            if holder is not None:
                later = (it for it in later if _is_of(it, book.sessions.get(it.session), holder))
            found.extend(islice(later, left))
    blockers: dict[Live, list[Lease]] = {}
    return [_shown(book, now_us, lease, blockers) for lease in found]


def place_named(state: str, priority: int, arrival: int) -> str:
    """Return the place of a held or waiting lease in a list: it can be gone on from when the lease is long gone."""
    return f"at:1:{-priority}:{arrival}" if state == "waiting" else f"at:0:0:{arrival}"


def _last(book: Book, after: str) -> tuple[int, Key] | None:
    lease = book.leases.get(after)
    if lease is not None:
        return _place(lease)
    found = _PLACE.fullmatch(after)
    return (int(found[1]), (int(found[2]), int(found[3]))) if found else None


def _place(lease: Lease) -> tuple[int, Key]:
    """Return where a lease stands in a list, also one that is over."""
    if lease.state == "waiting" or lease.at_us < 0:
        return (1, (-lease.priority, lease.arrival))
    return (0, (0, lease.arrival))


def _held(book: Book, limit_id: str | None, last: Key, _count: int | None) -> Iterable[Lease]:
    """Return the holders that came after `last`, in order of arrival."""
    arrival = last[1]
    if limit_id is None:
        held = [lease for lease in book.leases.values() if lease.state == "held" and lease.arrival > arrival]
    else:
        held = [lease for lease in book.lives[limit_id].holders.values() if lease.arrival > arrival]
    return sorted(held, key=attrgetter("arrival"))


def _waiting(book: Book, limit_id: str | None, last: Key, count: int | None) -> Iterable[Lease]:
    """Return at least the `count` waiters that come next after `last`, in their order."""
    groups = book.queue.groups.values() if limit_id is None else book.lives[limit_id].groups
    nexts = [it for group in groups if (it := _next(group, last)) is not None]
    if count is not None:  # of the first so many groups, each gives so many at most
        nexts = nsmallest(count, nexts, key=itemgetter(0))
    found: list[tuple[Key, Lease]] = []
    for _, place, group in nexts:
        priority, gone = group.identity[1], group.gone
        there = (it for it in islice(group.waiters, place, None) if it.arrival not in gone)
        found.extend([((priority, it.arrival), it) for it in islice(there, count)])
    return [lease for _, lease in sorted(found, key=itemgetter(0))]


def _next(group: Group, last: Key) -> tuple[Key, int, Group] | None:
    """Return the place of the first waiter of a group that may come after `last`."""
    priority, waiters = group.identity[1], group.waiters
    if not waiters or (priority, waiters[-1].arrival) <= last:
        return None
    place = 0
    if (priority, waiters[0].arrival) <= last:
        place = bisect_right(waiters, last[1], key=attrgetter("arrival"))
        while place < len(waiters) and waiters[place].arrival in group.gone:
            place += 1
        if place == len(waiters):
            return None
    return (priority, waiters[place].arrival), place, group


def page(leases: Sequence[L], after: str, count: int | None) -> Sequence[L]:
    """Return the `count` leases, or views of leases, that come after the one with the id `after`."""
    start = 0
    if after:
        ids = [entry.lease.id if isinstance(entry, LeaseView) else entry.id for entry in leases]
        start = ids.index(after) + 1 if after in ids else len(ids)
    return leases[start : None if count is None else start + count]


def concerns(view: LeaseView, limit_id: str | None, holder: str | None) -> bool:
    """Tell whether a lease is of this limit and this holder; None is any."""
    if limit_id is not None and not any(entry[0] == limit_id for entry in view.lease.slots):
        return False
    return holder is None or _is_of(view.lease, view.session, holder)


def _is_of(lease: Lease, session: Session | None, holder: str) -> bool:
    if holder == lease.session or holder in lease.labels.values():
        return True
    return session is not None and (holder == session.host or holder in session.labels.values())


def lease_view(book: Book, now_us: int, lease: Lease, departed: Session | None = None) -> LeaseView:
    """Return a lease with its holder and, while it waits, why; `departed` is its holder if that is gone."""
    return _shown(book, now_us, lease, {}, departed)


def _shown(
    book: Book,
    now_us: int,
    lease: Lease,
    blockers: dict[Live, list[Lease]],
    departed: Session | None = None,
) -> LeaseView:
    lives = book.lives
    names = tuple([(lives[id_].limit.name, slots) for id_, slots in lease.slots if id_ in lives])
    wait = _wait(book, now_us, lease, blockers) if lease.state == "waiting" else None
    return LeaseView(lease, book.sessions.get(lease.session, departed), names, wait)


def wait_view(book: Book, now_us: int, lease: Lease) -> WaitView:
    """Return why a waiter waits: what it lacks, who holds that, how many are before it, and an estimate."""
    return _wait(book, now_us, lease, {})


def _wait(book: Book, now_us: int, lease: Lease, blockers: dict[Live, list[Lease]]) -> WaitView:
    """Do the same; `blockers` keeps for the others of a page who holds a limit, the soonest to expire first."""
    key = (-lease.priority, lease.arrival)
    names: list[str] = []
    before = 0
    estimate_us: int | None = 0
    blocked_by: list[Lease] = []
    for limit_id, slots in lease.slots:
        live = book.lives[limit_id]
        room = live.visible(key, now_us)
        if room >= slots:
            continue
        names.append(live.limit.name)
        slots_before, waiters_before = live.before(key)
        before = max(before, waiters_before)
        if live not in blockers:
            blockers[live] = live.soonest(BLOCKERS_MAX)
        blocked_by = _merged(blocked_by, blockers[live])
        until_us = _estimate(live, slots_before + slots, now_us)
        estimate_us = None if until_us is None or estimate_us is None else max(estimate_us, until_us)
    return WaitView(before + 1, tuple(names), tuple([holder.id for holder in blocked_by]), estimate_us)


def _merged(some: list[Lease], others: list[Lease]) -> list[Lease]:
    """Return those of two lists, each in order, that expire soonest."""
    if not some:
        return others
    both = {lease.arrival: lease for lease in (*some, *others)}
    return sorted(both.values(), key=lambda lease: (lease.expires_us, lease.arrival))[:BLOCKERS_MAX]


def _estimate(live: Live, slots: int, now_us: int) -> int | None:
    """Return how long until `slots` more have been given out at a limit; None where nobody can tell.

    What is only spent comes back at a rate, which is sure. Held slots come back when their holders please: it
    goes on as it went since somebody waits, if enough were handed on to say so.
    """
    limit, meter = live.limit.limit, live.meter
    if not limit:
        return None
    cool_us = max(live.cool_until_us - now_us, 0)
    if cool_us and meter is None and live.limit.slot_decay_per_second:
        meter = unspent(live.limit.id, live.limit.slot_decay_per_second)
    if meter is None or live.holders:
        if cool_us and not live.holders and slots <= limit:
            return cool_us
        pace_us = live.pace_us(slots, now_us)
        return None if pace_us is None else max(pace_us, cool_us)
    over = slots - limit
    if over <= 0:
        return max(live.room_at(slots, now_us) - now_us, 0)
    back_us = math.ceil(over * meter.denominator * SECOND / meter.numerator)
    return max(meter.empty_us - now_us, cool_us) + back_us
