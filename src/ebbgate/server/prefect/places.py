"""Who waits over the Prefect API: a place in the queue outlives the request that asked for it.

A request is held open until its lease is granted, at most for some seconds. Then its client is asked to come
back, and its place is kept until it does: Prefect's client sends the id of its queue with every request, and
has one request of it under way at a time. A place is found again under (API key, that id, names, slots, kind),
also by the next server on the same store, because the lease carries that id as a label.

Without such an id, callers from one address that ask for the same are taken for one another. Their places are
worth the same; they are kept for a shorter time.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from ebbgate.core.book import Book
from ebbgate.core.commands import (
    Acquire,
    Command,
    Ended,
    Held,
    Hello,
    Outcome,
    Refused,
    Release,
    Told,
    Waiting,
)
from ebbgate.core.model import SECOND, Lease, Slots
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.server.decider import Decider, ignore
from ebbgate.server.prefect.request import Request
from ebbgate.wire.questions import ReadLease
from ebbgate.wire.shapes import LeaseInfo

SESSION: Final = "rest--prefect"
"""The session of all callers without an API key, and the begin of the others'; no key's name begins with `-`."""

EPOCH: Final = 1

CLIENT_LABEL: Final = "prefect.client"

KEPT_SECONDS: Final = 5.0
"""How much later than it was asked to a client may come back, and still find its place."""

KEPT_UNNAMED_SECONDS: Final = 1.0

HURRY_SECONDS: Final = 1.0
"""How much time lies at least between two questions of a client, if nobody can tell when it will get in."""

IDLE_SECONDS: Final = 4.0
"""The longest that a client is sent away while slots that it is to hold might be kept for it."""

_RECOVERED_SECONDS: Final = 20.0
_TEND_SECONDS: Final = 15.0  # a waiter that does not ask for 30 s loses its place; see core.model
_CONFIRM_SECONDS: Final = 0.2  # newer clients renew sooner; if the server dies before, a grant passes on
_RETRY_SECONDS: Final = 1.0


def session_of(key: str) -> str:
    """Return the session of the callers with one API key."""
    return f"{SESSION}-{key}" if key else SESSION


class GoneError(Exception):
    """The client has gone; whatever it asked for was taken back."""


class Stand(NamedTuple):
    """Where a client that comes back finds its place."""

    session: str
    client: str  # the id of its queue, or its address in brackets
    asked: Slots
    spend: bool

    @property
    def kept_seconds(self) -> float:
        """For how long a place is kept after it should have been asked for."""
        return KEPT_UNNAMED_SECONDS if self.client.startswith("[") else KEPT_SECONDS


class Late(NamedTuple):
    """The time is up, and there is no slot yet."""

    retry_after_seconds: float
    info: LeaseInfo


@dataclass(slots=True, eq=False)
class Place:
    """One acquisition that waits, or was granted and waits to be told."""

    stand: Stand
    command: Acquire
    outcome: Held | Ended | Refused | None = None  # what became of it, as soon as that is known
    heard: asyncio.Future[None] | None = None  # of the request that is held open for it
    until: float = 0.0  # by the monotonic clock, while no request is
    timer: asyncio.TimerHandle | None = None

    def known(self) -> Held | Ended | Refused | None:
        """Return what has become of it by now; it changes while its request waits."""
        return self.outcome

    def wake(self, _: object = None) -> None:
        """Have its request look again."""
        if self.heard is not None and not self.heard.done():
            self.heard.set_result(None)


class Places:
    """The places of one server; an audience of its decider."""

    def __init__(self, decider: Decider, wait_seconds: float) -> None:
        """Nobody waits yet."""
        self._decider = decider
        self._wait_seconds = wait_seconds
        self._places: dict[str, Place] = {}  # by lease
        self._left: dict[Stand, deque[Place]] = {}  # whose clients were asked to come back
        self._recovered = False
        self._stopping = False
        decider.audiences.append(self)

    def drain(self) -> None:
        """Have everybody come back later; the places stay theirs."""
        self._stopping = True
        for place in self._places.values():
            place.wake()

    def is_told(self, lease_id: str) -> bool:
        """Tell whether the client of a lease that is held knows of it, as far as is known here."""
        return lease_id not in self._places

    # --- one acquisition

    async def acquire(self, stand: Stand, command: Acquire, request: Request) -> Held | Refused | Late:
        """Take slots, or a place in the queue; return what became of it in time.

        Raises:
            GoneError: the client went away; it has nothing.
            StoreUnavailable: it is not known what became of it; its place is kept.
        """
        started = time.monotonic()
        self._recover()
        kept = self._taken_up(stand)
        if kept is not None:
            found = await self._try(kept, request, started)
            if not isinstance(found, Ended):
                return found
        found = await self._try(self._new(stand, command), request, started)
        assert not isinstance(found, Ended), "nobody knew its id"
        return found

    async def _try(self, place: Place, request: Request, started: float) -> Held | Refused | Late | Ended:
        """Ask for a place, and wait; `Ended`: it is lost, so that another one must be taken."""
        gone = request.watch()
        try:
            found: Held | Ended | Refused | Waiting | Late = await self._ask(place)
            if isinstance(found, Waiting):
                found = await self._hear(place, found, gone, started + self._wait_seconds)
                if isinstance(found, Waiting) and not gone.done():
                    found = await self._look(place, found, time.monotonic() - started)
                if isinstance(found, Held) and not place.stand.spend:
                    self._later(_CONFIRM_SECONDS, lambda: self._confirm(place))
                if isinstance(found, Ended):
                    if found.why != "revoked":
                        raise StoreUnavailable("the place was lost", transient=True)
                    found = Refused("revoked", {"lease_id": found.id})
        except StoreUnavailable:
            self._leave(place, 0.0)
            raise
        except asyncio.CancelledError:
            self._give_back(place)
            raise
        if gone.done():
            self._give_back(place)
            raise GoneError
        assert not isinstance(found, Waiting), "then it is late"
        if isinstance(found, Late):
            self._leave(place, found.retry_after_seconds)
        else:
            del self._places[place.command.id]
        return found

    def _new(self, stand: Stand, command: Acquire) -> Place:
        place = self._places[command.id] = Place(stand, command)
        return place

    async def _ask(self, place: Place) -> Held | Ended | Refused | Waiting:
        """Ask what has become of it: for the first time, or again."""
        known = place.outcome
        if known is not None and (place.stand.spend or not isinstance(known, Held)):
            return known  # slots that are held must be fetched, or they pass on
        place.outcome = None
        outcome = await self.carry_out(place.stand.session, place.command)
        assert isinstance(outcome, Held | Ended | Refused | Waiting), "the outcome of an acquisition"
        if isinstance(outcome, Waiting):
            known = place.known()  # it may have been told since
            return outcome if known is None else known
        place.outcome = outcome
        return outcome

    async def carry_out(self, session: str, command: Command) -> Outcome:
        """Carry out a command of a session, which begins with it if need be.

        Raises:
            StoreUnavailable: it is not known whether it was carried out.
        """
        if session in self._decider.book.sessions:
            return (await self._decider.carry_out((command,)))[0]
        key = session.removeprefix(SESSION).removeprefix("-")
        hello = Hello(session, EPOCH, labels={"api": "prefect"}, key=key)
        return (await self._decider.carry_out((hello, command)))[1]

    async def _hear(
        self, place: Place, waiting: Waiting, gone: "asyncio.Task[None]", until: float
    ) -> Held | Ended | Refused | Waiting:
        """Wait until something has become of a place, its client is gone, or the time is up."""
        loop = asyncio.get_running_loop()
        while not gone.done() and place.known() is None:
            left = until - time.monotonic()
            if left <= 0:
                break
            if self._stopping:
                raise StoreUnavailable("the server stops", transient=True)
            place.heard = loop.create_future()
            gone.add_done_callback(place.wake)
            timer = loop.call_later(min(left, _TEND_SECONDS), place.wake)
            try:
                await place.heard
            finally:
                timer.cancel()
                gone.remove_done_callback(place.wake)
            if place.known() is None and not gone.done() and time.monotonic() < until:
                await self._ask(place)  # everything was loaded anew, or it is time to say that it still waits
        known = place.known()
        return waiting if known is None else known

    async def _look(
        self, place: Place, waiting: Waiting, waited_seconds: float
    ) -> Held | Ended | Refused | Waiting | Late:
        """Return when the client should come back, unless something has become of its place just now."""
        info = await self._decider.ask(ReadLease(waiting.id))
        known = place.known()
        if known is not None:
            return known
        assert isinstance(info, LeaseInfo), "it waits"
        seconds = max(HURRY_SECONDS - waited_seconds, 0.0)
        if info.estimate_seconds is not None:
            seconds = info.estimate_seconds
            if not place.stand.spend:
                seconds = min(seconds, IDLE_SECONDS)
        return Late(seconds, info)

    # --- places whose clients were asked to come back

    def _leave(self, place: Place, seconds: float) -> None:
        """Keep a place for a client that comes back in some seconds."""
        place.until = time.monotonic() + seconds + place.stand.kept_seconds
        self._left.setdefault(place.stand, deque()).append(place)
        self._set_timer(place)

    def _set_timer(self, place: Place) -> None:
        left = place.until - time.monotonic()
        place.timer = asyncio.get_running_loop().call_later(min(left, _TEND_SECONDS), self._tend, place)

    def _tend(self, place: Place) -> None:
        """Speak for who was asked to come back later; give its place up when it does not come."""
        if self._stopping:
            return
        if self._is_elsewhere(place):
            self._take(place)
            self._places.pop(place.command.id, None)
            return
        if time.monotonic() >= place.until:
            self._take(place)
            self._give_back(place)
            return
        if place.outcome is None:
            self._decider.submit((place.command,), ignore)
        self._set_timer(place)

    def _is_elsewhere(self, place: Place) -> bool:
        """Tell whether a client has asked another server since, and waits or was let in there."""
        lease = self._decider.book.leases.get(place.command.id)
        if not self._decider.is_shared or lease is None:
            return False
        is_fetched = lease.state == "held" and lease.attend_due_us < 0
        return is_fetched or lease.wake != self._decider.address

    def _taken_up(self, stand: Stand) -> Place | None:
        left = self._left.get(stand)
        if not left:
            return self._taken_over(stand)
        return self._take(left[0])

    def _taken_over(self, stand: Stand) -> Place | None:
        """Return the place that a client had at another server; one without an id may still be waiting there."""
        if not self._decider.is_shared or stand.client.startswith("["):
            return None
        book = self._decider.book
        waiting, held = book.waiting_by_session, book.by_session
        for lease_id in chain(waiting.get(stand.session, ()), held.get(stand.session, ())):
            lease = book.leases[lease_id]
            if lease_id not in self._places and self._stand_of(lease) == stand:
                return self._known(stand, lease)
        return None

    def _stand_of(self, lease: Lease) -> Stand | None:
        """Return where the client of a lease finds its place; None: it has none, or no more."""
        client = lease.labels.get(CLIENT_LABEL)
        if lease.state == "ended" or lease.attend_due_us < 0 or client is None:
            return None
        return Stand(lease.session, client, lease.asked, lease.kind == "spend")

    def _known(self, stand: Stand, lease: Lease) -> Place:
        """Return a place that another server made."""
        return self._new(
            stand,
            Acquire(
                lease.id, lease.session, EPOCH, lease.asked, lease.duration_us, spend=stand.spend,
                labels=lease.labels, wake=self._decider.address, attended=False,
            ),
        )  # fmt: skip

    def _take(self, place: Place) -> Place:
        if place.timer is not None:
            place.timer.cancel()
        left = self._left[place.stand]
        left.remove(place)
        if not left:
            del self._left[place.stand]
        return place

    def _recover(self) -> None:
        """Find the places that were kept on this store before this server came."""
        if self._recovered or self._decider.is_shared:
            return  # those of other servers are still kept there, until their clients come here
        self._recovered = True
        for lease in list(self._decider.book.leases.values()):
            stand = self._stand_of(lease)
            if stand is not None and self.is_mine(lease.session):
                self._leave(self._known(stand, lease), _RECOVERED_SECONDS)

    # --- giving back, and making sure

    def _give_back(self, place: Place) -> None:
        """Leave the queue, or return what was granted."""
        self._places.pop(place.command.id, None)
        self.release(place.command)

    def release(self, command: Acquire) -> None:
        """End a lease that nobody has; if the store is out of reach, as soon as it is back."""
        tries = command.duration_us / SECOND / _RETRY_SECONDS  # afterwards it has ended by itself

        def answered(outcomes: object) -> None:
            nonlocal tries
            tries -= 1
            if isinstance(outcomes, EbbgateError) and tries > 0:
                self._later(_RETRY_SECONDS, ask)

        def ask() -> None:
            self._decider.submit((Release(command.id, command.session, EPOCH),), answered)

        ask()

    def _confirm(self, place: Place) -> None:
        """Say that a grant has arrived, unless a renewal has said so already."""
        lease = self._decider.book.leases.get(place.command.id)
        if lease is not None and lease.state == "held" and lease.attend_due_us >= 0:
            self._decider.submit((place.command,), ignore)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, lambda: None if self._stopping else call())

    # --- what it is told

    def tell(self, told: Told) -> bool:
        """See `Audience`."""
        place = self._places.get(told.id)
        if place is None:
            return False
        place.outcome = told.outcome
        place.wake()
        return True

    def is_mine(self, session: str) -> bool:
        """See `Audience`."""
        return session == SESSION or session.startswith(f"{SESSION}-")

    def hurry(self) -> None:
        """See `Audience`: nobody here can be reached."""

    def reloaded(self, book: Book) -> None:
        """See `Audience`: have everybody look again."""
        del book
        for place in self._places.values():
            place.wake()
