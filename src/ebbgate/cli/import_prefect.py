"""`ebbgate import prefect`: copy the global concurrency limits of a Prefect server; there nothing is changed."""

import os
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPException
from typing import Annotated, Final, Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import msgspec
from cyclopts import Parameter

from ebbgate.cli.options import Output
from ebbgate.cli.printing import (
    Column,
    escaped,
    print_json,
    print_table,
    quoted,
    say,
    slots_of,
)
from ebbgate.cli.reading import existing_client
from ebbgate.client.default import default_client
from ebbgate.errors import EbbgateError, InvalidLimit, InvalidRequest, LimitExists, LimitNotFound
from ebbgate.wire import LimitInfo
from ebbgate.wire.words import clean, rate

PAGE: Final = 200  # the most that Prefect's server gives at once
TIMEOUT_SECONDS: Final = 30.0

OWN: Final = "deployment:"
"""How the names of limits begin that Prefect's server enforces itself, whoever else has them."""


class Theirs(msgspec.Struct):
    """A limit as Prefect's server shows it."""

    name: str
    limit: int
    active: bool = True
    active_slots: int = 0
    slot_decay_per_second: float = 0.0


class Copied(msgspec.Struct, frozen=True):
    """What became of one limit."""

    name: str
    limit: int
    slot_decay_per_second: float
    active: bool
    result: Literal["created", "exists", "differs", "skipped", "refused"]
    why: str = ""


def prefect(
    *,
    url: Annotated[
        str | None, Parameter(help="Prefect's server, as in http://host:4200/api; unset: PREFECT_API_URL.")
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Only tell what would be done.")] = False,
    output: Output = "table",
) -> None:
    """Copy the limits of a Prefect server: name, limit, decay, and whether it is active.

    Limits that are here already stay as they are. Nothing is changed there.

    It authenticates as Prefect does: PREFECT_API_AUTH_STRING, or PREFECT_API_KEY.
    """
    base = _base(url or os.environ.get("PREFECT_API_URL", ""))
    copied: list[Copied] = []
    occupied: list[str] = []
    for limit in _limits_of(base):
        copied.append(_copy(limit, dry_run=dry_run))
        if limit.active_slots and copied[-1].result in {"created", "exists"}:
            occupied.append(limit.name)
    if output == "json":
        print_json(copied)
    else:
        _tell(copied, occupied, dry_run=dry_run)
    refused = sum(1 for entry in copied if entry.result == "refused")
    if refused:
        raise EbbgateError(f"{refused} of {len(copied)} limits could not be copied; see above")


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidRequest(f"--url must be Prefect's API, as in http://host:4200/api, got {url!r}")
    base = url.rstrip("/")
    return base if "/api" in parts.path else f"{base}/api"


def _limits_of(base: str) -> Iterator[Theirs]:
    """Yield every limit of a server."""
    offset = 0
    while True:
        page = _page(base, offset)
        yield from page
        if len(page) < PAGE:
            return
        offset += PAGE


def _page(base: str, offset: int) -> list[Theirs]:
    body = msgspec.json.encode({"limit": PAGE, "offset": offset})
    headers = {"Content-Type": "application/json", **_authorization()}
    request = Request(f"{base}/v2/concurrency_limits/filter", body, headers, method="POST")  # noqa: S310 - checked
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme is checked
            return msgspec.json.decode(answer.read(), type=list[Theirs])
    except HTTPError as error:
        hint = "; set PREFECT_API_AUTH_STRING or PREFECT_API_KEY" if error.code in {401, 403} else ""
        raise EbbgateError(f"{base} answers {error.code} {error.reason}{hint}") from error
    except (OSError, HTTPException) as error:
        raise EbbgateError(f"{base} cannot be reached: {getattr(error, 'reason', error)}") from error
    except msgspec.DecodeError as error:
        raise EbbgateError(f"{base} is no Prefect server: {error}") from error


def _authorization() -> dict[str, str]:
    said = os.environ.get("PREFECT_API_AUTH_STRING")
    if said:
        return {"Authorization": f"Basic {b64encode(said.encode()).decode()}"}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _copy(limit: Theirs, *, dry_run: bool) -> Copied:
    terms = (limit.name, limit.limit, limit.slot_decay_per_second, limit.active)
    if limit.name.startswith(OWN):
        return Copied(*terms, "skipped", "Prefect's server enforces it itself")
    client = existing_client() if dry_run else default_client()
    try:
        here = client.read_limit(limit.name)
    except LimitNotFound:
        if dry_run:
            return Copied(*terms, "created")
    else:
        return _compared(limit, here)
    try:
        client.create_limit(
            limit.name, limit.limit, slot_decay_per_second=limit.slot_decay_per_second, active=limit.active
        )
    except LimitExists:  # somebody else was quicker
        return _compared(limit, client.read_limit(limit.name))
    except InvalidLimit as error:
        return Copied(*terms, "refused", str(error))
    return Copied(*terms, "created")


def _compared(limit: Theirs, here: LimitInfo) -> Copied:
    terms = (limit.name, limit.limit, limit.slot_decay_per_second, limit.active)
    if terms[1:] == (here.limit, here.slot_decay_per_second, here.active):
        return Copied(*terms, "exists")
    why = f"here it has {slots_of(here.limit)}, {here.slot_decay_per_second:g} come back per second"
    return Copied(*terms, "differs", why if here.active else f"{why}, disabled")


def _tell(copied: list[Copied], occupied: list[str], *, dry_run: bool) -> None:
    if not copied:
        say("there are no limits on that server")
        return
    columns = (
        Column("NAME", fold=True),
        Column("LIMIT", right=True),
        Column("DECAY", right=True),
        Column("ENABLED"),
        Column("RESULT"),
        Column("WHY", fold=True),
    )
    print_table(columns, [_row(entry, dry_run=dry_run) for entry in copied])
    made = sum(1 for entry in copied if entry.result == "created")
    say(
        f"{made} of {len(copied)} limits {'would be' if dry_run else 'were'} created; nothing was changed there"
    )
    for entry in copied:
        if entry.result == "differs":
            say(
                f"to have {clean(entry.name)!r} as it is there: ebbgate limit update {quoted(entry.name)} "
                f"--limit {entry.limit} --slot-decay-per-second {entry.slot_decay_per_second} "
                f"{'--enable' if entry.active else '--disable'}"
            )
    if occupied:
        say(f"slots are occupied there at this moment: {', '.join(map(clean, occupied))}")
        say("they are not copied: until their holders are through, both servers let others in")


def _row(entry: Copied, *, dry_run: bool) -> tuple[str, ...]:
    return (
        escaped(entry.name),
        str(entry.limit),
        rate(entry.slot_decay_per_second, entry.limit),
        "yes" if entry.active else "[dim]no[/]",
        "would be created" if dry_run and entry.result == "created" else entry.result,
        escaped(entry.why),
    )
