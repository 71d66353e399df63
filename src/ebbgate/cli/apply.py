"""`ebbgate apply` and `ebbgate export`: limits as code, without Terraform."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import Parameter

from ebbgate.cli.exits import UsageError
from ebbgate.cli.limits_file import Terms, as_file, json_schema, read_limits, written
from ebbgate.cli.options import Output
from ebbgate.cli.printing import Column, confirmed, escaped, json_of, print_json, print_table, say, slots_of
from ebbgate.cli.reading import existing_client
from ebbgate.client.client import Client
from ebbgate.client.default import default_client
from ebbgate.errors import EbbgateError, InvalidRequest, LimitInUse, LimitNotFound
from ebbgate.wire import LimitInfo
from ebbgate.wire.words import clean, rate

_Prefix = Annotated[str, Parameter(help="Only limits whose name begins so.")]
_FIELDS: Final[dict[str, object]] = {
    "limit": None, "slot_decay_per_second": 0.0, "active": True, "description": "",
}  # fmt: skip
"""What a file says of a limit, and what that is if it says nothing."""


class Applied(msgspec.Struct, frozen=True):
    """What became of one limit."""

    name: str
    result: Literal["created", "changed", "unchanged", "deleted", "kept"]
    change: dict[str, list[object]]  # field: before (null for a new limit), after
    why: str = ""


def apply(
    *,
    file: Annotated[
        str, Parameter(name=("--file", "-f"), help="YAML or JSON; - reads stdin.", allow_leading_hyphen=True)
    ],
    dry_run: Annotated[bool, Parameter(help="Only tell what would be done.")] = False,
    prune: Annotated[bool, Parameter(help="Delete limits that the file does not name.")] = False,
    prefix: _Prefix = "",
    force: Annotated[bool, Parameter(help="Prune also those that have holders or waiters.")] = False,
    yes: Annotated[
        bool, Parameter(name=("--yes", "-y"), help="Do not ask before pruning; required without a terminal.")
    ] = False,
    output: Output = "table",
) -> None:
    """Make limits as a file says: create what is missing, change what differs.

    The whole file is checked before anything is done. Holders, waiters and spent slots stay.
    """
    if force and not prune:
        raise UsageError("--force is about pruning; give --prune too")
    wanted = read_limits(_read(file), "stdin" if file == "-" else file)
    strange = next((terms.name for terms in wanted if not terms.name.startswith(prefix)), None)
    if strange is not None:
        raise InvalidRequest(f"{strange!r} does not begin with --prefix {prefix!r}; nothing was done")
    client = existing_client() if dry_run else default_client()
    here = {limit.name: limit for limit in client.list_limits(prefix)}
    doomed = sorted(here.keys() - {terms.name for terms in wanted}) if prune else []
    if doomed and not (dry_run or yes):
        question = f"delete {slots_of(len(doomed), 'limit')}: {_listed(doomed)}?"
        if not confirmed(question):
            raise EbbgateError("nothing was done")
    done: list[Applied] = []
    try:
        done.extend(_put(client, terms, here.get(terms.name), dry_run=dry_run) for terms in wanted)
        done.extend(_pruned(client, here[name], force=force, dry_run=dry_run) for name in doomed)
    finally:
        # Also when the store went away in between: what was done is told, and applying again does the rest.
        if output == "json":
            print_json(done)
        else:
            _tell(done, dry_run=dry_run)
    kept = [here[entry.name] for entry in done if entry.result == "kept"]
    if kept and not dry_run:
        raise LimitInUse(kept[0].name, holders=kept[0].held_slots, waiters=kept[0].waiting)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(clean(name)) for name in names)


def _put(client: Client, terms: Terms, here: LimitInfo | None, *, dry_run: bool) -> Applied:
    """Make one limit as the file says; return what that changed, or would change."""
    change: dict[str, list[object]] = {}
    for name, default in _FIELDS.items():
        before, after = default if here is None else getattr(here, name), getattr(terms, name)
        if before != after:
            change[name] = [None if here is None else before, after]
    if here is not None and not change:
        return Applied(terms.name, "unchanged", {})
    if not dry_run:
        client.put_limit(
            terms.name, terms.limit, slot_decay_per_second=terms.slot_decay_per_second,
            active=terms.active, description=terms.description,
        )  # fmt: skip
    return Applied(terms.name, "created" if here is None else "changed", change)


def _pruned(client: Client, limit: LimitInfo, *, force: bool, dry_run: bool) -> Applied:
    in_use = f"{limit.held_slots} held, {limit.waiting} waiting" if limit.held_slots or limit.waiting else ""
    if dry_run:
        return Applied(limit.name, "kept" if in_use and not force else "deleted", {}, in_use)
    try:
        client.delete_limit(limit.id, force=force)
    except LimitInUse as error:
        return Applied(
            limit.name,
            "kept",
            {},
            f"{slots_of(error.holders, 'holder')}, {slots_of(error.waiters, 'waiter')}",
        )
    except LimitNotFound:
        pass  # somebody else was quicker
    return Applied(limit.name, "deleted", {})


def _tell(done: list[Applied], *, dry_run: bool) -> None:
    shown = [entry for entry in done if entry.result != "unchanged"]
    if shown:
        columns = (Column("NAME", fold=True), Column("RESULT"), Column("CHANGE", fold=True))
        print_table(columns, [_row(entry, dry_run=dry_run) for entry in shown])
    counted = [
        f"{sum(1 for entry in done if entry.result == result)} {result}"
        for result in ("created", "changed", "deleted", "kept", "unchanged")
        if result in {entry.result for entry in done}
    ]
    say(f"{'nothing was done; would be: ' if dry_run else ''}{', '.join(counted) or 'no limits'}")


def _row(entry: Applied, *, dry_run: bool) -> tuple[str, ...]:
    change = ", ".join(
        f"{name} {_shown(name, after) if before is None else f'{_shown(name, before)} -> {_shown(name, after)}'}"
        for name, (before, after) in entry.change.items()
    )
    result = f"would be {entry.result}" if dry_run else entry.result
    return escaped(entry.name), result, escaped(change or entry.why)


def _shown(name: str, value: object) -> str:
    if name == "slot_decay_per_second" and isinstance(value, float):
        return f"{value:g} ({rate(value)})" if value else "0"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def export(
    *,
    file: Annotated[
        Path | None, Parameter(name=("--file", "-f"), help="Write to this file, not to stdout.")
    ] = None,
    prefix: _Prefix = "",
    schema: Annotated[
        bool, Parameter(help="Print the JSON Schema of the file instead, for editors.")
    ] = False,
    output: Output = "table",
) -> None:
    """Write the limits as the file that `apply` reads: YAML, or JSON with -o json or a name that ends so."""
    is_json = output == "json" or schema or (file is not None and file.suffix == ".json")
    value = json_schema() if schema else as_file(existing_client().list_limits(prefix))
    text = json_of(value, indent=2) + "\n" if is_json or isinstance(value, dict) else written(value)
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EbbgateError(f"cannot write {str(file)!r}: {error.strerror}") from error
    if output != "json":
        say(f"wrote {file}")
