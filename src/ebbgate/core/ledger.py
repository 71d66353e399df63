"""What can become of a lease: it is granted, ends, or changes; each keeps records and indexes in step."""

import heapq
from collections.abc import Iterable
from typing import Final

from ebbgate.core import decay
from ebbgate.core.commands import Ended, Held, Refused, Told
from ebbgate.core.live import Live
from ebbgate.core.model import FETCH_US, Head, Lease, Settings, Slots, Stored, Why
from ebbgate.core.records import Records

NO_BOUND: Final = 1 << 62


class Ledger(Records):
    """The records, and the few ways in which a lease may change."""

    def __init__(self, settings: Settings) -> None:
        """Hold nothing."""
        self.now_us = 0
        self.ends_max = NO_BOUND
        """How many leases one decision ends because of time or the end of a session; the next ones end the others."""
        self.recovers = False  # this decision found that the store has lost committed state
        self.recoveries = 0  # how many committed decisions did
        self.recovers_until_us = -1  # until then a new limit grants nothing either
        super().__init__(settings)

    def clear(self) -> None:
        """Forget everything, also what a decision that was interrupted had to tell."""
        super().clear()
        self.told: list[Told] = []
        self.promoted: dict[str, Lease] = {}
        self.ends_left = self.ends_max  # in this decision
        self._granting: list[Live] = []  # whose grants this decision has counted

    def confirm(self, head: Head) -> None:
        """Keep the last decision; see `Records`."""
        self._granting.clear()
        if self.recovers:
            self.recovers = False
            self.recoveries += 1
        super().confirm(head)

    def rollback(self) -> None:
        """Undo the last decision; see `Records`."""
        for live in self._granting:
            live.granted -= 1
        self.recovers = False
        super().rollback()

    def apply(self, head: Head, records: Iterable[Stored]) -> None:
        """Take in what other processes committed, see `Records`, and count whom they let in."""
        records = list(records)
        granted: dict[tuple[str, int], Slots] = {}
        for stored in records:
            lease, known = stored.record, self.leases.get(stored.id)
            if (
                isinstance(lease, Lease)
                and lease.at_us >= 0
                and (known is None or known.at_us != lease.at_us)
            ):
                granted[lease.id, lease.at_us] = lease.slots
        super().apply(head, records)
        for slots in granted.values():
            for limit_id, _ in slots:
                live = self.lives.get(limit_id)
                if live is not None:  # it may have been deleted
                    live.granted += 1

    def admit(self, lease: Lease, now_us: int) -> None:
        """Let a waiter in, and have its client told."""
        self.touch(lease)
        self.unindex(lease)
        self._step_forward_after(lease)
        if lease.attend_due_us >= 0:
            lease.attend_due_us = now_us + FETCH_US
        self.grant(lease, now_us, waited=True)
        self.told.append(Told(lease.id, lease.session, lease.wake, held(lease)))

    def _step_forward_after(self, lease: Lease) -> None:
        """Note who stands first in its line now that the one before has left."""
        head = self.queue.inherit(lease)
        if head is not None and head.arrival > lease.arrival:
            self.promoted[head.id] = head

    def grant(self, lease: Lease, now_us: int, *, waited: bool) -> None:
        """Give a lease that is in no index its slots, which must be free."""
        lease.token = self.token = max(self.token + 1, now_us)
        lease.at_us = now_us
        lease.slots = slots = self.active(lease.slots)
        key = (-lease.priority, lease.arrival)
        lives = self.lives
        for limit_id, wanted in slots:
            live = lives[limit_id]
            assert live.room(now_us) >= wanted, "no grant without room"
            live.granted += 1
            self._granting.append(live)
            if live.unmarked:
                self.queue.granted(key, live, now_us)
            if waited:
                if live.handed_us >= 0:
                    live.handed += wanted
                else:
                    live.handed_us = now_us
            if lease.kind == "spend":
                self._spend(live, wanted, lease.since_us if waited else None)
        if lease.kind == "spend":
            lease.state, lease.why, lease.ended_us = "ended", "spent", now_us
            self._retire(lease)
        else:
            lease.state, lease.why, lease.ended_us = "held", "", -1
            lease.expires_us = now_us + lease.duration_us
            self.index(lease)

    def _spend(self, live: Live, slots: int, waiting_since_us: int | None) -> None:
        limit = live.limit
        meter = live.meter or decay.unspent(limit.id, limit.slot_decay_per_second)
        self.put_meter(
            limit.id, decay.spend(meter, slots, now_us=self.now_us, waiting_since_us=waiting_since_us)
        )

    def active(self, slots: Slots) -> Slots:
        """Return those of `slots` whose limits are enforced now."""
        for limit_id, _ in slots:
            if not self.lives[limit_id].limit.active:
                return tuple(entry for entry in slots if self.lives[entry[0]].limit.active)
        return slots

    def end(self, lease: Lease, why: Why) -> None:
        """End a held or waiting lease; what it held or waited for is free for the next."""
        waited = lease.state == "waiting"
        self.touch(lease)
        self.unindex(lease)
        if waited:
            self._step_forward_after(lease)
        lease.state, lease.why, lease.ended_us = "ended", why, self.now_us
        self._retire(lease)
        if not self.has_leases(lease.session):
            session = self.sessions.get(lease.session)
            if session is not None and session.away_us >= 0 and session.away_due_us < 0:
                self.put_session(session.id, None)  # the last thing that a gone process had

    def _retire(self, lease: Lease) -> None:
        """Remember an ended lease for as long as it can matter."""
        if lease.why in {"expired", "lost_holder", "revoked"} or self.remembers(lease.session, lease.why):
            self.index(lease)
        else:
            del self.leases[lease.id]

    def remembers(self, session_id: str, why: Why) -> bool:
        """Tell whether a duplicate of what ended so can arrive late, or be asked for again."""
        session = self.sessions.get(session_id)
        if session is None or session.remembers == "everything":
            return True
        return why == "spent" and session.remembers == "spends"

    def lose(self, lease: Lease, why: Why) -> None:
        """End a lease by somebody else's doing, and have its client told."""
        wake = lease.wake
        if lease.state == "held":
            session = self.sessions.get(lease.session)
            wake = session.wake if session else ""
        self.end(lease, why)
        self.told.append(Told(lease.id, lease.session, wake, ended(lease)))

    def refuse(self, lease: Lease, refused: Refused) -> None:
        """End a waiter that can never get in, and have its client told why."""
        self.touch(lease)
        lease.refusal = (refused.code, refused.details)
        self.end(lease, "refused")
        self.told.append(Told(lease.id, lease.session, lease.wake, refused))

    def renewed(self, lease: Lease, duration_us: int) -> None:
        """Restart the countdown of a held lease."""
        self.touch(lease)
        watched = [live for limit_id, _ in lease.slots if (live := self.lives[limit_id]).endings is not None]
        for live in watched:
            live.ends_no_more(lease)
        lease.duration_us = duration_us
        lease.expires_us = self.now_us + duration_us
        for live in watched:
            live.ends_at(lease)
        self.expect(lease)

    def attended(self, lease: Lease, due_us: int) -> None:
        """Set until when the client of a lease must be heard of again; -1: no need any more."""
        self.touch(lease)
        lease.attend_due_us = due_us
        if due_us >= 0:
            heapq.heappush(self.attends, (due_us, lease.id))

    def reshape(self, lease: Lease, slots: Slots, unknown: tuple[str, ...]) -> None:
        """Change the slots of a held or waiting lease, after a limit of it was deleted."""
        self.touch(lease)
        self.unindex(lease)
        lease.slots, lease.unknown = slots, unknown
        if lease.keeps:
            wanted = dict(slots)
            lease.keeps = tuple(limit_id for limit_id in lease.keeps if limit_id in wanted)
        self.index(lease)


def held(lease: Lease, suggestion: str = "") -> Held:
    """Return the outcome of a lease that got in."""
    return Held(
        lease.id,
        lease.token,
        lease.at_us,
        lease.expires_us,
        lease.arrival,
        bool(lease.slots),
        lease.unknown,
        suggestion,
    )


def ended(lease: Lease) -> Ended | Refused:
    """Return the outcome of a lease that is over."""
    if lease.refusal is not None:
        return Refused(*lease.refusal)
    return Ended(lease.id, lease.why, lease.ended_us, lease.arrival)


def outcome_of(lease: Lease) -> Held | Ended | Refused:
    """Return what became of a lease that does not wait any more."""
    return held(lease) if lease.state == "held" or lease.why == "spent" else ended(lease)
