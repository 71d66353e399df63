"""What people are shown of a book: limits, leases, and why somebody waits. Reads only; decides nothing."""

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from ebbgate.core.book import Book
from ebbgate.core.decay import spent_exactly, spent_slots
from ebbgate.core.limits import near_miss
from ebbgate.core.live import Live
from ebbgate.core.managing import find
from ebbgate.core.model import Lease, Limit, Session

BLOCKERS_MAX: Final = 20

L = TypeVar("L", bound="Lease | LeaseView")


class LimitView(NamedTuple):
    """A limit and what is going on at it."""

    limit: Limit
    held: int  # slots
    spent: float  # slots
    active: int  # slots: held, and spent rounded up
    waiting: int  # leases


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
    names = sorted(name for name in book.names if name.startswith(prefix) and name > after)
    return [limit_view(book.names[name], now_us) for name in names[:count]]


def limit(book: Book, now_us: int, name_or_id: str) -> LimitView | None:
    """Return one limit, or None."""
    live = find(book, name_or_id)
    return limit_view(live, now_us) if live else None


def limit_view(live: Live, now_us: int) -> LimitView:
    """Return a limit and what is going on at it."""
    meter = live.meter
    spent, spent_up = (
        (0.0, 0) if meter is None else (float(spent_exactly(meter, now_us)), spent_slots(meter, now_us))
    )
    return LimitView(live.limit, live.held, spent, live.held + spent_up, live.waiting)


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
        after: only those that come after the lease of this id; one that is gone meanwhile ends the list.
        count: so many at most.
    """
    found = [
        lease
        for lease in _live(book)
        if (state is None or lease.state == state)
        and _concerns(lease, book.sessions.get(lease.session), limit_id, holder)
    ]
    found.sort(key=_order)
    return [lease_view(book, now_us, lease) for lease in page(found, after, count)]


def page(leases: Sequence[L], after: str, count: int | None) -> Sequence[L]:
    """Return the `count` leases, or views of leases, that come after the one with the id `after`."""
    start = 0
    if after:
        ids = [entry.lease.id if isinstance(entry, LeaseView) else entry.id for entry in leases]
        start = ids.index(after) + 1 if after in ids else len(ids)
    return leases[start : None if count is None else start + count]


def concerns(view: LeaseView, limit_id: str | None, holder: str | None) -> bool:
    """Tell whether a lease is of this limit and this holder; None is any."""
    return _concerns(view.lease, view.session, limit_id, holder)


def _concerns(lease: Lease, session: Session | None, limit_id: str | None, holder: str | None) -> bool:
    if limit_id is not None and not any(entry[0] == limit_id for entry in lease.slots):
        return False
    if holder is None or holder == lease.session or holder in lease.labels.values():
        return True
    return session is not None and (holder == session.host or holder in session.labels.values())


def _order(lease: Lease) -> tuple[bool, int, int]:
    waits = lease.state == "waiting"
    return (waits, -lease.priority if waits else 0, lease.arrival)


def _live(book: Book) -> Iterator[Lease]:
    for ids in book.by_session.values():
        for lease_id in ids:
            yield book.leases[lease_id]


def lease_view(book: Book, now_us: int, lease: Lease, departed: Session | None = None) -> LeaseView:
    """Return a lease with its holder and, while it waits, why; `departed` is its holder if that is gone."""
    names = tuple((book.lives[id_].limit.name, slots) for id_, slots in lease.slots if id_ in book.lives)
    wait = wait_view(book, now_us, lease) if lease.state == "waiting" else None
    return LeaseView(lease, book.sessions.get(lease.session, departed), names, wait)


def wait_view(book: Book, now_us: int, lease: Lease) -> WaitView:
    """Return why a waiter waits: what it lacks, who holds that, how many are before it, and an estimate."""
    key = (-lease.priority, lease.arrival)
    lacking = [
        (book.lives[id_], slots) for id_, slots in lease.slots if book.lives[id_].visible(key, now_us) < slots
    ]
    before = 0
    estimate_us: int | None = 0
    blocked_by: list[Lease] = []
    for live, slots in lacking:
        slots_before, waiters_before = _before(live, key)
        before = max(before, waiters_before)
        holders = _holders(book, live)
        blocked_by += [holder for holder in holders if holder not in blocked_by]
        until_us = _estimate(live, holders, slots_before + slots, now_us)
        estimate_us = None if until_us is None or estimate_us is None else max(estimate_us, until_us)
    return WaitView(
        before + 1,
        tuple(live.limit.name for live, _ in lacking),
        tuple(holder.id for holder in blocked_by[:BLOCKERS_MAX]),
        estimate_us,
    )


def _before(live: Live, key: tuple[int, int]) -> tuple[int, int]:
    """Return how many slots, and how many waiters, stand before `key` at a limit."""
    slots_before = waiters_before = 0
    for group in live.groups:
        wanted = next(slots for other, slots in group.needs if other is live)
        for lease in group.waiters:
            if (group.identity[1], lease.arrival) >= key:
                break
            if lease.arrival not in group.gone:
                slots_before += wanted
                waiters_before += 1
    return slots_before, waiters_before


def _holders(book: Book, live: Live) -> list[Lease]:
    """Return who holds slots of a limit, the soonest to expire first."""
    limit_id = live.limit.id
    held = [
        lease
        for lease in _live(book)
        if lease.state == "held" and any(entry[0] == limit_id for entry in lease.slots)
    ]
    return sorted(held, key=lambda lease: (lease.expires_us, lease.arrival))


def _estimate(live: Live, holders: list[Lease], slots: int, now_us: int) -> int | None:
    """Return how long until `slots` more have been given out at a limit, if decay alone brings them back.

    Held slots come back when their holders please; a spend rate is sure. So only rate limits have an estimate.
    """
    if live.meter is None or holders or not live.limit.limit:
        return None
    meter = live.meter
    over = slots - live.limit.limit
    empty_us = meter.empty_us - now_us
    if over <= 0:
        return max(live.room_at(slots) - now_us, 0)
    return max(empty_us, 0) + math.ceil(over * meter.denominator * 1_000_000 / meter.numerator)
