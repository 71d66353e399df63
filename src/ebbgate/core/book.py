"""The one place that decides: `Book.decide(commands, now)`.

A decision can be undone until it is committed (`rollback`), and what other processes committed is taken in
with `apply`. The book reads no clock: the instant is an argument, and never goes back behind the last one.

Known limit: one book decides for all limits of a namespace, one command after the other.
"""

import heapq
from collections.abc import Sequence
from typing import Final, NamedTuple

from ebbgate.core import leasing, lost_state, managing, sessions
from ebbgate.core.commands import (
    Acquire,
    Away,
    Command,
    CoolDown,
    DeleteLimit,
    Hello,
    Outcome,
    PutLimit,
    Release,
    ReleaseSlots,
    Renew,
    Revoke,
    Tick,
    Told,
)
from ebbgate.core.ledger import Ledger
from ebbgate.core.model import REMEMBERED_US, Head, Lease, Settings, Stored

FORGOTTEN_MAX: Final = 64
"""How many ended leases one decision forgets at most, so that none takes long; or as many as it has commands, so
that they do not pile up under load."""

POPS_MAX: Final = 1_000
"""How many timers of leases that have ended one look at what is due drops at most; then it may say an earlier time."""


class Decision(NamedTuple):
    """What one call of `Book.decide` did."""

    outcomes: list[Outcome]  # one a command, in order
    told: list[Told]  # what happened to leases that the command of somebody else, or time, was about
    changes: list[Stored]  # to be committed; none: the decision changed nothing
    head: Head  # as it stands after the changes
    promoted: list[
        Lease
    ]  # waiters that stand first in their line now: worth a hint, to be ready for their turn


class Due(NamedTuple):
    """When time alone changes something (-1: never), and whose process should see to it ("": any)."""

    at_us: int
    session: str = ""


class Book(Ledger):
    """The state of one namespace, and its rules."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Make an empty book."""
        super().__init__(settings or Settings())

    def decide(self, commands: Sequence[Command], now_us: int) -> Decision:
        """Carry out `commands` in order.

        Args:
            commands: what is asked.
            now_us: the store's time; an earlier one than was seen before counts as that.

        Returns:
            The outcomes and the changes to commit. Then call `confirm` with the decision's head, or `rollback`.
        """
        assert not self.undecided(), "the last decision was neither confirmed nor rolled back"
        self.now_us = self.seen_us = now_us = max(now_us, self.head.instant_us, self.seen_us)
        self.ends_left = self.ends_max
        if self.token < self.known_token:
            lost_state.recover(self)
        queue, admit = self.queue, self.admit
        queue.advance(now_us)
        if queue.unsettled():
            queue.settle(now_us, admit)
        outcomes: list[Outcome] = []
        for command in commands:
            outcomes.append(self._carry_out(command))
            if queue.unsettled():
                queue.settle(now_us, admit)
        if self.endings and self.endings[0][0] + REMEMBERED_US <= now_us:
            self._forget(max(len(commands), FORGOTTEN_MAX))
        told, self.told = self.told, []
        promoted: list[Lease] = []
        if self.promoted:
            promoted = [lease for lease in self.promoted.values() if lease.state == "waiting"]
            self.promoted.clear()
        return Decision(outcomes, told, self.collect(), Head(now_us, self.token, self.arrival), promoted)

    def _carry_out(self, command: Command) -> Outcome:  # noqa: PLR0911 - one for each command
        match command:
            case Acquire():
                return leasing.acquire(self, command)
            case Release():
                return leasing.release(self, command)
            case Renew():
                return leasing.renew(self, command)
            case Tick():
                return sessions.tick(self, command)
            case Hello():
                return sessions.hello(self, command)
            case Away():
                return sessions.away(self, command)
            case Revoke():
                return leasing.revoke(self, command)
            case ReleaseSlots():
                return leasing.release_slots(self, command)
            case PutLimit():
                return managing.put_limit(self, command)
            case DeleteLimit():
                return managing.delete_limit(self, command)
            case CoolDown():  # pragma: no branch - there are no others
                return managing.cool_down(self, command)

    def rollback(self) -> None:
        """Undo the last decision: it was not committed."""
        self.told = []
        self.promoted.clear()
        super().rollback()

    def _forget(self, at_most: int) -> None:
        """Drop what ended so long ago that no duplicate can arrive any more."""
        forgotten = 0
        endings = self.endings
        while endings and endings[0][0] + REMEMBERED_US <= self.now_us and forgotten < at_most:
            at_us, kind, record_id = heapq.heappop(endings)
            if kind == "request":
                request = self.requests.get(record_id)
                if request is not None and request.at_us == at_us:
                    self.put_request(record_id, None)
                    forgotten += 1
                continue
            lease = self.leases.get(record_id)
            if lease is not None and lease.state == "ended" and lease.ended_us == at_us:
                self.forget_lease(record_id)
                forgotten += 1

    def is_tick_due(self, now_us: int) -> bool:
        """Tell whether a `Tick` may have something to do now."""
        for heap in (self.expiries, self.attends, self.aways):
            if heap and heap[0][0] <= now_us:
                return True
        return bool(self.closing)

    def next_due(self, now_us: int, *, expire: bool = True) -> Due:
        """Return when a decision has something to do though nobody asks anything.

        With `expire=False`, within the recovery grace, nothing counts that a `Tick` would not do then. Somebody
        who could be let in right now makes that instant `now_us`: another process's commit has been taken in,
        and its decider did not see to it.
        """
        try:
            return self._next_due(now_us, expire=expire)
        except BaseException:  # a signal handler raised in between, as at Ctrl-C: nobody knows who was parked
            self._reindex()
            raise

    def _next_due(self, now_us: int, *, expire: bool) -> Due:
        queue = self.queue
        self.seen_us = seen_us = max(now_us, self.seen_us)  # what comes due is told once
        queue.advance(seen_us)
        if queue.unsettled():
            outside = queue.settle(seen_us, None)
            if outside:
                return Due(now_us, outside[0].session)
        if self.closing:
            return Due(now_us)
        at_us, waiter = queue.next_due()
        due = Due(at_us, waiter.session if waiter else "")
        for heap, is_due in (
            (self.expiries, self._expires),
            (self.attends, self._is_attended),
            (self.aways, self._is_away),
        ):
            pops_left = POPS_MAX
            while heap and pops_left and not is_due(*heap[0]):
                heapq.heappop(heap)
                pops_left -= 1
            if heap and expire and (due.at_us < 0 or heap[0][0] < due.at_us):
                due = Due(heap[0][0])
        return due

    def _reindex(self) -> None:
        """Make all indexes anew out of the records, of which none is in the middle of a change."""
        records = [Stored("limit", limit.id, limit) for limit in self.limits.values()]
        records += [Stored("meter", live.meter.id, live.meter) for live in self.lives.values() if live.meter]
        records += [Stored("session", session.id, session) for session in self.sessions.values()]
        records += [Stored("request", request.id, request) for request in self.requests.values()]
        records += [Stored("lease", lease.id, lease) for lease in self.leases.values()]
        self.load(self.head, records)

    def _expires(self, at_us: int, lease_id: str) -> bool:
        lease = self.leases.get(lease_id)
        return lease is not None and lease.state == "held" and lease.expires_us == at_us

    def _is_attended(self, at_us: int, lease_id: str) -> bool:
        lease = self.leases.get(lease_id)
        return lease is not None and lease.state != "ended" and lease.attend_due_us == at_us

    def _is_away(self, at_us: int, session_id: str) -> bool:
        session = self.sessions.get(session_id)
        return session is not None and session.away_due_us == at_us
