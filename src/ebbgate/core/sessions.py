"""Client processes come and go, and time passes: what follows for their leases."""

import heapq
from dataclasses import replace

from ebbgate.core.commands import Away, Done, Hello, Outcome, Refused, Tick
from ebbgate.core.ledger import Ledger
from ebbgate.core.model import Session


def hello(ledger: Ledger, command: Hello) -> Outcome:
    """Take in a client process, or a new connection of one: it is here, under its new epoch."""
    known = ledger.sessions.get(command.session)
    if known is not None and command.key != known.key:
        return Refused("not_authorized", {"message": f"session {known.id} belongs to another API key"})
    if known is not None and command.epoch < known.epoch:
        return Refused("stale_session", {"session": known.id, "epoch": command.epoch, "newest": known.epoch})
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
    away_us = session.away_us if session.away_us >= 0 else ledger.now_us
    gone = replace(session, away_us=away_us, away_due_us=due_us, away_certain=is_certain)
    ledger.put_session(gone.id, gone)
    if command.grace_us <= 0:
        _leave(ledger, gone)
    return Done(command.session)


def _leave(ledger: Ledger, session: Session) -> None:
    """Carry out what follows from a session that stayed away: waiters leave; holders only if it is certain."""
    leases = [ledger.leases[lease_id] for lease_id in ledger.by_session.get(session.id, ())]
    for lease in sorted(leases, key=lambda lease: lease.arrival):
        if lease.state == "waiting":
            ledger.lose(lease, "cancelled")
        elif session.away_certain:
            ledger.lose(lease, "lost_holder")
    if session.id in ledger.by_session:
        ledger.put_session(
            session.id, replace(session, away_due_us=-1)
        )  # what it holds waits for its countdown
    else:
        ledger.put_session(session.id, None)


def tick(ledger: Ledger, command: Tick) -> Outcome:
    """Carry out what time alone has brought about; nothing while those concerned could not be heard."""
    if not command.expire:
        return Done("")
    now_us = min(ledger.now_us, command.until_us)
    while ledger.aways and ledger.aways[0][0] <= now_us:
        due_us, session_id = heapq.heappop(ledger.aways)
        session = ledger.sessions.get(session_id)
        if session is not None and session.away_due_us == due_us:
            _leave(ledger, session)
    while ledger.attends and ledger.attends[0][0] <= now_us:
        due_us, lease_id = heapq.heappop(ledger.attends)
        lease = ledger.leases.get(lease_id)
        if lease is not None and lease.attend_due_us == due_us and lease.state != "ended":
            ledger.lose(lease, "cancelled")
    while ledger.expiries and ledger.expiries[0][0] <= now_us:
        expires_us, lease_id = heapq.heappop(ledger.expiries)
        lease = ledger.leases.get(lease_id)
        if lease is not None and lease.state == "held" and lease.expires_us == expires_us:
            ledger.lose(lease, "expired")
    return Done("")
