"""`ebbgate lease`: who holds what, who waits, and taking a lease away."""

from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from ebbgate.cli.exits import UsageError
from ebbgate.cli.options import Output
from ebbgate.cli.printing import (
    SHORT,
    Column,
    escaped,
    print_fields,
    print_json,
    print_table,
    quoted,
    say,
    since,
    timestamp,
    until,
)
from ebbgate.cli.reading import existing_client
from ebbgate.wire import LeaseInfo
from ebbgate.wire.words import clean, duration

LeaseId = Annotated[
    str, Parameter(help=f"The id, or as much of its end or beginning as is unique (at least {SHORT // 2}).")
]


def ls(
    *,
    limit: Annotated[
        str | None, Parameter(name=("--limit", "-l"), help="Name or id: only leases of this limit.")
    ] = None,
    state: Annotated[
        Literal["held", "waiting", "ended"] | None,
        Parameter(help="Only these; ended: those that ended last. Else held and waiting ones."),
    ] = None,
    output: Output = "table",
) -> None:
    """List who holds slots, then who waits for some, the next one first."""
    leases = existing_client().list_leases(limit, state)
    if output == "json":
        print_json(leases)
        return
    if not leases:
        of = f" of {clean(limit)!r}" if limit else ""
        what = {
            "held": "nobody holds a slot",
            "waiting": "nobody waits for a slot",
            "ended": "no lease ended lately",
        }
        said = what[state] if state else "nobody holds or waits for a slot"
        say(f"{said}{of}; hold one: ebbgate run --limit {quoted(limit) if limit else 'NAME'} -- COMMAND")
        return
    columns = (
        Column("ID"),
        Column("STATE"),
        Column("LIMITS", fold=True),
        Column("HOLDER", fold=True),
        Column("SINCE", right=True),
        Column("EXPIRES" if state == "held" else "NEXT"),
    )
    print_table(columns, [_row(lease) for lease in leases])


def _row(lease: LeaseInfo) -> tuple[str, ...]:
    colour = {"held": "green", "waiting": "yellow", "ended": "dim"}[lease.state]
    then = {"held": lease.granted, "waiting": lease.asked, "ended": lease.ended}[lease.state]
    return (
        lease.id[-SHORT:],
        f"[{colour}]{lease.state}[/]",
        _limits(lease),
        _holder(lease),
        since(then),
        _next(lease),
    )


def _next(lease: LeaseInfo) -> str:
    if lease.state == "held":
        return f"expires in {until(lease.expires)}"
    if lease.state == "waiting":
        return f"no. {lease.position} in the queue"
    return lease.why


def _limits(lease: LeaseInfo) -> str:
    return ", ".join(
        escaped(entry.name) + (f" ×{entry.slots}" if entry.slots > 1 else "") for entry in lease.limits
    )


def _holder(lease: LeaseInfo) -> str:
    holder = lease.holder
    where = f"{escaped(holder.host)}:{holder.pid}" if holder.pid else "-"
    return f"{where} {_labels(lease)}".strip() + (" [red](away)[/]" if holder.away_since else "")


def _labels(lease: LeaseInfo) -> str:
    return " ".join(f"{escaped(name)}={escaped(value)}" for name, value in lease.holder.labels.items())


def _slots_at(lease: LeaseInfo, name: str) -> str:
    return str(sum(entry.slots for entry in lease.limits if entry.name == name))


def print_holders(leases: Sequence[LeaseInfo], limit: str) -> None:
    """Print who holds slots of a limit."""
    columns = (
        Column("LEASE"),
        Column("SLOTS", right=True),
        Column("HOLDER", fold=True),
        Column("SINCE", right=True),
        Column("EXPIRES IN", right=True),
    )
    rows = [
        (
            lease.id[-SHORT:],
            _slots_at(lease, limit),
            _holder(lease),
            since(lease.granted),
            until(lease.expires),
        )
        for lease in leases
    ]
    print_table(columns, rows, indent=2)


def print_waiters(leases: Sequence[LeaseInfo], limit: str) -> None:
    """Print who waits for slots of a limit, and why."""
    columns = (
        Column("LEASE"),
        Column("SLOTS", right=True),
        Column("HOLDER", fold=True),
        Column("SINCE", right=True),
        Column("WAITS FOR", fold=True),
    )
    rows = [
        (lease.id[-SHORT:], _slots_at(lease, limit), _holder(lease), since(lease.asked), _why(lease))
        for lease in leases
    ]
    print_table(columns, rows, indent=2)


def _why(lease: LeaseInfo) -> str:
    """Return what a waiter waits for, who holds that, and for how long it will."""
    said = [", ".join(escaped(name) for name in lease.lacks or ()) or "its turn"]
    blocked_by = lease.blocked_by or []
    if blocked_by:
        more = f" +{len(blocked_by) - 1}" if len(blocked_by) > 1 else ""
        said.append(f"held by {blocked_by[0][-SHORT:]}{more}")
    if lease.estimate_seconds is not None:
        said.append(f"about {duration(lease.estimate_seconds + 0.999)} more")
    return "; ".join(said)


def inspect(lease_id: LeaseId, /, *, output: Output = "table") -> None:
    """Show one lease: held, waiting or recently ended."""
    lease = _find(lease_id)
    if output == "json":
        print_json(lease)
        return
    waits = lease.state == "waiting"
    print_fields((
        ("id", lease.id),
        ("state", f"{lease.state} ({lease.why})" if lease.why else lease.state),
        ("limits", _limits(lease)),
        ("holder", f"{escaped(lease.holder.host)}, process {lease.holder.pid}" if lease.holder.pid else ""),
        ("labels", _labels(lease)),
        ("away since", timestamp(lease.holder.away_since)),
        ("priority", str(lease.priority or "")),
        ("asked", _ago(lease.asked)),
        ("granted", _ago(lease.granted) if lease.granted else ""),
        ("expires", f"{timestamp(lease.expires)} (in {until(lease.expires)})" if lease.expires else ""),
        ("ended", _ago(lease.ended) if lease.ended else ""),
        ("fencing token", str(lease.fencing_token or "")),
        ("position", str(lease.position or "")),
        ("waits for", _why(lease) if waits else ""),
        ("blocked by", ", ".join(lease.blocked_by or ())),
    ))  # fmt: skip


def _ago(then: object) -> str:
    from datetime import datetime

    assert isinstance(then, datetime), "an instant"
    return f"{timestamp(then)} ({since(then)} ago)"


def revoke(lease_id: LeaseId, /, *, output: Output = "table") -> None:
    """Take a lease away: its slots pass on, and its holder is told. A waiter leaves the queue."""
    client = existing_client()
    found = _find(lease_id)
    client.revoke_lease(found.id)
    if output == "json":
        print_json(client.read_lease(found.id))
        return
    if found.state == "ended":
        say(f"lease {found.id} had ended already ({found.why})")
    else:
        say(f"revoked lease {found.id} on {', '.join(clean(entry.name) for entry in found.limits)}")


def _find(lease_id: str) -> LeaseInfo:
    """Return the lease that an id means, or the end or the beginning of one."""
    client = existing_client()
    if not SHORT // 2 <= len(lease_id) < len("00000000-0000-0000-0000-000000000000"):
        return client.read_lease(lease_id)
    known = [*client.list_leases(), *client.list_leases(state="ended")]
    part = lease_id.lower()
    matches = {lease.id: lease for lease in known if lease.id.endswith(part) or lease.id.startswith(part)}
    if len(matches) > 1:
        raise UsageError(
            f"{len(matches)} leases begin or end with {lease_id!r}; give more of the id: ebbgate lease ls -o json"
        )
    return next(iter(matches.values()), None) or client.read_lease(lease_id)
