"""Limits: list, create, read, replace, change, delete."""

import re
from hashlib import blake2b
from typing import Final, Literal, TypeVar
from unicodedata import normalize

import msgspec
from litestar.types import ASGIApp, Scope

from ebbgate.core.commands import CoolDown, DeleteLimit, Done, Outcome, PutLimit, Refused
from ebbgate.core.decay import parse_rate
from ebbgate.core.limits import check_name, is_uuid
from ebbgate.errors import InvalidRequest
from ebbgate.server.decider import Decider
from ebbgate.server.doing import doer_of
from ebbgate.server.rest.answers import Answer, LimitPage, json_answer
from ebbgate.server.rest.asking import key_of
from ebbgate.server.rest.describing import Asked
from ebbgate.server.rest.problems import refusal
from ebbgate.server.rest.requests import (
    BodyReader,
    ChangeBody,
    CoolDownBody,
    CreateBody,
    ReplaceBody,
    body_of,
    flag,
    microseconds,
    page_size,
    parameters,
)
from ebbgate.wire.ids import new_id
from ebbgate.wire.questions import ListLimits, ReadLimit
from ebbgate.wire.shapes import LimitInfo

T = TypeVar("T")
Mode = Literal["create", "update", "put"]

_create: Final = BodyReader(CreateBody)
_replace: Final = BodyReader(ReplaceBody)
_cool_down: Final = BodyReader(CoolDownBody)
_change: Final = BodyReader(ChangeBody, "application/merge-patch+json")

_IDEMPOTENCY_VALUE: Final = re.compile(rb"[!-~]{1,200}")
_IDEMPOTENCY_KEY: Final = b"idempotency-key"


class LimitRoutes:
    """What can be done with limits."""

    def __init__(self, decider: Decider) -> None:
        """Have one decider do it."""
        self._decider = decider

    async def list(self, request: Asked) -> ASGIApp:
        """Return a page of limits, by name."""
        found = parameters(request.scope, "name", "prefix", "page_size", "cursor")
        size = page_size(found)
        if "name" in found:
            one = None if is_uuid(found["name"]) else await self._decider.ask(ReadLimit(found["name"]))
            return json_answer(200, LimitPage([one] if isinstance(one, LimitInfo) else [], None))
        prefix = normalize("NFC", found.get("prefix", ""))
        page = await self._decider.ask(ListLimits(prefix, found.get("cursor", ""), size))
        items = [entry for entry in page if isinstance(entry, LimitInfo)] if isinstance(page, list) else []
        return json_answer(200, LimitPage(items, items[-1].name if len(items) == size else None))

    async def create(self, request: Asked) -> ASGIApp:
        """Create a limit."""
        body = await body_of(request)
        limit = _create.decode(request, body)
        decay = _decay(limit.slot_decay_per_second, limit.rate)
        command = PutLimit(
            _request_id(request.scope, body), "create", limit.name, new_id(), None, limit.limit,
            decay or 0.0, limit.active, limit.description,
        )  # fmt: skip
        return await self._put(request.scope, command)

    async def read(self, request: Asked) -> ASGIApp:
        """Return a limit and what is going on at it."""
        parameters(request.scope)
        found = await self._decider.ask(ReadLimit(_target(request.scope)))
        return refusal(found) if isinstance(found, Refused) else json_answer(200, found)

    async def replace(self, request: Asked) -> ASGIApp:
        """Create a limit of this name, or make the one that is there like this.

        A limit that is renamed so is created, or changed, under its new name if there is none of the old one:
        then that has happened before, and the answer was lost.
        """
        body = await body_of(request)
        limit = _replace.decode(request, body)
        target = _target(request.scope)
        name = None if limit.name is msgspec.UNSET else limit.name
        mode: Mode = "put"
        if is_uuid(target):
            mode = "update"
        elif name is not None and normalize("NFC", name) != check_name(target):
            exists = isinstance(await self._decider.ask(ReadLimit(target)), LimitInfo)
            mode, target = ("update", target) if exists else ("put", name)
        decay = _decay(limit.slot_decay_per_second, limit.rate)
        return await self._put(
            request.scope,
            PutLimit(
                _request_id(request.scope, body), mode, target, new_id(), name, limit.limit,
                decay or 0.0, limit.active, limit.description,
            ),
        )  # fmt: skip

    async def change(self, request: Asked) -> ASGIApp:
        """Change what is given of a limit."""
        body = await body_of(request)
        change = _change.decode(request, body)
        return await self._put(
            request.scope,
            PutLimit(
                _request_id(request.scope, body), "update", _target(request.scope), "",
                _given(change.name), _given(change.limit), _decay(change.slot_decay_per_second, change.rate),
                _given(change.active), _given(change.description),
            ),
        )  # fmt: skip

    async def delete(self, request: Asked) -> ASGIApp:
        """Delete a limit."""
        force = flag(parameters(request.scope, "force"), "force")
        target = _target(request.scope)
        outcome = await self._carry_out(request.scope, DeleteLimit(target, force))
        if isinstance(outcome, Refused):
            return refusal(outcome)
        return Answer(204)

    async def cool_down(self, request: Asked) -> ASGIApp:
        """Let nobody in for a while, or let people in again."""
        asked = await _cool_down.read(request)
        command = CoolDown(_target(request.scope), microseconds(asked.duration_seconds), asked.why)
        outcome = await self._carry_out(request.scope, command)
        return refusal(outcome) if isinstance(outcome, Refused) else await self.read(request)

    async def _put(self, scope: Scope, command: PutLimit) -> Answer:
        outcome = await self._carry_out(scope, command)
        if isinstance(outcome, Refused):
            return refusal(outcome)
        assert isinstance(outcome, Done), f"a limit is not answered with {outcome!r}"
        found = await self._decider.ask(ReadLimit(outcome.id))
        if isinstance(found, Refused):
            return refusal(found)  # it has been deleted since
        is_new = outcome.created or command.mode == "create"
        headers = ((b"location", f"/v1/limits/{outcome.id}".encode()),) if is_new else ()
        return json_answer(201 if is_new else 200, found, headers)

    async def _carry_out(self, scope: Scope, command: PutLimit | DeleteLimit | CoolDown) -> Outcome:
        self._decider.doers.note(command.target, doer_of(scope))
        return (await self._decider.carry_out((command,)))[0]


def _target(scope: Scope) -> str:
    return str(scope["path_params"]["name_or_id"])


def _request_id(scope: Scope, body: bytes) -> str:
    """Return under which name a change is remembered: exactly this request of this client, under its own name."""
    for name, value in scope["headers"]:
        if name == _IDEMPOTENCY_KEY:
            if not _IDEMPOTENCY_VALUE.fullmatch(value):
                raise InvalidRequest(
                    "Idempotency-Key must be 1 to 200 letters, digits and signs, without a space"
                )
            method = str(scope.get("method", ""))
            parts = (key_of(scope).encode(), value, method.encode(), scope["path"].encode(), body)
            return blake2b(
                b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=16
            ).hexdigest()
    return new_id()


def _decay(decay: float | str | msgspec.UnsetType, rate: str | msgspec.UnsetType) -> float | None:
    """Return the slots per second that a body gives, None if it gives none."""
    if rate is not msgspec.UNSET:
        if decay is not msgspec.UNSET:
            raise InvalidRequest("slot_decay_per_second and rate say the same: give one of them")
        decay = rate
    if decay is msgspec.UNSET:
        return None
    return parse_rate(decay) if isinstance(decay, str) else decay


def _given(value: T | msgspec.UnsetType) -> T | None:
    return None if value is msgspec.UNSET else value
