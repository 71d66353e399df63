"""What is told of what happens: to leases, and to limits as people define them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from itertools import islice
from typing import Final, Literal, NamedTuple

import msgspec

from ebbgate.core.book import Book
from ebbgate.core.model import SECOND, Lease, Limit, Slots, State
from ebbgate.server.doing import Doer, Doers
from ebbgate.server.rest.answers import encode
from ebbgate.wire.shapes import LimitInfo, SlotsInfo
from ebbgate.wire.showing import instant
from ebbgate.wire.words import rate

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_SAME: Final = timedelta(milliseconds=1)  # edits in one instant are a microsecond apart


class LeaseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something became of a lease."""

    id: str
    state: Literal["waiting", "held", "ended"]
    why: str  # it has ended
    kind: Literal["hold", "spend"]
    limits: list[SlotsInfo]
    session: str
    host: str  # of the session, where it is known
    pid: int
    key: str  # the id of the API key that the session came with
    labels: dict[str, str]
    fencing_token: int | None
    waited_seconds: float | None  # until it got in, or gave up; None while it waits
    held_seconds: float | None  # it has ended
    by: Doer | None  # who revoked it, where that is known
    at: datetime


class LimitEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A limit was created, changed or deleted."""

    id: str
    name: str  # now; of a deleted one, its last
    was_named: str  # before; "" if it is new
    what: Literal["created", "changed", "deleted"]
    changes: str  # in words
    by: Doer | None  # where that is known
    at: datetime


Event = LeaseEvent | LimitEvent


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What happened since the last telling."""

    version: int
    now: datetime  # by the store's clock
    limits: list[LimitInfo]  # as they are now
    gone: list[str]  # ids of limits that were deleted
    leases: list[LeaseEvent]
    leases_left_out: int  # events of leases for which there was no room
    definitions: list[LimitEvent]


def narrowed(change: Change, limit_id: str, name: str) -> Change | None:
    """Return what of a change is about one limit, None if nothing is."""
    limits = [limit for limit in change.limits if limit.id == limit_id]
    gone = [entry for entry in change.gone if entry == limit_id]
    leases = [event for event in change.leases if any(limit.name == name for limit in event.limits)]
    definitions = [event for event in change.definitions if event.id == limit_id]
    if not (limits or gone or leases or definitions):
        return None
    return Change(
        version=change.version, now=change.now, limits=limits, gone=gone, leases=leases, leases_left_out=0,
        definitions=definitions,
    )  # fmt: skip


class Seen(msgspec.Struct, frozen=True):
    """A lease's record as it was when it changed; the record itself goes on changing."""

    id: str
    state: Literal["waiting", "held", "ended"]
    why: str
    kind: Literal["hold", "spend"]
    slots: Slots
    session: str
    labels: Mapping[str, str]
    token: int
    at_us: int
    waited_us: int  # -1: it still waits
    held_us: int  # -1: it has not ended, or was never held
    by: Doer | None = None


def seen(lease: Lease, by: Doer | None = None, *, state: State | None = None) -> Seen:
    """Return what has just become of a lease, or when it came into an earlier state."""
    state = state or lease.state
    was_held = lease.at_us >= 0
    at_us = {"waiting": lease.since_us, "held": lease.at_us, "ended": lease.ended_us}[state]
    ended = state == "ended"
    let_in_us = lease.at_us if was_held else lease.ended_us
    return Seen(
        lease.id, state, lease.why if ended else "", lease.kind, lease.slots, lease.session, lease.labels,
        lease.token if state != "waiting" else -1, at_us,
        waited_us=-1 if state == "waiting" else let_in_us - lease.since_us,
        held_us=lease.ended_us - lease.at_us if was_held and ended and lease.why != "spent" else -1,
        by=by,
    )  # fmt: skip


def lease_event(book: Book, one: Seen) -> LeaseEvent:
    """Return what has become of a lease as people are told of it."""
    lives, session = book.lives, book.sessions.get(one.session)
    return LeaseEvent(
        id=one.id,
        state=one.state,
        why=one.why,
        kind=one.kind,
        limits=[SlotsInfo(lives[id_].limit.name, slots) for id_, slots in one.slots if id_ in lives],
        session=one.session,
        host=session.host if session else "",
        pid=session.pid if session else 0,
        key=session.key if session else "",
        labels={**(session.labels if session else {}), **one.labels},
        fencing_token=one.token if one.token >= 0 else None,
        waited_seconds=one.waited_us / SECOND if one.waited_us >= 0 else None,
        held_seconds=one.held_us / SECOND if one.held_us >= 0 else None,
        by=one.by,
        at=instant(one.at_us),
    )


def past(book: Book, doers: Doers, now_us: int, told: Iterable[Event], count: int) -> list[Event]:
    """Return the `count` newest things that happened, the newest last.

    Args:
        book: knows how things are, and the leases of the last minute.
        doers: who has done what.
        now_us: the present instant.
        told: what was told of before; what it says of limits is known better than from the book.
        count: how many are wanted.
    """
    defined = [event for event in told if isinstance(event, LimitEvent)]
    happened = [*_past_leases(book, count), *_past_definitions(book, doers, now_us, defined, count)]
    happened.sort(key=lambda event: event.at)
    return happened[-count:]


def _past_leases(book: Book, count: int) -> list[Event]:
    happened = []
    for lease in islice(reversed(book.leases.values()), count):
        if lease.state == "waiting" or lease.at_us != lease.since_us:
            happened.append(seen(lease, state="waiting"))
        if lease.at_us >= 0 and lease.why != "spent":
            happened.append(seen(lease, state="held"))
        if lease.state == "ended":
            happened.append(seen(lease))
    happened.sort(key=lambda one: one.at_us)
    return [lease_event(book, one) for one in happened[-count:]]


def _past_definitions(
    book: Book, doers: Doers, now_us: int, told: Sequence[LimitEvent], count: int
) -> list[LimitEvent]:
    """Return how limits came to be as they are: what was told of, and what a book knows besides.

    A book knows when a limit was created and when it was changed last, and not what it was before.
    """
    happened = list(told)
    known = {(event.id, event.what): event.at for event in told}  # of several the last one

    def happen(limit: Limit, what: Literal["created", "changed"], at_us: int, changes: str) -> None:
        at = instant(at_us)
        if known.get((limit.id, what), _NEVER) + _SAME > at:
            return
        is_last = at_us == limit.updated_us
        by = doers.of_past((now_us - at_us) / SECOND, limit.id, limit.name) if is_last else None
        before = limit.name if what == "changed" else ""
        event = LimitEvent(
            id=limit.id, name=limit.name, was_named=before, what=what, changes=changes, by=by, at=at
        )
        happened.append(event)

    for live in nlargest(count, book.lives.values(), key=lambda live: live.limit.updated_us):
        limit = live.limit
        how, is_new = differences(None, definition_of(limit), now_us), limit.updated_us == limit.created_us
        happen(limit, "created", limit.created_us, how if is_new else "")
        if not is_new:
            happen(limit, "changed", limit.updated_us, f"now {how}")
    return happened


def event_bytes(name: str, version: int, data: object) -> bytes:
    """Return a server-sent event as it is sent."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), version, encode(data))


class Definition(NamedTuple):
    """What people have said of a limit, as it was when they did; the record itself goes on changing."""

    name: str
    limit: int
    slot_decay_per_second: float
    active: bool
    description: str
    cool_until_us: int
    cool_why: str


def definition_of(limit: Limit) -> Definition:
    """Return how a limit is defined now."""
    return Definition(
        limit.name, limit.limit, limit.slot_decay_per_second, limit.active, limit.description,
        limit.cool_until_us, limit.cool_why,
    )  # fmt: skip


def _rate(decay: float, limit: int) -> str:
    return rate(decay, limit) if decay else "none"


def _slots(count: int) -> str:
    return f"{count:,} slot{'' if count == 1 else 's'}"


def differences(before: Definition | None, now: Definition | None, at_us: int) -> str:
    """Return in words what was changed at a limit, at an instant of the store; None is one that is not there."""
    told: list[str] = []
    if now is None:
        return ""
    if before is None:
        told.append(_slots(now.limit))
        if now.slot_decay_per_second:
            told.append(f"slot decay {_rate(now.slot_decay_per_second, now.limit)}")
        return ", ".join(told if now.active else [*told, "disabled"])
    if before.name != now.name:
        told.append(f"was named {before.name}")
    if before.limit != now.limit:
        told.append(f"{before.limit:,} → {_slots(now.limit)}")
    if before.slot_decay_per_second != now.slot_decay_per_second:
        was = _rate(before.slot_decay_per_second, before.limit)
        told.append(f"slot decay {was} → {_rate(now.slot_decay_per_second, now.limit)}")
    if before.active != now.active:
        told.append("enabled" if now.active else "disabled")
    if before.description != now.description:
        told.append("another description")
    if before.cool_until_us != now.cool_until_us:
        left = (now.cool_until_us - at_us) / 1e6
        cools = f"cools down for {left:.3g} s{': ' if now.cool_why else ''}{now.cool_why}"
        told.append(cools if left > 0 else "cools down no more")
    return ", ".join(told)
