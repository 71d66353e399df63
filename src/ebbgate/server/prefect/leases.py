"""Take, renew and give back slots as Prefect's clients do it.

Every grant is a lease. Clients up to 3.4.9 take slots without one and later give back a number of slots; for
them a lease is made that nobody renews, and what they give back ends such leases, the oldest first.
"""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple
from unicodedata import normalize

from ebbgate.core.commands import LABEL_LENGTH_MAX, LIMITS_MAX, Acquire, Ended, Held, Refused, Release, Renew
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
        self._ending: set[str] = set()  # leases that a decrement has chosen
        self._unsure: dict[
            Again, deque[tuple[list[Lease], asyncio.TimerHandle]]
        ] = {}  # of these, to be ended again
        self._returned: dict[tuple[str, str], int] = {}  # slots of (lease, limit) given back in part

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
        fields.check()
        lives = await self._find(names)
        session = session_of(request.key)
        again = Again(session, _client_of(request), _asked(lives, slots))
        chosen = self._unsure_of(again) or self._choose(session, lives, slots)
        ids = {lease.id for lease in chosen}
        self._ending |= ids
        try:
            for lease in chosen:
                await self._places.carry_out(session, Release(lease.id, session, EPOCH))
        except StoreUnavailable:
            self._keep_unsure(again, chosen)
            raise
        except BaseException:
            self._ending -= ids
            raise
        self._ending -= ids
        return answer(200, _minimal(lives))

    def _keep_unsure(self, again: Again, chosen: list[Lease]) -> None:
        """Have a client that repeats itself end the same leases, and nobody else's."""

        def forget() -> None:
            self._unsure_of(again)  # the oldest, which is this one
            self._ending.difference_update(lease.id for lease in chosen)

        timer = asyncio.get_running_loop().call_later(_REPEATED_SECONDS, forget)
        self._unsure.setdefault(again, deque()).append((chosen, timer))

    def _unsure_of(self, again: Again) -> list[Lease]:
        kept = self._unsure.get(again)
        if not kept:
            return []
        chosen, timer = kept.popleft()
        timer.cancel()
        if not kept:
            del self._unsure[again]
        return chosen

    def _choose(self, session: str, lives: Sequence[Live], slots: int) -> list[Lease]:
        """Return the leases that are over when `slots` of each limit are given back, the oldest first.

        That is one that took exactly this. Else slots are given back one by one, and a lease is over when all
        of it is.
        """
        asked = _asked(lives, slots)
        by_age = {live.limit.id: self._leaseless(session, live) for live in lives}
        for lease in by_age[lives[0].limit.id] if lives else ():
            if lease.asked == asked:
                return [lease]
        touched: dict[str, Lease] = {}
        for live in lives:
            left = slots
            for lease in by_age[live.limit.id]:
                owed = dict(lease.slots)[live.limit.id] - self._returned.get((lease.id, live.limit.id), 0)
                given = min(owed, left)
                left -= given
                if given:
                    known = self._returned.get((lease.id, live.limit.id), 0)
                    self._returned[lease.id, live.limit.id] = known + given
                    touched[lease.id] = lease
        over = [lease for lease in touched.values() if self._is_given_back(lease)]
        self._forget({lease.id for lease in over})
        return over

    def _forget(self, over: set[str]) -> None:
        """Forget what was given back of leases that are over."""
        for lease_id, limit_id in list(self._returned):
            known = self._decider.book.leases.get(lease_id)
            if lease_id in over or known is None or known.state != "held":
                del self._returned[lease_id, limit_id]

    def _leaseless(self, session: str, live: Live) -> list[Lease]:
        """Return whose slots a client may give back, in the order in which they are; what nobody was told of stays."""
        address = self._decider.address
        found = [
            lease
            for lease in live.holders.values()
            if lease.session == session
            and LEASELESS_LABEL in lease.labels
            and lease.id not in self._ending
            and self._places.is_told(lease.id)
        ]
        # Another server may not have told its client yet.
        return sorted(
            found, key=lambda lease: (lease.attend_due_us >= 0 and lease.wake != address, lease.arrival)
        )

    def _is_given_back(self, lease: Lease) -> bool:
        return all(self._returned.get((lease.id, limit_id), 0) >= slots for limit_id, slots in lease.slots)


def new_lease_id() -> str:
    """Return a new lease's id: a UUID of version 8, so that a proxy can tell it from one of Prefect's own (4)."""
    made = new_id()
    return f"{made[:14]}8{made[15:]}"


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
