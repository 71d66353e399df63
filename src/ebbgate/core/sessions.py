"""Client processes come and go, and time passes: what follows for their leases."""

import heapq
from collections.abc import Collection
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import Final

from ebbgate.core.commands import Away, Done, Hello, Outcome, Refused, Tick
from ebbgate.core.ledger import Ledger
from ebbgate.core.lost_state import heard_of
from ebbgate.core.model import Session, Why

SORTED_MAX: Final = 2_000
"""Of how many leases the ones that arrived first are looked for."""

POPS_FACTOR: Final = 16
"""How many timers one decision looks at for each lease that it may end: most are of leases that ended before."""


def hello(ledger: Ledger, command: Hello) -> Outcome:
    """Take in a client process, or a new connection of one: it is here, under its new epoch."""
    known = ledger.sessions.get(command.session)
    if known is not None and command.key != known.key:
        return Refused("not_authorized", {"message": f"session {known.id} belongs to another API key"})
    if known is not None and command.epoch < known.epoch:
        return Refused("stale_session", {"session": known.id, "epoch": command.epoch, "newest": known.epoch})
    if command.token > ledger.token:
        heard_of(ledger, command.token)
    labels = command.labels or {}
    session = Session(
        command.session, command.epoch, command.host, command.pid, labels, command.presence, command.wake,
        command.remembers, command.key,
    )  # fmt: skip
    if session != known:
        ledger.put_session(session.id, session)
    return Done(session.id, created=known is None)


def away(ledger: Ledger, command: Away) -> Outcome:
    """Note that a client process is gone; what follows comes after the grace, at once without one."""
    session = ledger.sessions.get(command.session)
    if session is None or command.epoch < session.epoch:
        return Done(command.session)  # it has come back since, or never was
    due_us = ledger.now_us + command.grace_us
    # It may have another connection, to the server that it greeted last, which perhaps can say nothing now.
    is_certain = command.certain and command.seen_from in {"", session.wake}
    if session.away_due_us >= 0:
        certain = (session.away_certain, is_certain)
        if certain == (True, False) or (certain != (False, True) and session.away_due_us <= due_us):
            return Done(command.session)  # what is known already follows as soon, or is more certain
    away_us = session.away_us if session.away_us >= 0 and command.grace_us > 0 else ledger.now_us
    gone = replace(session, away_us=away_us, away_due_us=due_us, away_certain=is_certain)
    ledger.put_session(gone.id, gone)
    if command.grace_us <= 0:
        _leave(ledger, gone)
    return Done(command.session)


def _leave(ledger: Ledger, session: Session) -> bool:
    """Carry out what follows from a session that stayed away: waiters leave; holders only if it is certain.

    Returns:
        Whether all of it is done. One decision ends at most `ends_max` leases, waiters first, so that nothing is
        granted to a session that is being ended.
    """
    waiting, holding = _leases_of(ledger, session)
    if session.away_certain and len(waiting) + len(holding) <= ledger.ends_left:
        both = [ledger.leases[lease_id] for lease_id in (*waiting, *holding)]
        ledger.ends_left -= len(both)
        for lease in sorted(both, key=attrgetter("arrival")):
            ledger.lose(lease, "cancelled" if lease.state == "waiting" else "lost_holder")
        ledger.put_session(session.id, None)
        return True
    _end_some(ledger, waiting, "cancelled")
    if session.id in ledger.waiting_by_session:
        return False
    if session.away_certain:
        _end_some(ledger, holding, "lost_holder")
        if session.id in ledger.by_session:
            return False
    else:  # what was granted while its waiters were being cancelled, one slice after the other
        # All are looked at: an undone decision, or loading, leaves them in another order than they were granted.
        late = [id_ for id_ in holding if ledger.leases[id_].at_us > session.away_due_us]
        _end_some(ledger, late, "cancelled")
    if session.id not in ledger.by_session:
        ledger.put_session(session.id, None)
    else:
        ledger.put_session(
            session.id, replace(session, away_due_us=-1)
        )  # its leases wait for their countdown
    return True


def _leases_of(ledger: Ledger, session: Session) -> tuple[Collection[str], dict[str, None]]:
    """Return the waiting and the held leases of a session."""
    return ledger.waiting_by_session.get(session.id, {}), ledger.by_session.get(session.id, {})


def _end_some(ledger: Ledger, lease_ids: Collection[str], why: Why) -> None:
    """End as many of these leases as this decision may, in order of arrival unless there are very many."""
    many = len(lease_ids) > SORTED_MAX
    some = [ledger.leases[id_] for id_ in (islice(lease_ids, ledger.ends_left) if many else lease_ids)]
    some = sorted(some, key=attrgetter("arrival"))[: ledger.ends_left]
    ledger.ends_left -= len(some)
    for lease in some:
        ledger.lose(lease, why)


def tick(ledger: Ledger, command: Tick) -> Outcome:
    """Carry out what time alone has brought about; nothing while those concerned could not be heard.

    What is left when `ends_max` leases have ended stays due.
    """
    for session_id in heapq.nsmallest(min(ledger.ends_left, len(ledger.closing)), ledger.closing):
        if not _leave(ledger, ledger.sessions[session_id]):
            return Done("")
    if not command.expire:
        return Done("")
    now_us = min(ledger.now_us, command.until_us)
    aways, pops_left = ledger.aways, POPS_FACTOR * ledger.ends_left
    while aways and aways[0][0] <= now_us and ledger.ends_left > 0:
        due_us, session_id = heapq.heappop(aways)
        session = ledger.sessions.get(session_id)
        if session is not None and session.away_due_us == due_us:
            ledger.ends_left -= 1
            if not _leave(ledger, session):
                heapq.heappush(aways, (due_us, session_id))
                return Done("")
    while ledger.attends and ledger.attends[0][0] <= now_us and ledger.ends_left > 0 and pops_left > 0:
        pops_left -= 1
        due_us, lease_id = heapq.heappop(ledger.attends)
        lease = ledger.leases.get(lease_id)
        if lease is not None and lease.attend_due_us == due_us and lease.state != "ended":
            ledger.ends_left -= 1
            ledger.lose(lease, "cancelled")
    while ledger.expiries and ledger.expiries[0][0] <= now_us and ledger.ends_left > 0 and pops_left > 0:
        pops_left -= 1
        expires_us, lease_id = heapq.heappop(ledger.expiries)
        lease = ledger.leases.get(lease_id)
        if lease is not None and lease.state == "held" and lease.expires_us == expires_us:
            ledger.ends_left -= 1
            ledger.lose(lease, "expired")
    return Done("")
