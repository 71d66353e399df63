"""What one channel has asked and not been answered, who waits, and what the answers mean. No I/O, no lock.

Everything that is not answered is kept and sent again over the next connection, under a higher epoch; who has a
place in the queue asks what became of it. That is safe: commands are idempotent.
"""

import logging
from collections.abc import Callable
from typing import Final

from ebbgate.client.remote.items import again
from ebbgate.client.remote.line import Line, Message
from ebbgate.client.remote.offset import Offset
from ebbgate.client.remote.pulse import Pulse
from ebbgate.client.waiting import Gone, Heard, Waiter
from ebbgate.core.commands import Done, Ended, Held, Outcome, Refused
from ebbgate.core.model import SECOND
from ebbgate.errors import (
    EbbgateError,
    InvalidRequest,
    NotAuthorized,
    ServerUnavailable,
    StoreUnavailable,
)
from ebbgate.wire.stream import (
    AcquireItem,
    AnswerItem,
    DeleteItem,
    Down,
    EndedItem,
    FailedItem,
    GoodbyeItem,
    HeldItem,
    HurryItem,
    RefusedItem,
    ReleaseItem,
    RenewItem,
    Up,
    WaitingItem,
    error_of,
    outcome_of,
)

_log: Final = logging.getLogger("ebbgate")

ASK_AGAIN_US: Final = 10 * SECOND
"""How often those who wait ask what became of them: what they were told may be lost."""

AGAIN_MAX: Final = 1_000
"""How many of them ask at a time."""

SESSION_CODES: Final = frozenset({"unknown_session", "stale_session"})

Reply = Outcome | AnswerItem | EbbgateError
"""An error: it is not known whether the command was carried out."""


class Asked:
    """A command that is not answered yet."""

    __slots__ = ("item", "sends", "sent_us", "waiter")

    def __init__(self, item: Up, waiter: Waiter | None = None) -> None:
        """Say what is asked, under a number of its own, and who hears what becomes of a lease that has to wait."""
        self.item = item
        self.waiter = waiter
        self.sent_us = -1  # last, by the local clock
        self.sends = 0

    def settle(self, desk: "Desk", reply: Reply) -> None:
        """Take in the answer."""


class AskedAgain(Asked):
    """What became of somebody who waits."""

    __slots__ = ()

    def settle(self, desk: "Desk", reply: Reply) -> None:
        """Pass it on to who waits, unless it waits on."""
        if isinstance(reply, Held | Ended | Refused):
            assert isinstance(self.item, AcquireItem | RenewItem), "only leases are waited for"
            desk.hear(self.item.id, reply)


class Recounted(Asked):
    """A renewal of a lease of which it is not known when it was granted: it counts from this on."""

    __slots__ = ("origin",)

    def __init__(self, item: RenewItem, origin: Asked) -> None:
        """Have `origin` hear of it."""
        super().__init__(item)
        self.origin = origin

    def settle(self, desk: "Desk", reply: Reply) -> None:
        """Pass on the grant as renewed."""
        self.origin.settle(desk, reply)


class Desk:
    """The commands and waiters of one channel; its session."""

    def __init__(self, session: str, clock: Callable[[], int]) -> None:
        """Nothing is asked yet."""
        self.session = session
        self.epoch = 0  # of the connection that there is or was last
        self.unanswered: dict[int, Asked] = {}
        self.queued: dict[str, tuple[Waiter, AcquireItem]] = {}  # by lease, as asked
        self.out: list[Asked] = []  # to be sent, in order
        self.newest_token = 0  # the newest fencing token that was told over it
        self.ended: list[Ended] = []  # losses that the gate is to be told
        self.hurried = False  # so is this
        self.goodbye_seconds = -1.0  # the server stops: come back after so long; -1: it does not
        self.is_stranded = False  # the server cannot reach its store; another one may
        self.is_outdated = False  # the store does not know this session under this epoch
        self.works = False  # set by the first answer over a connection
        self.took_us = 0  # from the sending to the last answer
        self._proven = False  # whether there was one
        self._clock = clock
        self._numbers = 0
        self._offset = Offset(0)
        self._counted: dict[str, int] = {}  # lease -> from when it is counted
        self.pulse = Pulse()
        self._asked_again_us = 0

    # --- asking

    def number(self) -> int:
        """Return a number for a command."""
        self._numbers += 1
        return self._numbers

    def ask(self, asked: Asked) -> None:
        """Have a command sent, again and again until it is answered."""
        self.unanswered[asked.item.number] = asked
        self.out.append(asked)

    def give_up(self, asked: Asked) -> None:
        """Wait no longer for an answer: it is not sent again."""
        self.unanswered.pop(asked.item.number, None)

    def sending(self) -> list[Up]:
        """Return what is to be sent now; it is considered sent."""
        out, self.out = self.out, []
        now_us = self._clock()
        items: list[Up] = []
        unanswered = self.unanswered
        for asked in out:
            item = asked.item
            if item.number in unanswered:
                asked.sent_us = now_us
                asked.sends += 1
                items.append(item)
        return items

    def encoded(self, line: Line) -> bytes:
        """Return what is to be sent now as bytes of a connection."""
        items = self.sending()
        if items:
            try:
                line.say(items)
            except InvalidRequest:
                self._say_one_by_one(line, items)
        self.pulse.ask(line)
        return line.to_send()

    def _say_one_by_one(self, line: Line, items: list[Up]) -> None:
        """Refuse those that are too long for any message."""
        for item in items:
            try:
                line.say((item,))
            except InvalidRequest as error:
                self.unanswered.pop(item.number).settle(self, error)

    def has_news(self, line: Line) -> bool:
        """Tell whether there is something to be done after messages were taken in, or something to be sent."""
        return bool(
            self.ended
            or self.hurried
            or self.is_stranded
            or self.is_outdated
            or self.goodbye_seconds >= 0
            or self.works
            or self.out
            or line.has_output
        )

    def drop_releases(self) -> None:
        """Keep no releases any more for a server that is gone: what they held has ended by itself."""
        for asked in list(self.unanswered.values()):
            if isinstance(asked.item, ReleaseItem):
                self.give_up(asked)

    def is_busy(self) -> bool:
        """Tell whether an answer is missing or somebody waits, so that a connection is needed."""
        return bool(self.unanswered or self.queued)

    def connected(self, epoch: int) -> None:
        """Begin anew over another connection: what is unanswered is to be sent, and who waits asks again."""
        now_us = self._clock()
        self.epoch = epoch
        self.is_outdated = self.works = self._proven = False
        self.goodbye_seconds = -1.0
        self._offset = Offset(now_us)
        self.pulse.heard(now_us)
        unanswered = [asked for asked in self.unanswered.values() if not self._is_about_a_waiter(asked)]
        self.unanswered.clear()
        self.out.clear()
        # First, for they came first, and in their order, should the store have forgotten them.
        self.queued = dict(sorted(self.queued.items(), key=lambda entry: entry[1][1].number))
        self._ask_again(len(self.queued), now_us)
        for asked in unanswered:
            self.ask(asked)

    def _is_about_a_waiter(self, asked: Asked) -> bool:
        item = asked.item
        return isinstance(item, AcquireItem | RenewItem) and item.id in self.queued

    def _ask_again(self, count: int, now_us: int) -> None:
        self._asked_again_us = now_us
        for lease_id in list(self.queued)[:count]:
            entry = self.queued.pop(lease_id)
            self.queued[lease_id] = entry  # to the end of the line of who asks next
            item = entry[1]
            self.ask(AskedAgain(again(self.number(), item)))

    def look(self) -> bool:
        """Do what time calls for; return whether the connection is to be given up, for it is silent."""
        now_us = self._clock()
        if self.queued and now_us - self._asked_again_us >= ASK_AGAIN_US:
            self._ask_again(AGAIN_MAX, now_us)
        oldest = next(iter(self.unanswered.values()), None)
        return self.pulse.is_gone(now_us, oldest.sent_us if oldest else -1, waits=bool(self.queued))

    # --- hearing

    def received(self, messages: list[Message]) -> None:
        """Take in messages; answers are passed on, losses are noted in `ended`."""
        now_us = self._clock()
        self.pulse.heard(now_us)
        unanswered = self.unanswered
        for store_us, items in messages:
            sent_us = -1
            for item in items:
                number = getattr(item, "number", 0)
                if not number:
                    self._pushed(item, store_us, now_us)
                    continue
                asked = unanswered.get(number)
                if asked is None:
                    continue
                if type(item) is RefusedItem and item.code in SESSION_CODES:
                    self.is_outdated = True  # it stays unanswered, and is sent again after another greeting
                    continue
                del unanswered[number]
                sent_us = asked.sent_us
                self._answered(asked, item, store_us, now_us)
            if sent_us >= 0:
                if not self._proven:
                    self._proven = self.works = True
                self.took_us = now_us - sent_us
                self._offset.exchanged(sent_us, store_us, now_us)
            else:
                self._offset.heard(store_us, now_us)

    def _answered(self, asked: Asked, item: Down, store_us: int, now_us: int) -> None:
        match item:
            case HeldItem():
                self.newest_token = max(self.newest_token, item.token)
                if self._is_heard(asked):
                    return  # from when it counts is noted; who waited may be about to look
                if item.expires_us >= 0 and not self._is_counted(asked, item, store_us, now_us):
                    return
                asked.settle(self, outcome_of(item))
            case WaitingItem():
                if asked.waiter is not None and isinstance(asked.item, AcquireItem):
                    self.queued[item.id] = (asked.waiter, asked.item)
                asked.settle(self, outcome_of(item))
            case AnswerItem():
                asked.settle(self, item)
            case FailedItem():
                self.is_stranded |= item.code == StoreUnavailable.code
                asked.settle(self, error_of(item))
            case RefusedItem(code="limit_not_found") if asked.sends > 1 and isinstance(
                asked.item, DeleteItem
            ):
                asked.settle(self, Done(""))  # the answer to the first sending was lost
            case _:
                asked.settle(self, outcome_of(item))

    def _is_heard(self, asked: Asked) -> bool:
        """Tell whether this is about somebody who waited, and does not any more."""
        origin = asked.origin if isinstance(asked, Recounted) else asked
        if not isinstance(origin, AskedAgain):
            return False
        assert isinstance(origin.item, AcquireItem | RenewItem), "only leases are waited for"
        return origin.item.id not in self.queued

    def _is_counted(self, asked: Asked, item: HeldItem, store_us: int, now_us: int) -> bool:
        """Note from when a lease counts that is held; if by that it were lost already, renew it first."""
        assert isinstance(asked.item, AcquireItem | RenewItem), "only these lead to a lease"
        duration_us = asked.item.duration_us
        # It may have been granted long before it was asked for this time: so much is left of it at most.
        from_us = asked.sent_us + min(item.expires_us - store_us - duration_us, 0)
        if now_us < deadline_us(from_us, duration_us) or isinstance(asked, Recounted):
            self._counted[item.id] = from_us
            return True
        self._recount(asked, duration_us)
        return False

    def _recount(self, origin: Asked, duration_us: int) -> None:
        assert isinstance(origin.item, AcquireItem | RenewItem), "only leases are counted"
        item = RenewItem(self.number(), origin.item.id, self.session, duration_us, retake=False)
        self.ask(Recounted(item, origin))

    def _pushed(self, item: Down, store_us: int, now_us: int) -> None:
        """Take in what nobody asked for at that moment."""
        match item:
            case HeldItem():
                self.newest_token = max(self.newest_token, item.token)
                entry = self.queued.get(item.id)
                if entry is None:
                    return
                if item.expires_us >= 0:
                    duration_us = entry[1].duration_us
                    self._offset.heard(store_us, now_us)
                    if self._offset.must_ask(item.at_us, duration_us, now_us):
                        self._recount(AskedAgain(entry[1]), duration_us)
                        return
                    self._counted[item.id] = self._offset.counted_from(item.at_us, now_us)
                self.hear(item.id, Held(*outcome_of(item)))
            case EndedItem():
                self.lost(Ended(item.id, item.why, item.at_us, item.arrival))
            case RefusedItem():
                self.hear(item.id, Refused(item.code, item.details))
            case HurryItem():
                self._offset.hurry(now_us)
                self.hurried = True
            case GoodbyeItem():
                self.goodbye_seconds = item.after_seconds
            case FailedItem():
                self.is_stranded = True
                if self.queued:
                    _log.info("%s; who waits keeps its place in line", error_of(item))
            case _:
                pass

    def lost(self, ended: Ended) -> None:
        """Take in that a lease has ended by somebody else's doing."""
        if ended.id in self.queued:
            self.hear(ended.id, ended)
        else:
            self.ended.append(ended)

    def hear(self, lease_id: str, outcome: Heard) -> None:
        """Pass on what became of somebody who waited."""
        entry = self.queued.pop(lease_id, None)
        if entry is not None:
            entry[0].hear(outcome)

    def forget(self, lease_id: str) -> None:
        """Nobody cares any more what becomes of a lease."""
        self.queued.pop(lease_id, None)
        self._counted.pop(lease_id, None)

    def fail(self, error: EbbgateError) -> None:
        """Answer all questions with an error that does not pass; who waits hears of it if it is a refusal."""
        unanswered = list(self.unanswered.values())
        self.unanswered.clear()
        self.out.clear()
        for asked in unanswered:
            asked.settle(self, error)
        if isinstance(error, NotAuthorized):
            for lease_id in list(self.queued):
                self.hear(lease_id, Refused(error.code, {"message": str(error)}))

    def retire(self, error: ServerUnavailable) -> None:
        """Have everybody ask again: somebody else answers from now on."""
        self.fail(error)
        for lease_id in list(self.queued):
            self.queued.pop(lease_id)[0].hear(Gone())

    def close(self) -> None:
        """Tell everybody that nobody will tell them anything any more."""
        self.fail(ServerUnavailable("this client was closed", transient=False))
        for lease_id in list(self.queued):
            self.hear(lease_id, Ended(lease_id, "cancelled", -1, 0))

    def counted_from(self, lease_id: str, started_us: int) -> int:
        """Return the local instant from which a lease is counted that was asked for at `started_us` first."""
        return max(self._counted.pop(lease_id, started_us), started_us)


def deadline_us(from_us: int, duration_us: int) -> int:
    """Return until when a client believes in a lease that is counted from `from_us`; see `Lease`."""
    return from_us + duration_us - duration_us // 100 - SECOND // 10
