"""From a refusal, as it travels, to the error that a caller meets."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ebbgate import errors
from ebbgate.core.commands import Refused

# The details of a refusal are the arguments of its error, checked where the refusal is made.
_ERRORS: Final[Mapping[str, Callable[[Mapping[str, Any]], errors.EbbgateError]]] = {
    "invalid_request": lambda d: errors.InvalidRequest(d["message"]),
    "invalid_limit": lambda d: errors.InvalidLimit(d["message"]),
    "limit_not_found": lambda d: errors.LimitNotFound(d["names"], suggestion=d.get("suggestion") or None),
    "limit_exists": lambda d: errors.LimitExists(d["name"]),
    "limit_in_use": lambda d: errors.LimitInUse(
        d["name"], holders=d["holders"], waiters=d["waiters"], who=d.get("who", ())
    ),
    "never_fits": lambda d: errors.NeverFits(d["name"], slots=d["slots"], limit=d["limit"]),
    "no_slot_decay": lambda d: errors.NoSlotDecay(d["names"]),
    "no_slot_free": lambda d: errors.NoSlotFree(d["names"], 0),
    "id_reused": lambda d: errors.IdReused(d["lease_id"], d["why"]),
    "lease_not_found": lambda d: errors.LeaseNotFound(d["lease_id"]),
    "not_authorized": lambda d: errors.NotAuthorized(d["message"]),
    "internal": lambda d: errors.InternalError(d["message"]),
}


def error_from(refused: Refused) -> errors.EbbgateError:
    """Return the error that says what `refused` says."""
    make = _ERRORS.get(refused.code)
    if make is None:
        return errors.InternalError(f"refused as {refused.code}: {dict(refused.details)!r}")
    return make(refused.details)
