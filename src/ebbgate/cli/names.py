"""`ebbgate --names`: what there is, for shells that complete a name. Quick, and never a word too much."""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from ebbgate.cli import exits
from ebbgate.cli.printing import SHORT

NAMES_MAX: Final = 200
CONNECT_SECONDS: Final = 1.0


def names(arguments: Sequence[str]) -> int:
    """Print the names of one kind that begin as given, one a line; nothing where they cannot be had.

    Args:
        arguments: "limits" or "leases", and perhaps how they begin.
    """
    from ebbgate import settings

    found = _KINDS.get(arguments[0] if arguments else "")
    if found is None:
        return exits.USAGE
    before = settings.set_connect_timeout_default(CONNECT_SECONDS)
    try:
        lines = found(arguments[1] if len(arguments) > 1 else "")
    except Exception:  # noqa: BLE001 - whoever presses tab did not ask for an error
        return exits.OK
    finally:
        settings.set_connect_timeout_default(before)
    sys.stdout.writelines(f"{line}\n" for line in lines if line.isprintable())
    return exits.OK


def _limits(prefix: str) -> list[str]:
    from ebbgate.cli.reading import existing_client
    from ebbgate.wire.questions import ListLimits
    from ebbgate.wire.shapes import LimitInfo

    page = existing_client().gate.question(ListLimits(prefix, count=NAMES_MAX))
    return [entry.name for entry in page if isinstance(entry, LimitInfo)] if isinstance(page, list) else []


def _leases(prefix: str) -> list[str]:
    from ebbgate.cli.reading import existing_client
    from ebbgate.wire.questions import ListLeases
    from ebbgate.wire.shapes import LeaseInfo

    page = existing_client().gate.question(ListLeases(count=NAMES_MAX))
    ids = (
        [entry.id[-SHORT:] for entry in page if isinstance(entry, LeaseInfo)]
        if isinstance(page, list)
        else []
    )
    return [lease_id for lease_id in ids if lease_id.startswith(prefix)]


_KINDS: Final[dict[str, Callable[[str], list[str]]]] = {"limits": _limits, "leases": _leases}
