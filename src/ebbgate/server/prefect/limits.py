"""Create, read, list, change and delete limits as Prefect's clients do it.

The number of occupied slots is derived from leases and cannot be set. Written `active_slots` and `denied_slots` are
accepted and have no effect, because forms send them along with other fields. A request that sets nothing else than
`active_slots` is refused if it would change it.

Terraform fails unless it reads what it wrote. Its provider writes 0 by default, so Terraform always reads 0 and
cannot write another number. This depends on the request alone, so all servers of a store answer the same.
"""

import logging
from collections.abc import AsyncIterator
from typing import Final

from ebbgate.core.commands import DeleteLimit, Done, PutLimit, Refused
from ebbgate.server.decider import Decider
from ebbgate.server.doing import doer_of
from ebbgate.server.prefect.answers import (
    CONFLICT,
    NO_CONTENT,
    NO_SUCH_LIMIT,
    Answer,
    AnsweredError,
    answer,
    complaint,
    detail,
    invalid,
)
from ebbgate.server.prefect.checking import Fields
from ebbgate.server.prefect.request import Request
from ebbgate.wire.ids import new_id
from ebbgate.wire.questions import PAGE_MAX, ListLimits, ReadLimit
from ebbgate.wire.shapes import LimitInfo

LISTED_MAX: Final = 200
_OCCUPANCY_SECONDS: Final = 2.0  # what Prefect shows of a limit that nobody has used yet
_FIELDS: Final = ("active", "name", "limit", "active_slots", "denied_slots", "slot_decay_per_second")

_TERRAFORM: Final = "Go-http-client/"
_CANNOT_BE_SET: Final = (
    "active_slots is the number of slots that leases occupy, and cannot be set; to free slots, list the leases with "
    "`ebbgate lease ls --limit NAME` and end one with `ebbgate lease revoke ID`"
)

_log: Final = logging.getLogger("ebbgate.server")


class Limits:
    """The routes about limits."""

    def __init__(self, decider: Decider) -> None:
        """Serve what `decider` knows."""
        self._decider = decider

    async def create(self, request: Request) -> Answer:
        """Create a limit."""
        body = request.json()
        fields = Fields(body)
        active = fields.flag("active", True)
        name = fields.name("name")
        limit = fields.whole("limit", least=0)
        active_slots = fields.whole("active_slots", 0, least=0)
        fields.whole("denied_slots", 0, least=0)
        decay = fields.number("slot_decay_per_second", 0.0)
        fields.allow(_FIELDS)
        fields.check()
        if active_slots and _is_terraform(request):
            return _cannot_be_set(active_slots, body)
        command = PutLimit(
            "", "create", name, new_id=new_id(), limit=limit, slot_decay_per_second=decay, active=active
        )
        self._decider.doers.note(name, doer_of(request.scope, "prefect"))
        (outcome,) = await self._decider.carry_out((command,))
        if isinstance(outcome, Refused):
            return _refusal(outcome, body)
        assert isinstance(outcome, Done), "a command about limits is done or refused"
        made = await self._read(outcome.id)
        if active_slots:
            _warn(made, active_slots)
        return answer(
            201,
            {
                "id": made.id,
                "created": made.created,
                "updated": made.updated,
                "active": made.active,
                "name": made.name,
                "limit": made.limit,
                "active_slots": _active_slots(request, made),
                "denied_slots": 0,
                "slot_decay_per_second": made.slot_decay_per_second,
                "avg_slot_occupancy_seconds": _OCCUPANCY_SECONDS,
            },
        )

    async def read(self, request: Request, id_or_name: str) -> Answer:
        """Read one limit."""
        return answer(200, _shown(request, await self._read(id_or_name)))

    async def filter(self, request: Request) -> Answer:
        """List limits, by name; there is nothing to filter by."""
        fields = Fields(request.json(), "limit", "offset")
        limit = fields.whole("limit", LISTED_MAX)
        offset = fields.whole("offset", 0, least=0)
        fields.check()
        if limit < 0:
            return detail(422, "Invalid limit: must be greater than or equal to 0.")
        if limit > LISTED_MAX:
            return detail(422, f"Invalid limit: must be less than or equal to {LISTED_MAX}.")
        shown: list[dict[str, object]] = []
        number = 0
        async for found in self._all():
            if len(shown) == limit:
                break
            if number >= offset:
                shown.append(_shown(request, found))
            number += 1
        return answer(200, shown)

    async def update(self, request: Request, id_or_name: str) -> Answer:
        """Change the fields that were sent."""
        body = request.json()
        fields = Fields(body)
        active = None if fields.is_null("active") else fields.flag("active", None)
        name = None if fields.is_null("name") else fields.name("name", None)
        limit = None if fields.is_null("limit") else fields.whole("limit", None, least=0)
        slots = None if fields.is_null("active_slots") else fields.whole("active_slots", None, least=0)
        if not fields.is_null("denied_slots"):
            fields.whole("denied_slots", None, least=0)
        decay: float | None = None
        if not fields.is_null("slot_decay_per_second"):
            decay = fields.number("slot_decay_per_second", None)
        fields.allow(_FIELDS)
        fields.check()
        if slots and _is_terraform(request):
            return _cannot_be_set(slots, body)
        before = await self._read(id_or_name)
        if any(fields.is_null(field) for field in _FIELDS):
            return CONFLICT
        is_ignored = slots is not None and slots != _active_slots(request, before)
        if is_ignored and fields.sent == {"active_slots"}:
            return _cannot_be_set(slots, body)
        command = PutLimit(
            "", "update", before.id, name=name, limit=limit, slot_decay_per_second=decay, active=active
        )
        self._decider.doers.note(before.id, doer_of(request.scope, "prefect"))
        (outcome,) = await self._decider.carry_out((command,))
        if isinstance(outcome, Refused):
            return _refusal(outcome, body)
        if is_ignored:
            _warn(before, slots)
        return NO_CONTENT

    async def delete(self, request: Request, id_or_name: str) -> Answer:
        """Delete a limit, also one that is in use: this API has no word for a refusal."""
        self._decider.doers.note(id_or_name, doer_of(request.scope, "prefect"))
        (outcome,) = await self._decider.carry_out((DeleteLimit(id_or_name, force=True),))
        return NO_SUCH_LIMIT if isinstance(outcome, Refused) else NO_CONTENT

    # ---

    async def _read(self, id_or_name: str) -> LimitInfo:
        found = await self._decider.ask(ReadLimit(id_or_name))
        if isinstance(found, LimitInfo):
            return found
        raise AnsweredError(NO_SUCH_LIMIT)

    async def _all(self) -> AsyncIterator[LimitInfo]:
        after = ""
        while True:
            page = await self._decider.ask(ListLimits(after=after))
            assert isinstance(page, list), "a list of limits is never refused"
            found = [limit for limit in page if isinstance(limit, LimitInfo)]
            for limit in found:
                yield limit
            if len(found) < PAGE_MAX:
                return
            after = found[-1].name


def _shown(request: Request, limit: LimitInfo) -> dict[str, object]:
    return {
        "id": limit.id,
        "created": limit.created,
        "updated": limit.updated,
        "active": limit.active,
        "name": limit.name,
        "limit": limit.limit,
        "active_slots": _active_slots(request, limit),
        "slot_decay_per_second": limit.slot_decay_per_second,
    }


def _is_terraform(request: Request) -> bool:
    return request.header(b"user-agent").startswith(_TERRAFORM)


def _active_slots(request: Request, limit: LimitInfo) -> int:
    return 0 if _is_terraform(request) else limit.active_slots


def _cannot_be_set(active_slots: object, body: object) -> Answer:
    return invalid([complaint("value_error", ("body", "active_slots"), _CANNOT_BE_SET, active_slots)], body)


def _warn(limit: LimitInfo, active_slots: object) -> None:
    fields = {"limit": limit.name, "wanted": active_slots, "active_slots": limit.active_slots}
    _log.warning("active_slots ignored", extra={"fields": fields})


def _refusal(refused: Refused, body: object) -> Answer:
    """Return why a limit cannot be so."""
    if refused.code == "limit_exists":
        return CONFLICT
    if refused.code == "limit_not_found":
        return NO_SUCH_LIMIT
    return invalid([complaint("value_error", ("body",), str(refused.details["message"]), body)], body)
