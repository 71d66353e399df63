"""`ebbgate limit`, also called `gcl`: create, list, inspect, change and delete limits."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ebbgate.cli.exits import UsageError
from ebbgate.cli.options import Output, OutputFormat, Whole
from ebbgate.cli.printing import (
    Column,
    confirmed,
    escaped,
    fill,
    json_of,
    print_fields,
    print_heading,
    print_json,
    print_table,
    quoted,
    say,
    since,
    slots_of,
    timestamp,
)
from ebbgate.cli.reading import existing_client
from ebbgate.client.default import default_client
from ebbgate.core.decay import parse_rate
from ebbgate.errors import EbbgateError
from ebbgate.wire import LimitInfo
from ebbgate.wire.words import clean, duration, rate

Name = Annotated[str, Parameter(help="Name or id of the limit.", allow_leading_hyphen=False)]
Slots = Annotated[
    int, Parameter(name=("--limit", "-l"), help="Slots, 0 to 1000000000; 0 blocks every acquisition."), Whole
]
Decay = Annotated[
    float | None,
    Parameter(
        name="--slot-decay-per-second", help="Spent slots that come back each second, for a rate limit."
    ),
]
Rate = Annotated[
    str | None, Parameter(name="--rate", help="The same as people write it: 5/s, 100/min, 60/hour, 1000/day.")
]
ActiveSlots = Annotated[int | None, Parameter(name="--active-slots", show=False), Whole]


def create(
    name: Annotated[str, Parameter(help="1 to 200 characters, none of them / \\ % & > < ? #.")],
    /,
    *,
    limit: Slots,
    slot_decay_per_second: Decay = None,
    rate: Rate = None,
    disable: Annotated[bool, Parameter(help="Create it inactive: it does not block yet.")] = False,
    description: Annotated[str, Parameter(help="For people.")] = "",
    active_slots: ActiveSlots = None,
    output: Output = "table",
) -> None:
    """Create a limit."""
    _refuse_active_slots(active_slots or None)
    decay = _decay(slot_decay_per_second, rate)
    made = default_client().create_limit(
        name, limit, slot_decay_per_second=decay or 0.0, active=not disable, description=description
    )
    if output == "json":
        print_json(made)
        return
    say(f"created limit {clean(made.name)!r}: {_terms(made)}")
    say(_next_step(made))


def _next_step(limit: LimitInfo) -> str:
    name = quoted(limit.name)
    if not limit.active:
        return f"turn it on: ebbgate limit enable {name}"
    if not limit.limit:
        return f"open it: ebbgate limit update {name} --limit N"
    flag = "--rate-limit" if limit.slot_decay_per_second else "--limit"
    python = (
        f"rate_limit({limit.name!r})" if limit.slot_decay_per_second else f"with concurrency({limit.name!r}):"
    )
    return f"use it: ebbgate run {flag} {name} -- COMMAND   (in Python: {python})"


def ls(
    *,
    prefix: Annotated[str, Parameter(help="Only limits whose name begins so.")] = "",
    output: Output = "table",
) -> None:
    """List the limits, by name."""
    limits = existing_client().list_limits(prefix)
    if output == "json":
        print_json(limits)
        return
    if not limits:
        say(
            f"no limit's name begins with {prefix!r}; list all: ebbgate limit ls"
            if prefix
            else "no limits yet; create one: ebbgate limit create NAME --limit 5"
        )
        return
    columns = (
        Column("NAME", fold=True),
        Column("LIMIT", right=True),
        Column("ACTIVE SLOTS"),
        Column("WAITING", right=True),
        Column("DECAY", right=True),
        Column("ENABLED"),
    )
    print_table(columns, [_row(limit) for limit in limits])


def _row(limit: LimitInfo) -> tuple[str, ...]:
    return (
        escaped(limit.name),
        str(limit.limit),
        fill(limit.active_slots, limit.limit),
        str(limit.waiting or "-"),
        rate(limit.slot_decay_per_second, limit.limit),
        "[dim]no[/]" if not limit.active else "[yellow]cools down[/]" if limit.cool_down_until else "yes",
    )


def inspect(
    name: Name,
    /,
    *,
    file: Annotated[
        Path | None, Parameter(name=("--file", "-f"), help="With -o json: write to this file.")
    ] = None,
    output: Output = "table",
) -> None:
    """Show a limit, who holds its slots, and who waits for them and why."""
    if file is not None and output != "json":
        raise UsageError("--file needs -o json")
    client = existing_client()
    limit = client.read_limit(name)
    if output == "json":
        _print_or_write(limit, file)
        return
    from ebbgate.cli.leases import print_holders, print_waiters

    leases = client.list_leases(limit.id)
    spent = f"{limit.spent_slots:.3f}".rstrip("0").rstrip(".")
    print_fields((
        ("name", escaped(limit.name)),
        ("id", limit.id),
        ("description", escaped(limit.description)),
        ("enabled", "yes" if limit.active else "no: it does not block"),
        ("limit", slots_of(limit.limit) + ("" if limit.limit else ": blocks every acquisition")),
        ("active slots", f"{fill(limit.active_slots, limit.limit)} ({limit.held_slots} held, {spent} spent)"),
        ("waiting", str(limit.waiting)),
        *([("cool-down", escaped(_cooling(limit)))] if limit.cool_down_until else []),
        ("decay", _decay_text(limit)),
        ("created", f"{timestamp(limit.created)} ({since(limit.created)} ago)"),
        ("updated", f"{timestamp(limit.updated)} ({since(limit.updated)} ago)"),
    ))  # fmt: skip
    holders = [lease for lease in leases if lease.state == "held"]
    waiters = [lease for lease in leases if lease.state == "waiting"]
    if holders:
        print_heading("holders")
        print_holders(holders, limit.name)
    if waiters:
        print_heading("waiters, the next one first")
        print_waiters(waiters, limit.name)


def _decay_text(limit: LimitInfo) -> str:
    decay = limit.slot_decay_per_second
    if not decay:
        return "none: only a release frees a slot"
    return (
        f"{rate(decay, limit.limit)} (slot_decay_per_second {decay:.6g}; one slot every {_every(1 / decay)})"
    )


def _every(seconds: float) -> str:
    return duration(seconds) if seconds >= 60 else f"{seconds:.3g} s"


def _print_or_write(limit: LimitInfo, file: Path | None) -> None:
    if file is None:
        print_json(limit)
        return
    try:
        file.write_text(json_of(limit, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise EbbgateError(f"cannot write {str(file)!r}: {error.strerror}") from error
    say(f"wrote {file}")


def update(
    name: Name,
    /,
    *,
    limit: Annotated[
        int | None, Parameter(name=("--limit", "-l"), help="Slots; lowering it evicts nobody."), Whole
    ] = None,
    slot_decay_per_second: Decay = None,
    rate: Rate = None,
    new_name: Annotated[
        str | None, Parameter(name="--name", help="Its new name; holders and waiters stay.")
    ] = None,
    description: Annotated[str | None, Parameter(help="For people.")] = None,
    enable: Annotated[bool, Parameter(help="Enforce it.")] = False,
    disable: Annotated[bool, Parameter(help="Let everybody through.")] = False,
    active_slots: ActiveSlots = None,
    output: Output = "table",
) -> None:
    """Change what is given; holders, waiters and spent slots stay."""
    _refuse_active_slots(active_slots)
    if enable and disable:
        raise UsageError("--enable and --disable exclude each other")
    decay = _decay(slot_decay_per_second, rate)
    active = True if enable else False if disable else None
    if all(value is None for value in (limit, decay, new_name, description, active)):
        raise UsageError(
            "nothing to change: give --limit, --slot-decay-per-second, --rate, --name, --description, "
            "--enable or --disable"
        )
    changed = existing_client().update_limit(
        name, name=new_name, limit=limit, slot_decay_per_second=decay, active=active, description=description
    )
    _tell_changed("updated", changed, output)


def enable(name: Name, /, *, output: Output = "table") -> None:
    """Enforce a limit from now on."""
    _tell_changed("enabled", existing_client().update_limit(name, active=True), output)


def disable(name: Name, /, *, output: Output = "table") -> None:
    """Let everybody through, those who wait included; holders keep their leases."""
    _tell_changed("disabled", existing_client().update_limit(name, active=False), output)


def cool_down(
    name: Name,
    seconds: Annotated[float, Parameter(help="From now; 0 lets people in again at once.")],
    /,
    *,
    why: Annotated[str, Parameter(help="Shown to those who wait.")] = "",
    output: Output = "table",
) -> None:
    """Let nobody in for a while; who waits stays in line, who holds slots keeps them."""
    client = existing_client()
    client.cool_down(name, seconds, why)
    limit = client.read_limit(name)
    if output == "json":
        print_json(limit)
        return
    say(f"limit {clean(limit.name)!r} {_cooling(limit) or 'lets people in'}")


def _cooling(limit: LimitInfo) -> str:
    """Return until when a limit cools down, "" if it does not."""
    if limit.cool_down_until is None:
        return ""
    why = f": {clean(limit.cool_down_why)}" if limit.cool_down_why else ""
    return f"cools down until {timestamp(limit.cool_down_until)}, nobody gets in{why}"


def _tell_changed(what: str, limit: LimitInfo, output: OutputFormat) -> None:
    if output == "json":
        print_json(limit)
        return
    say(f"{what} limit {clean(limit.name)!r}: {_terms(limit)}")
    if limit.held_slots > limit.limit > 0:
        say(f"{slots_of(limit.held_slots)} still held; it drains as they are released")


def delete(
    name: Name,
    /,
    *,
    force: Annotated[bool, Parameter(help="Also if it has holders or waiters.")] = False,
    yes: Annotated[
        bool, Parameter(name=("--yes", "-y"), help="Do not ask; required without a terminal.")
    ] = False,
    output: Output = "table",
) -> None:
    """Delete a limit. Asks first; without a terminal it needs --yes. Prints nothing with -o json."""
    client = existing_client()
    limit = client.read_limit(name)
    if not yes and not confirmed(f"delete limit {clean(limit.name)!r}?"):
        raise EbbgateError("nothing was deleted")
    client.delete_limit(limit.id, force=force)
    if output != "json":
        say(f"deleted limit {clean(limit.name)!r}")


def _terms(limit: LimitInfo) -> str:
    decay = (
        f", {rate(limit.slot_decay_per_second, limit.limit)} come back" if limit.slot_decay_per_second else ""
    )
    state = "" if limit.active else ", disabled"
    blocks = "" if limit.limit else ", which blocks every acquisition"
    return f"{slots_of(limit.limit)}{blocks}{decay}{state}"


def _decay(slot_decay_per_second: float | None, rate: str | None) -> float | None:
    if rate is None:
        return slot_decay_per_second
    if slot_decay_per_second is not None:
        raise UsageError("--slot-decay-per-second and --rate are two ways to say the same; give one")
    return parse_rate(rate)


def _refuse_active_slots(active_slots: int | None) -> None:
    if active_slots is not None:
        raise UsageError(
            "active slots follow from the leases and cannot be set, so they cannot be wrong; "
            "see who holds them: ebbgate lease ls --limit NAME; take one away: ebbgate lease revoke ID"
        )
