"""The records of one namespace, the indexes that make each decision quick, and the journal that undoes it.

An index is a pure function of the records: a record leaves its indexes before it changes and enters them
again afterwards, whether a decision, its undoing, or another process's commit changes it.

Known limit: the indexes are never stored; loading costs time for each live record.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from ebbgate.core.live import Live
from ebbgate.core.model import Head, Lease, Limit, ManagementRequest, Meter, Record, Session, Settings, Stored
from ebbgate.core.queue import Queue

R = TypeVar("R", bound=Record)


class Records:
    """All records, indexed; changed under a journal until `confirm` or `rollback`."""

    def __init__(self, settings: Settings) -> None:
        """Hold nothing."""
        self.settings = settings
        self.known_token = 0  # the newest fencing token that this process knows of, whatever the store says
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.head = Head()
        self.token = 0
        self.arrival = 0
        self.seen_us = 0  # the latest instant whose coming was taken in; time does not go back behind it
        self.limits: dict[str, Limit] = {}
        self.names: dict[str, Live] = {}
        self._names_in_order: list[str] | None = None  # kept once somebody has asked for it
        self.sessions: dict[str, Session] = {}
        self.leases: dict[str, Lease] = {}
        self.requests: dict[str, ManagementRequest] = {}
        self.queue = Queue(self.settings.patience_us, self)
        self.lives = self.queue.lives
        self.by_session: dict[str, dict[str, None]] = {}  # held leases, in no order
        self.waiting_by_session: dict[str, dict[str, None]] = {}
        self.closing: dict[str, None] = {}  # sessions that have ended, and still have leases to end
        self.expiries: list[tuple[int, str]] = []
        self.attends: list[tuple[int, str]] = []
        self.aways: list[tuple[int, str]] = []
        self.endings: list[tuple[int, str, str]] = []  # heap of (when, kind, id): forgotten in this order
        self._holding = 0
        self._journal: list[Callable[[], None]] = []
        self._departed: dict[str, Session] = {}  # sessions removed by this decision: history names them
        self._touched: dict[str, Lease] = {}
        self._changed: dict[tuple[str, str], None] = {}

    # --- the journal

    def undecided(self) -> bool:
        """Tell whether there are changes that were neither confirmed nor rolled back."""
        return bool(self._journal)

    def confirm(self, head: Head) -> None:
        """Keep the last decision: it is committed, with this head."""
        self._set_head(head)
        self._journal.clear()
        self._departed.clear()
        self._touched.clear()
        self._changed.clear()

    def rollback(self) -> None:
        """Undo the last decision: it was not committed."""
        for undo in reversed(self._journal):
            undo()
        self.confirm(self.head)

    def collect(self) -> list[Stored]:
        """Return what was changed since the last `confirm`, limits before the leases that name them."""
        changes: list[Stored] = []
        gone: list[Stored] = []
        for kind, record_id in self._changed:
            if kind == "lease" and record_id in self._touched:
                continue  # it changed, and was forgotten at once
            record = self._find(kind, record_id)
            if record is None:
                gone.append(Stored(kind, record_id, self._departed.get(record_id), keep=False))
            else:
                changes.append(Stored(kind, record_id, record))
        for lease_id, lease in self._touched.items():
            changes.append(Stored("lease", lease_id, lease, lease_id in self.leases))
        return changes + gone if gone else changes

    def _find(self, kind: str, record_id: str) -> Record | None:
        match kind:
            case "limit":
                return self.limits.get(record_id)
            case "meter":
                live = self.lives.get(record_id)
                return live.meter if live else None
            case "session":
                return self.sessions.get(record_id)
            case "request":
                return self.requests.get(record_id)
        return self.leases.get(record_id)

    # --- taking in what is committed elsewhere

    def load(self, head: Head, records: Iterable[Stored]) -> None:
        """Forget everything and take in all records of a store, in any order."""
        self.clear()
        for stored in sorted(records, key=_load_order):
            self._take_in(stored)
        self._set_head(head)

    def apply(self, head: Head, records: Iterable[Stored]) -> None:
        """Take in what other processes committed, in the order of their commits.

        Limits come first and go last, so that every lease finds those it names, even where only the newest
        state of each record is told.
        """
        assert not self._journal, "a decision is under way: confirm or undo it first"
        for stored in sorted(records, key=_apply_order):
            self._take_in(stored)
        self._set_head(head)

    def _set_head(self, head: Head) -> None:
        self.head = head
        self.token = head.token
        self.known_token = max(self.known_token, head.token)
        self.arrival = head.arrival

    def _take_in(self, stored: Stored) -> None:
        record = stored.record if stored.keep else None
        match stored.kind:
            case "lease":
                self._place_lease(stored.id, _of(Lease, record))
            case "limit":
                self._place_limit(stored.id, _of(Limit, record))
            case "meter":
                self._place_meter(stored.id, _of(Meter, record))
            case "session":
                self._place_session(stored.id, _of(Session, record))
            case _:
                self._place_request(stored.id, _of(ManagementRequest, record))

    def _place_lease(self, lease_id: str, record: Lease | None) -> None:
        lease = self.leases.get(lease_id)
        if lease is not None:
            self.unindex(lease)
            if record is not None and lease.state == "waiting" and record.at_us >= 0:
                self._hand_on(record)
            if record is not None and record.arrival != lease.arrival:
                lease = None  # its id was forgotten, and used again
        if record is None:
            self.leases.pop(lease_id, None)
            return
        if lease is None:
            lease = self.leases[lease_id] = record
        else:
            lease.restore(record.saved())  # the same object: the queue and its callers know it
        self.index(lease)

    # --- indexes of leases

    def index(self, lease: Lease) -> None:
        """Enter a lease into the indexes its state calls for."""
        if lease.state == "ended":
            heapq.heappush(self.endings, (lease.ended_us, "lease", lease.id))
            return
        among = self.by_session if lease.state == "held" else self.waiting_by_session
        mine = among.get(lease.session)
        if mine is None:
            among[lease.session] = {lease.id: None}
        else:
            mine[lease.id] = None
        if lease.state == "held":
            lives = self.lives
            for limit_id, slots in lease.slots:
                live = lives[limit_id]
                live.held += slots
                live.holders[lease.arrival] = lease
                if live.endings is not None:
                    live.ends_at(lease)
                if live.claimants or live.timed:
                    self.queue.shrunk(live)
            self._holding += 1
            self.expect(lease)
        else:
            self.queue.enter(lease)
            if lease.attend_due_us >= 0:
                heapq.heappush(self.attends, (lease.attend_due_us, lease.id))

    def unindex(self, lease: Lease) -> None:
        """Take a lease out of the indexes, before it changes."""
        if lease.state == "held":
            lives = self.lives
            for limit_id, slots in lease.slots:
                live = lives[limit_id]
                live.held -= slots
                del live.holders[lease.arrival]
                if live.endings is not None:
                    live.ends_no_more(lease)
                if live.parked or live.timed:
                    self.queue.gained(live)
            self._holding -= 1
        elif lease.state == "waiting":
            self.queue.leave(lease)
        else:
            return
        among = self.by_session if lease.state == "held" else self.waiting_by_session
        mine = among[lease.session]
        del mine[lease.id]
        if not mine:
            del among[lease.session]

    def has_leases(self, session_id: str) -> bool:
        """Tell whether a session holds or waits for anything."""
        return session_id in self.by_session or session_id in self.waiting_by_session

    def expect(self, lease: Lease) -> None:
        """Note when a held lease ends unless something happens before."""
        heapq.heappush(self.expiries, (lease.expires_us, lease.id))
        if lease.attend_due_us >= 0:
            heapq.heappush(self.attends, (lease.attend_due_us, lease.id))
        if len(self.expiries) > 256 + 2 * self._holding:
            leases = self.leases
            self.expiries = [
                (expires_us, lease_id)
                for expires_us, lease_id in set(self.expiries)
                if (known := leases.get(lease_id)) is not None
                and known.state == "held"
                and known.expires_us == expires_us
            ]
            heapq.heapify(self.expiries)

    # --- changing records, under the journal

    def touch(self, lease: Lease) -> None:
        """Note a lease as changed, before it is."""
        if lease.id not in self._touched:
            self._touched[lease.id] = lease
            self._journal.append(partial(self._restore_lease, lease, lease.saved()))

    def _hand_on(self, lease: Lease) -> None:
        """Note that a waiter was let in by somebody else."""
        for limit_id, slots in lease.slots:
            live = self.lives[limit_id]  # it is there: it is only told after its leases that it is deleted
            if live.handed_us >= 0:
                live.handed += slots
            else:
                live.handed_us = lease.at_us

    def _restore_lease(self, lease: Lease, saved: tuple[object, ...]) -> None:
        if lease.id in self.leases:
            self.unindex(lease)
        granted = lease.slots if lease.at_us >= 0 else ()
        lease.restore(saved)
        self.leases[lease.id] = lease
        self.index(lease)
        if lease.state == "waiting":
            for limit_id, slots in granted:  # it was let in, and was not
                live = self.lives[limit_id]
                live.handed = max(live.handed - slots, 0)

    def add(self, lease: Lease) -> None:
        """Take in a new lease, which is in no index yet."""
        self.arrival = lease.arrival
        self.leases[lease.id] = lease
        self._touched[lease.id] = lease
        self._journal.append(partial(self._drop_lease, lease))

    def _drop_lease(self, lease: Lease) -> None:
        if self.leases.pop(lease.id, None) is not None:
            self.unindex(lease)

    def forget_lease(self, lease_id: str) -> None:
        """Remove the last trace of a lease that ended long ago."""
        lease = self.leases.pop(lease_id)
        self._journal.append(partial(self._restore_lease, lease, lease.saved()))
        self._changed["lease", lease_id] = None

    def mark_overtaken(self, lease: Lease, since_us: int) -> None:
        """Record since when later ones are let in before a waiter."""
        self.touch(lease)
        lease.overtaken_us = since_us

    def set_keeps(self, lease: Lease, keeps: tuple[str, ...]) -> None:
        """Record the order in which a waiter keeps slots."""
        self.touch(lease)
        lease.keeps = keeps

    def put_limit(self, limit_id: str, limit: Limit | None) -> None:
        """Set or remove a limit."""
        if limit is None:
            self.put_meter(limit_id, None)
        self._journal.append(partial(self._place_limit, limit_id, self.limits.get(limit_id)))
        self._changed["limit", limit_id] = None
        self._place_limit(limit_id, limit)

    def _place_limit(self, limit_id: str, limit: Limit | None) -> None:
        live = self.lives.get(limit_id)
        self._order_name(live.limit.name if live else None, limit.name if limit else None)
        if live is not None and self.names.get(live.limit.name) is live:
            del self.names[live.limit.name]
        if limit is None:
            self.limits.pop(limit_id, None)
            self.lives.pop(limit_id, None)
            return
        self.limits[limit_id] = limit
        if live is None:
            live = self.lives[limit_id] = Live(limit)
        before = live.limit
        live.define(limit, live.meter)
        self.names[limit.name] = live
        if (before.limit, before.active, before.cool_until_us) != (
            limit.limit,
            limit.active,
            limit.cool_until_us,
        ):
            self.queue.reconsider(live)

    def names_in_order(self) -> list[str]:
        """Return the names of all limits, in order; not to be changed."""
        if self._names_in_order is None:
            self._names_in_order = sorted(live.limit.name for live in self.lives.values())
        return self._names_in_order

    def _order_name(self, before: str | None, after: str | None) -> None:
        names = self._names_in_order
        if names is None or before == after:
            return
        if before is not None:
            del names[bisect_left(names, before)]
        if after is not None:
            insort(names, after)

    def put_meter(self, limit_id: str, meter: Meter | None) -> None:
        """Set or remove the meter of a limit."""
        live = self.lives[limit_id]
        if ("meter", limit_id) not in self._changed:
            self._journal.append(partial(self._place_meter, limit_id, live.meter))
            self._changed["meter", limit_id] = None
        self._place_meter(limit_id, meter)

    def _place_meter(self, limit_id: str, meter: Meter | None) -> None:
        live = self.lives.get(limit_id)
        if live is None:
            return  # its limit is gone
        before = live.meter
        live.define(live.limit, meter)
        if before is None or meter is None:
            self.queue.reconsider(live)  # what is kept of a metered limit is another matter
        else:
            self.queue.gained(live)
            self.queue.shrunk(live)

    def put_session(self, session_id: str, session: Session | None) -> None:
        """Set or remove a session."""
        before = self.sessions.get(session_id)
        self._journal.append(partial(self._place_session, session_id, before))
        self._changed["session", session_id] = None
        if session is None and before is not None:
            self._departed[session_id] = before
        self._place_session(session_id, session)

    def _place_session(self, session_id: str, session: Session | None) -> None:
        if session is not None and session.is_closing:
            self.closing[session_id] = None
        else:
            self.closing.pop(session_id, None)
        if session is None:
            self.sessions.pop(session_id, None)
            return
        self.sessions[session_id] = session
        if session.away_due_us >= 0:
            heapq.heappush(self.aways, (session.away_due_us, session_id))

    def put_request(self, request_id: str, request: ManagementRequest | None) -> None:
        """Remember a change of a limit, or forget it."""
        self._journal.append(partial(self._place_request, request_id, self.requests.get(request_id)))
        self._changed["request", request_id] = None
        self._place_request(request_id, request)

    def _place_request(self, request_id: str, request: ManagementRequest | None) -> None:
        if request is None:
            self.requests.pop(request_id, None)
            return
        self.requests[request_id] = request
        heapq.heappush(self.endings, (request.at_us, "request", request_id))


def _of(kind: type[R], record: Record | None) -> R | None:
    assert record is None or isinstance(record, kind), "a stored record is of the kind it is stored as"
    return record


def _load_order(stored: Stored) -> tuple[int, int]:
    """Limits before what belongs to them, leases by arrival, so that queues fill from the back."""
    if isinstance(stored.record, Lease):
        return (2, stored.record.arrival)
    return (0 if stored.kind == "limit" else 1, 0)


def _apply_order(stored: Stored) -> int:
    if stored.kind == "limit":
        return 0 if stored.keep else 2
    return 1
