"""Take, renew and give back slots as Prefect's clients do it.

Every grant is a lease. Clients up to 3.4.9 take slots without one and later give back a number of slots; for
them a lease is made that nobody renews. A decrement releases slots of such leases, the oldest first.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from unicodedata import normalize

from ebbgate.core.commands import (
    LABEL_LENGTH_MAX,
    LIMITS_MAX,
    Acquire,
    Ended,
    Held,
    Refused,
    Release,
    ReleaseSlots,
    Renew,
)
from ebbgate.core.leasing import impossible
from ebbgate.core.live import Live
from ebbgate.core.model import SECOND, Lease, Slots
from ebbgate.errors import StoreUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.front import WAITS
from ebbgate.server.prefect.answers import NO_CONTENT, TOO_MANY, Answer, answer, detail, locked
from ebbgate.server.prefect.checking import Fields, id_in_path
from ebbgate.server.prefect.places import CLIENT_LABEL, EPOCH, Late, Places, Stand, session_of
from ebbgate.server.prefect.request import CLIENT, Request
from ebbgate.wire.ids import new_id
from ebbgate.wire.questions import ReadLease, ReadSizes
from ebbgate.wire.shapes import LeaseInfo

DURATION_SECONDS: Final = 300.0
LEAST_SECONDS: Final = 60.0
MOST_SECONDS: Final = 86_400.0

LEASELESS_SECONDS: Final = 3_600.0
"""How long slots are held at most that were taken without a lease."""

LEASELESS_LABEL: Final = "prefect.leaseless"

_JUST_NOW_US: Final = 900_000
_REPEATED_SECONDS: Final = 60.0
_SHOWN_MAX: Final = 5
_SLOTS_MAX: Final = 1_000_000_000
_ATTRIBUTION: Final = (
    (b"x-prefect-flow-name", "prefect.flow"),
    (b"x-prefect-deployment-name", "prefect.deployment"),
    (b"x-prefect-worker-name", "prefect.worker"),
    (b"user-agent", "agent"),
)
_LEASE_GONE: Final = "Lease not found - it may have expired or been revoked"


class Again(NamedTuple):
    """By what a decrement is known again that nobody could tell whether it was carried out."""

    session: str
    client: str
    asked: Slots


class Leases:
    """The routes about taking, renewing and giving back."""

    def __init__(self, decider: Decider, places: Places) -> None:
        """Serve what `decider` decides; whoever waits has one of `places`."""
        self._decider = decider
        self._places = places
        self._releasing: Counter[tuple[str, str]] = Counter()
        """Slots of (lease, limit) that running decrements release; others choose different ones, to save retries."""
        self._unsure: dict[
            Again, deque[tuple[list[ReleaseSlots], asyncio.TimerHandle]]
        ] = {}  # to be repeated

    # --- take

    async def increment_with_lease(self, request: Request) -> Answer:
        """Take slots under a lease."""
        fields = Fields(request.json(), "slots", "names", "mode", "lease_duration", "holder")
        slots = fields.positive("slots")
        names = fields.names("names")
        mode = _mode(fields)
        duration = fields.number("lease_duration", DURATION_SECONDS, low=LEAST_SECONDS, high=MOST_SECONDS)
        holder = fields.holder("holder")
        fields.check()
        lives = await self._find(names)
        if not lives:
            return answer(200, {"lease_id": new_lease_id(), "limits": []})
        if mode == "rate_limit":  # held none the less, but only where it could be spent
            refused = impossible([(live, slots) for live in lives], spend=True)
            if refused is not None:
                return _refusal(refused)
        labels = {"prefect.holder": holder} if holder else {}
        granted = await self._acquire(request, lives, slots, labels, duration_seconds=duration)
        if isinstance(granted, Held):
            return answer(200, {"lease_id": granted.id, "limits": _minimal(lives)})
        return granted

    async def increment(self, request: Request) -> Answer:
        """Spend slots, or take some without a lease."""
        fields = Fields(request.json(), "slots", "names", "mode", "create_if_missing")
        slots = fields.positive("slots")
        names = fields.names("names")
        spend = _mode(fields) == "rate_limit"
        fields.flag("create_if_missing", None)
        fields.check()
        lives = await self._find(names)
        if not lives:
            return answer(200, [])
        granted = await self._acquire(
            request,
            lives,
            slots,
            {} if spend else {LEASELESS_LABEL: "yes"},
            duration_seconds=DURATION_SECONDS if spend else LEASELESS_SECONDS,
            spend=spend,
        )
        return answer(200, _minimal(lives)) if isinstance(granted, Held) else granted

    async def _acquire(
        self,
        request: Request,
        lives: Sequence[Live],
        slots: int,
        labels: dict[str, str],
        *,
        duration_seconds: float,
        spend: bool = False,
    ) -> Held | Answer:
        if len(lives) > LIMITS_MAX:
            return detail(422, f"At most {LIMITS_MAX} limits can be acquired at once")
        if slots > _SLOTS_MAX:
            return TOO_MANY
        session = session_of(request.key)
        asked = _asked(lives, slots)
        client = _client_of(request)
        stand = Stand(session, client, asked, spend)
        command = Acquire(
            new_lease_id(), session, EPOCH, asked, round(duration_seconds * SECOND), spend=spend,
            labels={**labels, **_labels(request), CLIENT_LABEL: client}, wake=self._decider.address,
            attended=False,
        )  # fmt: skip
        request.scope[WAITS] = True
        outcome = await self._places.acquire(stand, command, request)
        if isinstance(outcome, Held):
            return outcome
        return await self._locked(outcome) if isinstance(outcome, Late) else _refusal(outcome)

    async def _find(self, names: Sequence[str]) -> list[Live]:
        """Return the limits that exist, by name, each once."""
        wanted = sorted({normalize("NFC", name) for name in names})
        book = self._decider.book
        if not all(name in book.names for name in wanted):
            await self._decider.ask(ReadSizes(wanted))  # another process may just have made it
        return [book.names[name] for name in wanted if name in book.names]

    async def _locked(self, late: Late) -> Answer:
        """Tell who waits when to come back, and for whom it waits."""
        info = late.info
        holders = []
        for lease_id in (info.blocked_by or ())[:_SHOWN_MAX]:
            found = await self._decider.ask(ReadLease(lease_id))
            if isinstance(found, LeaseInfo):
                holders.append({
                    "lease_id": found.id, "holder": found.holder, "slots": found.limits, "since": found.granted,
                    "expires": found.expires,
                })  # fmt: skip
        names = self._decider.book.names
        told = {
            "position": info.position,
            "estimate_seconds": info.estimate_seconds,
            "limits": [
                {"name": name, "limit": names[name].limit.limit, "waiting": names[name].waiting}
                for name in info.lacks or ()
                if name in names
            ],
            "held_by": holders,
            "holders": len(info.blocked_by or ()),
        }
        return locked(math.ceil(late.retry_after_seconds * 1_000) / 1_000, told)

    # --- keep, give back

    async def renew(self, request: Request, lease_id: str) -> Answer:
        """Restart the countdown of a lease."""
        body = request.json()
        lease_id = id_in_path("lease_id", lease_id, body)
        fields = Fields(body, "lease_duration")
        duration = fields.number("lease_duration", DURATION_SECONDS, low=LEAST_SECONDS, high=MOST_SECONDS)
        fields.check()
        session = session_of(request.key)
        command = Renew(lease_id, session, EPOCH, round(duration * SECOND))
        outcome = await self._places.carry_out(session, command)
        if isinstance(outcome, Held):
            return NO_CONTENT
        if isinstance(outcome, Refused):
            return _refusal(outcome)
        why = outcome.why if isinstance(outcome, Ended) else ""
        if why == "released" and isinstance(outcome, Ended):
            # A client's last renewal may be overtaken by its release; it would warn of it for nothing.
            ended_ago_us = self._decider.store.clock() - outcome.at_us
            if ended_ago_us < _JUST_NOW_US:
                return NO_CONTENT
        return detail(410, _LEASE_GONE, why=why or "unknown")

    async def decrement_with_lease(self, request: Request) -> Answer:
        """End a lease; one that is over stays so."""
        fields = Fields(request.json(), "lease_id")
        lease_id = fields.uuid("lease_id")
        fields.check()
        session = session_of(request.key)
        outcome = await self._places.carry_out(session, Release(lease_id, session, EPOCH))
        return _refusal(outcome) if isinstance(outcome, Refused) else NO_CONTENT

    async def decrement(self, request: Request) -> Answer:
        """Give slots back that were taken without a lease; what was spent comes back by itself."""
        fields = Fields(request.json(), "slots", "names", "occupancy_seconds", "create_if_missing")
        slots = fields.positive("slots")
        names = fields.names("names")
        fields.number("occupancy_seconds", None, is_above=True)
        fields.flag("create_if_missing", None)
        fields.check()
        lives = await self._find(names)
        session = session_of(request.key)
        again = Again(session, _client_of(request), _asked(lives, slots))
        left = {live.limit.id: slots for live in lives}
        commands = self._unsure_of(again) or self._choose(session, lives, left)
        while commands:
            refused = await self._release(again, commands, left)
            if refused is not None:
                return _refusal(refused)
            commands = self._choose(session, lives, left)
        return answer(200, _minimal(lives))

    async def _release(
        self, again: Again, commands: list[ReleaseSlots], left: dict[str, int]
    ) -> Refused | None:
        """Release the chosen slots, and subtract them from `left`.

        Slots that another request has released meanwhile stay in `left`, so that others are chosen.
        """
        self._mark(commands)
        try:
            for command in commands:
                outcome = await self._places.carry_out(again.session, command)
                if not isinstance(outcome, Refused):
                    for limit_id, slots in command.slots:
                        left[limit_id] = left.get(limit_id, 0) - slots
                elif outcome.code != "lease_not_found":
                    return outcome
        except StoreUnavailable:
            self._keep_unsure(again, commands)
            raise
        finally:
            self._unmark(commands)
        return None

    def _mark(self, commands: list[ReleaseSlots]) -> None:
        for command in commands:
            for limit_id, slots in command.slots:
                self._releasing[command.id, limit_id] += slots

    def _unmark(self, commands: list[ReleaseSlots]) -> None:
        for command in commands:
            for limit_id, slots in command.slots:
                self._releasing[command.id, limit_id] -= slots
                if not self._releasing[command.id, limit_id]:
                    del self._releasing[command.id, limit_id]

    def _keep_unsure(self, again: Again, commands: list[ReleaseSlots]) -> None:
        """Have a client that repeats its request repeat the same commands, which release nothing twice."""
        timer = asyncio.get_running_loop().call_later(_REPEATED_SECONDS, self._unsure_of, again)
        self._unsure.setdefault(again, deque()).append((commands, timer))  # the timer's is the oldest

    def _unsure_of(self, again: Again) -> list[ReleaseSlots]:
        kept = self._unsure.get(again)
        if not kept:
            return []
        commands, timer = kept.popleft()
        timer.cancel()
        if not kept:
            del self._unsure[again]
        return commands

    def _choose(self, session: str, lives: Sequence[Live], left: Mapping[str, int]) -> list[ReleaseSlots]:
        """Return what releases `left` slots of each limit: a lease with exactly these, else parts of the oldest."""
        wanted = {live.limit.id: left[live.limit.id] for live in lives if left[live.limit.id] > 0}
        parts: dict[str, dict[str, int]] = {}
        for live in lives:
            missing = wanted.get(live.limit.id, 0)
            for lease in self._leaseless(session, live) if missing else ():
                free = self._free(lease)
                if free == wanted:
                    return [_release_of(lease.id, session, wanted)]
                slots = min(free.get(live.limit.id, 0), missing)
                if slots:
                    missing -= slots
                    parts.setdefault(lease.id, {})[live.limit.id] = slots
        return [_release_of(lease_id, session, slots) for lease_id, slots in parts.items()]

    def _free(self, lease: Lease) -> dict[str, int]:
        """Return the slots of a lease that no running decrement releases."""
        free = {limit_id: slots - self._releasing[lease.id, limit_id] for limit_id, slots in lease.slots}
        return {limit_id: slots for limit_id, slots in free.items() if slots > 0}

    def _leaseless(self, session: str, live: Live) -> list[Lease]:
        """Return whose slots a client may give back, in the order in which they are; what nobody was told of stays."""
        address = self._decider.address
        found = [
            lease
            for lease in live.holders.values()
            if lease.session == session and LEASELESS_LABEL in lease.labels and self._places.is_told(lease.id)
        ]
        # Another server may not have told its client yet.
        return sorted(
            found, key=lambda lease: (lease.attend_due_us >= 0 and lease.wake != address, lease.arrival)
        )


def new_lease_id() -> str:
    """Return a new lease's id: a UUID of version 8, so that a proxy can tell it from one of Prefect's own (4)."""
    made = new_id()
    return f"{made[:14]}8{made[15:]}"


def _release_of(lease_id: str, session: str, slots: Mapping[str, int]) -> ReleaseSlots:
    return ReleaseSlots(new_id(), lease_id, session, EPOCH, tuple(sorted(slots.items())))


def _client_of(request: Request) -> str:
    """Return the id of a client's queue, or its address in brackets."""
    return request.header(CLIENT)[:LABEL_LENGTH_MAX] or f"[{request.address}]"


def _asked(lives: Sequence[Live], slots: int) -> Slots:
    return tuple((live.limit.name, slots) for live in lives)


def _minimal(lives: Sequence[Live]) -> list[dict[str, object]]:
    return [{"id": live.limit.id, "name": live.limit.name, "limit": live.limit.limit} for live in lives]


def _mode(fields: Fields) -> str:
    return fields.choice("mode", ("concurrency", "rate_limit"), "concurrency")


def _labels(request: Request) -> dict[str, str]:
    found = {label: request.header(name)[:LABEL_LENGTH_MAX] for name, label in _ATTRIBUTION}
    found["address"] = request.address
    return {label: text for label, text in found.items() if text}


def _refusal(refused: Refused) -> Answer:
    """Return why an acquisition, a renewal or a release cannot be."""
    details = refused.details
    match refused.code:
        case "never_fits":
            return TOO_MANY
        case "no_slot_decay":
            names = details["names"]
            assert isinstance(names, list), "so the core says it"
            text = (
                "Only concurrency limits with slot decay can be used for rate limiting. "
                f"The following limits do not have a decay configured: {','.join(names)!r}"
            )
            return detail(422, text)
        case "revoked":
            return detail(409, "An operator has taken this acquisition out of the queue", **details)
        case "not_authorized":
            return detail(403, f"{details['message']}; use the API key that took it")
        case "invalid_request":
            return detail(422, str(details["message"]))
        case other:
            raise StoreUnavailable(f"refused: {other}", transient=True)
