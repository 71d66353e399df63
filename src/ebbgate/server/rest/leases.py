"""Leases: acquire, look at, renew, release, revoke; and spend."""

import logging
from typing import Final, Literal

from litestar.types import ASGIApp, Scope

from ebbgate.core.commands import Acquire, Ended, Held, Outcome, Refused, Release, Renew, Revoke, Waiting
from ebbgate.core.model import Lease
from ebbgate.errors import InvalidRequest
from ebbgate.server.decider import Decider
from ebbgate.server.doing import doer_of
from ebbgate.server.hearing import Hearing, session_of
from ebbgate.server.rest.answers import Answer, LeasePage, Renewal, Renewals, json_answer
from ebbgate.server.rest.asking import EPOCH, Asking, key_of, labels_of
from ebbgate.server.rest.describing import Asked
from ebbgate.server.rest.problems import refusal
from ebbgate.server.rest.requests import (
    DURATION_SECONDS,
    AcquireBody,
    BodyReader,
    RenewBody,
    SpendBody,
    lease_id,
    microseconds,
    page_size,
    parameters,
    slots_of,
    wait_seconds,
)
from ebbgate.wire.ids import new_id
from ebbgate.wire.questions import ListLeases, ReadLease, page_end
from ebbgate.wire.shapes import LeaseInfo
from ebbgate.wire.showing import instant

_log: Final = logging.getLogger("ebbgate.server")

_acquire: Final = BodyReader(AcquireBody)
_spend: Final = BodyReader(SpendBody)
_renew: Final = BodyReader(RenewBody)

NOT_YOURS: Final = "not_authorized"
UNKNOWN: Final = "unknown"


class LeaseRoutes:
    """What can be done with leases."""

    def __init__(self, decider: Decider, hearing: Hearing) -> None:
        """Have one decider do it."""
        self._decider = decider
        self._asking = Asking(decider, hearing)
        settings = decider.book.settings
        # Of what lasts no time, as a spend, or is not known: a command has one all the same.
        self._duration_us = max(microseconds(DURATION_SECONDS), settings.lease_duration_min_us)

    # --- getting in

    async def acquire(self, request: Asked) -> ASGIApp:
        """Take slots, or a place in the queue for them."""
        scope = request.scope
        asked = await _acquire.read(request)
        return await self._ask(scope, asked, microseconds(asked.lease_duration_seconds), spend=False)

    async def spend(self, request: Asked) -> ASGIApp:
        """Spend slots of limits with a decay, or take a place in the queue for that."""
        return await self._ask(request.scope, await _spend.read(request), self._duration_us, spend=True)

    async def _ask(
        self, scope: Scope, asked: AcquireBody | SpendBody, duration_us: int, *, spend: bool
    ) -> ASGIApp:
        key = key_of(scope)
        command = Acquire(
            new_id() if asked.id is None else lease_id(asked.id), session_of(key), EPOCH,
            slots_of(asked.limits), duration_us, spend, asked.queue, asked.strict, asked.priority,
            labels_of(scope, asked.labels), self._decider.address, attended=False,
        )  # fmt: skip
        return await self._asking.acquire(key, command, asked.wait_seconds)

    # --- looking

    async def list(self, request: Asked) -> ASGIApp:
        """Return a page of leases: held ones, then waiting ones in their order."""
        found = parameters(request.scope, "limit", "state", "holder", "page_size", "cursor")
        size = page_size(found)
        page = await self._decider.ask(
            ListLeases(
                found.get("limit"), found.get("state"), found.get("holder"), found.get("cursor", ""), size
            )
        )
        if isinstance(page, Refused):
            return refusal(page)
        items = [entry for entry in page if isinstance(entry, LeaseInfo)] if isinstance(page, list) else []
        return json_answer(200, LeasePage(items, page_end(items) if len(items) == size else None))

    async def read(self, request: Asked) -> ASGIApp:
        """Return a lease; the caller's own waiter is asked for again, and a grant to it is fetched."""
        scope = request.scope
        seconds = wait_seconds(parameters(scope, "wait_seconds"))
        asked_id = _id_of(scope)
        leases = self._decider.book.leases
        found = None if asked_id in leases else await self._decider.ask(ReadLease(asked_id))
        if isinstance(found, Refused):
            return refusal(found)
        lease = leases.get(asked_id)
        key = key_of(scope)
        if lease is not None and lease.session == session_of(key) and _is_expected(lease):
            return await self._asking.ask_again(key, lease, seconds)
        if found is None:  # it may have been written since it was taken in
            found = await self._decider.ask(ReadLease(asked_id))
            if isinstance(found, Refused):
                return refusal(found)
        return await self._asking.show(asked_id, self._decider.book.leases.get(asked_id), 200)

    # --- keeping and ending

    async def renew(self, request: Asked) -> ASGIApp:
        """Restart the countdown of leases."""
        key = key_of(request.scope)
        session = session_of(key)
        asked = await _renew.read(request)
        leases = self._decider.book.leases
        if not all(lease_id(text) in leases for text in asked.ids):
            await self._decider.carry_out(())  # another server may just have granted it
        seconds = asked.lease_duration_seconds
        given_us = None if seconds is None else microseconds(seconds)
        commands, tokens = [], []
        for text in asked.ids:
            renewed_id = lease_id(text)
            lease = leases.get(renewed_id)
            before_us = lease.duration_us if lease is not None and lease.at_us >= 0 else self._duration_us
            duration_us = before_us if given_us is None else given_us
            commands.append(Renew(renewed_id, session, EPOCH, duration_us, asked.retake))
            tokens.append(-1 if lease is None else lease.token)
        outcomes = await self._asking.carry_out(key, commands)
        renewals = []
        for command, token, outcome in zip(commands, tokens, outcomes, strict=True):
            if isinstance(outcome, Refused) and outcome.code != NOT_YOURS:
                return refusal(outcome)
            renewals.append(_renewal(command.id, token, outcome))
        return json_answer(200, Renewals(renewals))

    async def release(self, request: Asked) -> ASGIApp:
        """Give a lease's slots back, or leave the queue."""
        parameters(request.scope)
        key = key_of(request.scope)
        command = Release(lease_id(_id_of(request.scope)), session_of(key), EPOCH)
        outcome = (await self._asking.carry_out(key, (command,)))[0]
        return refusal(outcome) if isinstance(outcome, Refused) else Answer(204)

    async def revoke(self, request: Asked) -> ASGIApp:
        """Take a lease away from its holder."""
        parameters(request.scope)
        revoked_id = _id_of(request.scope)
        self._decider.doers.note(revoked_id, doer_of(request.scope))
        outcome = (await self._decider.carry_out((Revoke(revoked_id),)))[0]
        if isinstance(outcome, Refused):
            return refusal(outcome)
        _log.info("lease %s revoked", revoked_id, extra={"fields": {"key": key_of(request.scope)}})
        return Answer(204)


def _id_of(scope: Scope) -> str:
    """Return the id in the address; clients of other kinds may have given theirs another form than a UUID's."""
    text = str(scope["path_params"]["id"])
    try:
        return lease_id(text)
    except InvalidRequest:
        return text


def _is_expected(lease: Lease) -> bool:
    """Tell whether something is still to become of a lease, or its client has not heard of it yet."""
    return lease.state == "waiting" or lease.attend_due_us >= 0 or lease.refusal is not None


def _renewal(renewed_id: str, token: int, outcome: Outcome) -> Renewal:
    """Return what a renewal came to; `token` is the lease's before it."""
    match outcome:
        case Held():
            result: Literal["held", "reacquired"] = "reacquired" if 0 <= token != outcome.token else "held"
            return Renewal(
                id=renewed_id, result=result, fencing_token=outcome.token, expires=instant(outcome.expires_us)
            )
        case Waiting():
            return Renewal(id=renewed_id, result="waiting")
        case Ended():
            when = instant(outcome.at_us) if outcome.at_us >= 0 else None
            return Renewal(id=renewed_id, result="lost", why=outcome.why or UNKNOWN, when=when)
    assert isinstance(outcome, Refused), f"a renewal is not answered with {outcome!r}"
    return Renewal(id=renewed_id, result="refused", why=outcome.code)
