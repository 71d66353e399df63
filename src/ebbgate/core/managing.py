"""Create, change and delete limits: what that means for those who hold, wait and have spent."""

from dataclasses import replace
from uuid import UUID

from ebbgate.core import decay
from ebbgate.core.commands import CoolDown, DeleteLimit, Done, Outcome, PutLimit, Refused
from ebbgate.core.leasing import impossible, is_strict
from ebbgate.core.ledger import Ledger
from ebbgate.core.limits import check_description, check_name, check_slots, is_uuid, near_miss, normal
from ebbgate.core.live import Live
from ebbgate.core.lost_state import WHY
from ebbgate.core.model import Lease, Limit, ManagementRequest
from ebbgate.errors import InvalidLimit

WHO_MAX = 10
"""How many holders and waiters a refusal names."""


def find(ledger: Ledger, name_or_id: str) -> Live | None:
    """Return the limit of this name or id."""
    if is_uuid(name_or_id):
        return ledger.lives.get(str(UUID(name_or_id)))
    return ledger.names.get(normal(name_or_id))


def not_found(ledger: Ledger, name: str) -> Refused:
    """Return the refusal of a command about a limit that does not exist."""
    return Refused("limit_not_found", {"names": [name], "suggestion": near_miss(name, ledger.names) or ""})


def put_limit(ledger: Ledger, command: PutLimit) -> Outcome:
    """Create a limit or change one; the whole request is checked before anything is done."""
    made = ledger.requests.get(command.request_id)
    if made is not None:
        return Done(made.limit_id)
    try:
        live = find(ledger, command.target if command.mode == "update" else check_name(command.target))
        if command.mode == "create" and live is not None:
            return Refused("limit_exists", {"name": live.limit.name})
        if command.mode == "update" and live is None:
            return not_found(ledger, command.target)
        limit = _changed(ledger, live, command)
    except InvalidLimit as error:
        return Refused(error.code, {"message": str(error)})
    namesake = ledger.names.get(limit.name)
    if namesake is not None and namesake is not live:
        return Refused("limit_exists", {"name": limit.name})
    if command.request_id:
        request = ManagementRequest(command.request_id, ledger.now_us, limit.id)
        ledger.put_request(request.id, request)
    if live is None:
        ledger.put_limit(limit.id, limit)
        return Done(limit.id, created=True)
    if limit != replace(live.limit, updated_us=limit.updated_us):
        _change(ledger, live, limit)
    return Done(limit.id)


def _changed(ledger: Ledger, live: Live | None, command: PutLimit) -> Limit:
    """Return the limit as `command` wants it."""
    before = live.limit if live else None
    name = command.target if before is None else (command.name if command.name is not None else before.name)
    limit = command.limit
    if limit is None:
        if before is None:
            raise InvalidLimit("a new limit needs its number of slots: limit=N")
        limit = before.limit
    per_second = command.slot_decay_per_second
    if per_second is None:
        per_second = before.slot_decay_per_second if before else 0.0
    active = command.active if command.active is not None else (before.active if before else True)
    if not isinstance(active, bool):
        raise InvalidLimit(f"active must be true or false, got {active!r}")
    description = command.description
    if description is None:
        description = before.description if before else ""
    recovers_until_us = ledger.recovers_until_us if ledger.recovers_until_us > ledger.now_us else -1
    return Limit(
        before.id if before else command.new_id,
        check_name(name),
        check_slots(limit),
        decay.check_decay(per_second),
        active,
        check_description(description),
        before.created_us if before else ledger.now_us,
        max(ledger.now_us, before.updated_us + 1) if before else ledger.now_us,  # every edit shows
        before.cool_until_us if before else recovers_until_us,
        before.cool_why if before else (WHY if recovers_until_us >= 0 else ""),
    )


def _change(ledger: Ledger, live: Live, limit: Limit) -> None:
    """Put the changed limit in force: what is spent stays spent, and who can never get in is told."""
    per_second = limit.slot_decay_per_second
    if live.meter is not None and per_second not in {0.0, live.limit.slot_decay_per_second}:
        ledger.put_meter(limit.id, decay.at_new_rate(live.meter, per_second, now_us=ledger.now_us))
    ledger.put_limit(limit.id, limit)
    for lease in ledger.queue.waiters_of(live):
        needs = [(ledger.lives[limit_id], slots) for limit_id, slots in lease.slots]
        refused = impossible(needs, spend=lease.kind == "spend")
        if refused is not None:
            ledger.refuse(lease, refused)


def cool_down(ledger: Ledger, command: CoolDown) -> Outcome:
    """Close a limit for a while, or open it again; who holds slots keeps them, who waits its place."""
    live = find(ledger, command.target)
    if live is None:
        return not_found(ledger, command.target)
    limit = live.limit
    if command.duration_us:
        until_us = ledger.now_us + command.duration_us
        if until_us <= limit.cool_until_us:
            return Done(limit.id)  # somebody has asked for longer
        ledger.put_limit(limit.id, replace(limit, cool_until_us=until_us, cool_why=command.why))
    elif limit.cool_until_us > ledger.now_us:
        ledger.put_limit(limit.id, replace(limit, cool_until_us=-1, cool_why=""))
    return Done(limit.id)


def delete_limit(ledger: Ledger, command: DeleteLimit) -> Outcome:
    """Delete a limit nobody holds or waits for; forced, leases forget it and waiters go on without it."""
    live = find(ledger, command.target)
    if live is None:
        return not_found(ledger, command.target)
    using = _using(ledger, live)
    if using and not command.force:
        return _in_use(ledger, live, using)
    for lease in using:
        _forget(ledger, lease, live)
    ledger.put_limit(live.limit.id, None)
    return Done(live.limit.id)


def _using(ledger: Ledger, live: Live) -> list[Lease]:
    using = [*live.holders.values(), *ledger.queue.waiters_of(live)]
    return sorted(using, key=lambda lease: lease.arrival)


def _in_use(ledger: Ledger, live: Live, using: list[Lease]) -> Refused:
    who = []
    for lease in using[:WHO_MAX]:
        session = ledger.sessions.get(lease.session)
        where = "an unknown client" if session is None else f"client {session.id}"
        if session is not None and session.host:
            where = f"{session.host} process {session.pid}"
        who.append(f"{where} {lease.state} {lease.id}")
    details = {"name": live.limit.name, "holders": len(live.holders), "waiters": live.waiting, "who": who}
    return Refused("limit_in_use", details)


def _forget(ledger: Ledger, lease: Lease, live: Live) -> None:
    """Let one lease go on without a limit that is deleted."""
    if lease.state == "waiting" and is_strict(ledger, strict=lease.strict):
        ledger.refuse(lease, Refused("limit_not_found", {"names": [live.limit.name], "suggestion": ""}))
        return
    slots = tuple(entry for entry in lease.slots if entry[0] != live.limit.id)
    unknown = (*lease.unknown, live.limit.name) if lease.state == "waiting" else lease.unknown
    ledger.reshape(lease, slots, unknown)
