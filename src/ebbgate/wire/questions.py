"""What can be asked about limits and leases, and the one place where a book answers it.

A question travels as it stands over the stream; REST makes it from an address. Reads only; decides nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from ebbgate.core import views
from ebbgate.core.book import Book
from ebbgate.core.commands import Refused
from ebbgate.core.managing import not_found
from ebbgate.core.model import SERVER
from ebbgate.errors import InvalidRequest
from ebbgate.stores.base import Past
from ebbgate.wire.shapes import LeaseInfo, LimitInfo, StatusInfo
from ebbgate.wire.showing import instant, lease_info, limit_info

STATES: Final = ("waiting", "held", "ended")

PAGE_MAX: Final = 1_000
"""How many limits or leases one answer holds at most."""


class ReadLimit(msgspec.Struct, frozen=True, array_like=True, tag="limit"):
    """One limit; the answer is a `LimitInfo`."""

    name_or_id: str


class ListLimits(msgspec.Struct, frozen=True, array_like=True, tag="limits"):
    """Limits by name; the answer is a list of `LimitInfo`."""

    prefix: str = ""
    after: str = ""  # only names that come after this one
    count: int = PAGE_MAX


class ReadLease(msgspec.Struct, frozen=True, array_like=True, tag="lease"):
    """One lease, held, waiting or recently ended; the answer is a `LeaseInfo`."""

    id: str


class ListLeases(msgspec.Struct, frozen=True, array_like=True, tag="leases"):
    """Held leases by arrival, then waiting ones in their order, or those that ended last, newest first.

    The answer is a list of `LeaseInfo`.
    """

    limit: str | None = None  # name or id
    state: str | None = None  # None: held and waiting
    holder: str | None = None  # a host, a session, or the value of a label
    after: str = ""  # `page_end` of the page before
    count: int = PAGE_MAX


class ReadSizes(msgspec.Struct, frozen=True, array_like=True, tag="sizes"):
    """How many slots those of these limits have that exist and are active; the answer maps names to slots."""

    names: list[str]


class ReadStatus(msgspec.Struct, frozen=True, array_like=True, tag="status"):
    """How much there is of everything; the answer is a `StatusInfo`."""


Question = ReadStatus | ReadLimit | ListLimits | ReadLease | ListLeases | ReadSizes
Answer = StatusInfo | LimitInfo | LeaseInfo | list[LimitInfo] | list[LeaseInfo] | Mapping[str, int] | Refused

Recent = Callable[[], list[Past]]
"""Returns the leases that ended last, newest first."""


def answer(question: Question, book: Book, now_us: int, recent: Recent) -> Answer:
    """Answer a question from a book that is up to date.

    Args:
        question: what is asked.
        book: knows limits and living leases.
        now_us: the store's time.
        recent: knows those that are over; asked only where that is needed.
    """
    match question:
        case ReadLimit(name_or_id):
            view = views.limit(book, now_us, name_or_id)
            return not_found(book, name_or_id) if view is None else limit_info(view)
        case ListLimits(prefix, after, count):
            found = views.limits(book, now_us, prefix=prefix, after=after, count=_count(count))
            return [limit_info(view) for view in found]
        case ReadLease(lease_id):
            return _lease(book, now_us, lease_id, recent)
        case ReadSizes(names):
            lives = [book.names[name] for name in names if name in book.names]
            return {live.limit.name: live.limit.limit for live in lives if live.limit.active}
        case ReadStatus():
            return _status(book, now_us)
        case ListLeases():
            return _leases(question, book, now_us, recent)


def _status(book: Book, now_us: int) -> StatusInfo:
    from ebbgate.version import version  # reads the installed package's metadata

    return StatusInfo(
        version=version(),
        limits=len(book.names),
        held=sum(len(ids) for ids in book.by_session.values()),
        waiting=_waiting(book),
        sessions=sum(1 for id_ in book.sessions if not id_.startswith(SERVER)),
        away=sum(1 for session in book.sessions.values() if session.away_us >= 0),
        now=instant(now_us),
    )


def _waiting(book: Book) -> int:
    return sum(len(group.waiters) - len(group.gone) for group in book.queue.groups.values())


def page_end(leases: Sequence[LeaseInfo]) -> str:
    """Return what the next page of a list comes `after`; "" for the first."""
    if not leases:
        return ""
    last = leases[-1]
    return last.id if last.state == "ended" else views.place_named(last.state, last.priority, last.arrival)


def _count(count: int) -> int:
    if not 1 <= count <= PAGE_MAX:
        raise InvalidRequest(f"a page has from 1 to {PAGE_MAX} entries, got {count}")
    return count


def _lease(book: Book, now_us: int, lease_id: str, recent: Recent) -> LeaseInfo | Refused:
    lease = book.leases.get(lease_id)
    if lease is not None:
        return lease_info(views.lease_view(book, now_us, lease))
    for past in recent():
        if past.lease.id == lease_id:
            return lease_info(views.lease_view(book, now_us, past.lease, past.session))
    return Refused("lease_not_found", {"lease_id": lease_id})


def _leases(question: ListLeases, book: Book, now_us: int, recent: Recent) -> list[LeaseInfo] | Refused:
    if question.state is not None and question.state not in STATES:
        raise InvalidRequest(f"state must be one of {', '.join(STATES)}, got {question.state!r}")
    limit_id = None
    if question.limit is not None:
        view = views.limit(book, now_us, question.limit)
        if view is None:
            return not_found(book, question.limit)
        limit_id = view.limit.id
    count = _count(question.count)
    if question.state == "ended":
        past = [views.lease_view(book, now_us, lease, session) for lease, session in recent()]
        found = views.page(
            [view for view in past if views.concerns(view, limit_id, question.holder)], question.after, count
        )
    else:
        found = views.leases(
            book, now_us, limit_id=limit_id, state=question.state, holder=question.holder,
            after=question.after, count=count,
        )  # fmt: skip
    return [lease_info(view) for view in found]
