"""Acquire, renew, release, revoke: the commands about one lease."""

from collections.abc import Sequence

from ebbgate.core.commands import (
    Acquire,
    Ended,
    Held,
    Outcome,
    Refused,
    Release,
    ReleaseSlots,
    Renew,
    Revoke,
    Waiting,
)
from ebbgate.core.ledger import Ledger, ended, held, outcome_of
from ebbgate.core.limits import near_miss
from ebbgate.core.live import Live
from ebbgate.core.model import ATTENDED_US, RETAKE_US, RETAKEABLE, SECOND, Lease, ManagementRequest


def acquire(ledger: Ledger, command: Acquire) -> Outcome:
    """Grant at once, queue, or refuse; asked again, tell what became of it."""
    refused = out_of_session(ledger, command.session, command.epoch)
    if refused is not None:
        return refused
    known = ledger.leases.get(command.id)
    if known is not None:
        return _asked_again(ledger, known, command)
    refused = _bad_duration(ledger, command.duration_us)
    if refused is not None:
        return refused
    lives: list[tuple[Live, int]] = []
    unknown: list[str] = []
    for name, slots in command.slots:
        live = ledger.names.get(name)
        if live is None:
            unknown.append(name)
        else:
            lives.append((live, slots))
    if len(lives) > 1:
        lives.sort(key=lambda entry: entry[0].limit.id)
    suggestion = near_miss(unknown[0], ledger.names) or "" if unknown else ""
    lease = _lease(ledger, command, lives, unknown)
    if unknown and is_strict(ledger, strict=command.strict):
        refused = Refused("limit_not_found", {"names": unknown, "suggestion": suggestion})
    else:
        refused = impossible(lives, spend=command.spend)
    if refused is not None:
        return _refused(ledger, lease, refused)
    return _enter(ledger, lease, lives, suggestion, wait=command.wait)


def _lease(ledger: Ledger, command: Acquire, lives: list[tuple[Live, int]], unknown: list[str]) -> Lease:
    return Lease(
        command.id,
        command.session,
        "spend" if command.spend else "hold",
        command.slots,
        tuple([(live.limit.id, slots) for live, slots in lives]),
        tuple(unknown),
        command.strict,
        command.priority,
        command.duration_us,
        command.labels or {},
        command.wake,
        ledger.arrival + 1,
        ledger.now_us,
        attend_due_us=-1 if command.attended else ledger.now_us + ATTENDED_US,
    )


def _enter(
    ledger: Ledger, lease: Lease, lives: list[tuple[Live, int]], suggestion: str, *, wait: bool
) -> Held | Waiting | Refused:
    """Let a new lease in if there is room that no earlier waiter keeps; else queue it."""
    now_us = ledger.now_us
    key = (-lease.priority, lease.arrival)
    full = [live.limit.name for live, slots in lives if live.visible(key, now_us) < slots]
    if full and not wait:
        return _refused(ledger, lease, Refused("no_slot_free", {"names": full}))
    ledger.add(lease)
    if full:
        ledger.index(lease)
        return Waiting(lease.id, lease.arrival)
    lease.attend_due_us = -1
    ledger.grant(lease, now_us, waited=False)
    return held(lease, suggestion)


def _refused(ledger: Ledger, lease: Lease, refused: Refused) -> Refused:
    """Refuse a new lease; where its duplicate can arrive late, so that this would be refused as well."""
    if ledger.remembers(lease.session, "refused"):
        lease.slots = ()
        lease.state, lease.why, lease.ended_us = "ended", "refused", ledger.now_us
        lease.refusal = (refused.code, refused.details)
        ledger.add(lease)
        ledger.index(lease)
    return refused


def impossible(lives: Sequence[tuple[Live, int]], *, spend: bool) -> Refused | None:
    """Return why an acquisition could never get in, however long it waited; inactive limits never block."""
    for live, slots in lives:
        limit = live.limit
        if limit.active and 0 < limit.limit < slots:
            return Refused("never_fits", {"name": limit.name, "slots": slots, "limit": limit.limit})
    if spend:
        flat = [
            live.limit.name
            for live, _ in lives
            if live.limit.active and live.limit.slot_decay_per_second == 0
        ]
        if flat:
            return Refused("no_slot_decay", {"names": flat})
    return None


def is_strict(ledger: Ledger, *, strict: bool) -> bool:
    """Tell whether an acquisition that names an unknown limit is refused."""
    return strict or ledger.settings.unknown_limits == "refuse"


def _bad_duration(ledger: Ledger, duration_us: int) -> Refused | None:
    settings = ledger.settings
    if settings.lease_duration_min_us <= duration_us <= settings.lease_duration_max_us:
        return None
    least, most = settings.lease_duration_min_us / SECOND, settings.lease_duration_max_us / SECOND
    message = f"lease_duration must be from {least:g} to {most:g} seconds, got {duration_us / SECOND:g}"
    return Refused("invalid_request", {"message": message})


def out_of_session(ledger: Ledger, session_id: str, epoch: int) -> Refused | None:
    """Return why a command of this session and epoch is not listened to, or None if it is."""
    session = ledger.sessions.get(session_id)
    if session is not None and session.epoch == epoch and not session.is_closing:
        return None
    if session is None or epoch >= session.epoch:
        return Refused("unknown_session", {"session": session_id})
    return Refused("stale_session", {"session": session_id, "epoch": epoch, "newest": session.epoch})


def _asked_again(ledger: Ledger, lease: Lease, command: Acquire) -> Outcome:
    cancelled_before = not lease.asked and lease.why == "cancelled"
    same = lease.asked == command.slots and (lease.kind == "spend") == command.spend
    if lease.session != command.session or not (same or cancelled_before):
        return Refused("id_reused", {"lease_id": lease.id, "why": "is that of another acquisition"})
    if lease.state == "waiting":
        if lease.attend_due_us >= 0:
            ledger.attended(lease, ledger.now_us + ATTENDED_US)
        if command.wake != lease.wake:
            ledger.touch(lease)
            lease.wake = command.wake
        return Waiting(lease.id, lease.arrival)
    if lease.state == "held" and lease.attend_due_us >= 0:
        ledger.attended(lease, -1)
    return outcome_of(lease)


def renew(ledger: Ledger, command: Renew) -> Outcome:
    """Restart a lease's countdown, or take its slots again if it has just run out."""
    lease = ledger.leases.get(command.id)
    if lease is None:
        return Ended(command.id, "", -1, 0)
    refused = _not_its_owner(ledger, lease, command) or _bad_duration(ledger, command.duration_us)
    if refused is not None:
        return refused
    if lease.state == "waiting":
        return Waiting(lease.id, lease.arrival)
    if lease.state == "ended":
        if not (command.retake and _can_be_retaken(ledger, lease)):
            return ended(lease)
        ledger.touch(lease)
        lease.duration_us = command.duration_us
        lease.attend_due_us = -1
        ledger.grant(lease, ledger.now_us, waited=False)
        return held(lease)
    if lease.attend_due_us >= 0:
        ledger.attended(lease, -1)  # who renews it knows that it was granted
    ledger.renewed(lease, command.duration_us)
    return held(lease)


def _can_be_retaken(ledger: Ledger, lease: Lease) -> bool:
    """Tell whether an ended lease may hold again: just expired, nobody waiting, and room on all its limits."""
    if lease.why not in RETAKEABLE or lease.ended_us + RETAKE_US < ledger.now_us:
        return False
    lives = [(ledger.lives.get(limit_id), slots) for limit_id, slots in lease.slots]
    return all(
        live is not None
        and (not live.limit.active or (not live.waiting and live.room(ledger.now_us) >= slots))
        for live, slots in lives
    )


def release(ledger: Ledger, command: Release) -> Outcome:
    """Give back what a lease holds, or take it out of the queue; repeating it changes nothing."""
    lease = ledger.leases.get(command.id)
    if lease is None:
        return _release_unknown(ledger, command)
    refused = _not_its_owner(ledger, lease, command)
    if refused is not None:
        return refused
    if lease.state == "held":
        ledger.end(lease, "released")
    elif lease.state == "waiting":
        ledger.end(lease, "cancelled")
    elif lease.why in RETAKEABLE:
        ledger.touch(lease)
        lease.why = "released"  # its block is left: no late renewal may take its slots again
    return Ended(lease.id, lease.why, lease.ended_us, lease.arrival)


def _release_unknown(ledger: Ledger, command: Release) -> Outcome:
    refused = out_of_session(ledger, command.session, command.epoch)
    if refused is not None:
        return refused
    if ledger.remembers(command.session, "cancelled"):
        now_us = ledger.now_us
        lease = Lease(
            command.id, command.session, "hold", (), (), (), False, 0, 0, {}, "", ledger.arrival + 1, now_us
        )
        lease.state, lease.why, lease.ended_us = "ended", "cancelled", now_us
        ledger.add(lease)
        ledger.index(lease)
    return Ended(command.id, "cancelled", ledger.now_us, 0)


def release_slots(ledger: Ledger, command: ReleaseSlots) -> Outcome:
    """Release some slots of a held lease, once for each request id; all of them or none."""
    lease = ledger.leases.get(command.id)
    if lease is None:
        return Refused("lease_not_found", {"lease_id": command.id})
    refused = _not_its_owner(ledger, lease, command)
    if refused is not None:
        return refused
    if command.request_id not in ledger.requests:
        left = dict(lease.slots) if lease.state == "held" else {}
        for limit_id, slots in command.slots:
            left[limit_id] = left.get(limit_id, 0) - slots
            if left[limit_id] < 0:
                return Refused("lease_not_found", {"lease_id": command.id})
        request = ManagementRequest(command.request_id, ledger.now_us, lease.id)
        ledger.put_request(request.id, request)
        kept = tuple((limit_id, slots) for limit_id, slots in left.items() if slots)
        if kept:
            ledger.reshape(lease, kept, lease.unknown)
        else:
            ledger.end(lease, "released")
    return Waiting(lease.id, lease.arrival) if lease.state == "waiting" else outcome_of(lease)


def _not_its_owner(ledger: Ledger, lease: Lease, command: Renew | Release | ReleaseSlots) -> Refused | None:
    if lease.session != command.session:
        return Refused("not_authorized", {"message": f"lease {lease.id} belongs to another client"})
    return out_of_session(ledger, command.session, command.epoch)


def revoke(ledger: Ledger, command: Revoke) -> Outcome:
    """End a lease by an operator's word."""
    lease = ledger.leases.get(command.id)
    if lease is None:
        return Refused("lease_not_found", {"lease_id": command.id})
    if lease.state != "ended":
        ledger.lose(lease, "revoked")
    elif lease.why in RETAKEABLE:
        ledger.touch(lease)
        lease.why = "revoked"  # it ran out a moment before: no late renewal may take its slots again
    return Ended(lease.id, lease.why, lease.ended_us, lease.arrival)
