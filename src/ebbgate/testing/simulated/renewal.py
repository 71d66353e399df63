"""The renewer's own connection: what `client.remote.renewal_line` does, without its thread and socket."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ebbgate.client.remote.dialling import Stale, refusal_of
from ebbgate.client.remote.host import GREETING
from ebbgate.client.remote.items import item_of
from ebbgate.core.commands import Command, Ended, Outcome
from ebbgate.core.model import SECOND
from ebbgate.errors import InvalidRequest, ServerUnavailable
from ebbgate.testing.simulated.client import Steps
from ebbgate.testing.simulated.dialling import ClientEnd, Message
from ebbgate.testing.simulated.kernel import Bell, Sleep, Task, Until
from ebbgate.testing.simulated.wire import Wire
from ebbgate.wire.stream import (
    VERSION,
    AnswerItem,
    Down,
    EndedItem,
    FailedItem,
    GoodbyeItem,
    HelloItem,
    HurryItem,
    RefusedItem,
    encode_up,
    error_of,
    outcome_of,
)

if TYPE_CHECKING:
    from ebbgate.testing.simulated.remote import RemoteProcess

ANSWER_US: Final = 5 * SECOND
SILENT_US: Final = 20 * SECOND


class RenewalLine:
    """Renews all leases of a process over a connection of its own."""

    epoch = 0  # each session has its own

    def __init__(self, owner: "RemoteProcess") -> None:
        """Connect when the first lease is held."""
        self.owner = owner
        self.name = owner.name
        self.process = owner.process
        self.upkeep = owner.upkeep
        self.renew = owner.renew
        self.clock = owner.clock
        self.true_us = owner.true_us
        self.record = owner.record
        self.wire: Wire | None = None
        self.server = ""
        self._end: ClientEnd | None = None
        self._wanted = Bell()
        self._expected: set[str] = set()
        self._greeted: dict[str, int] = {}
        self._newest: dict[str, int] = {}
        self._greetings: dict[int, str] = {}
        self._waiting: dict[int, int] = {}
        self._outcomes: list[Outcome | None] = []
        self._answered = Bell()
        self._numbers = GREETING
        self._failures = 0
        self._heard_us = self._asked_us = 0
        self._was_away = False
        self.process.start(self._connect_for_ever())

    # --- what the renewer wants

    def call(self, commands: Sequence[Command], until_us: int | None) -> Steps[Sequence[Outcome | None]]:
        """See `Keeper`; releases are never retried here."""
        outcomes: list[Outcome | None] = [None] * len(commands)
        self._outcomes = outcomes
        self._waiting.clear()
        end = self._end
        if end is None or self.wire is None:
            self._wanted.ring()
            raise ServerUnavailable("simulated: no server answers")
        self._attach()
        items = []
        for place, command in enumerate(commands):
            self._numbers += 1
            self._waiting[self._numbers] = place
            items.append(item_of(self._numbers, command))
        self._say(encode_up(items))
        kernel = self.process.kernel
        end_us = kernel.now_us + ANSWER_US
        end_us = end_us if until_us is None else min(end_us, until_us)
        while self._waiting and self._end is end and kernel.now_us < end_us:
            yield Until(self._answered, end_us)
        self._look()
        return outcomes

    def _say(self, data: bytes) -> None:
        if self.wire is not None:
            self.wire.say_up(data)
            if self._asked_us <= self._heard_us:
                self._asked_us = self.clock()

    def _look(self) -> None:
        """Give the connection up if it is silent."""
        if self._asked_us > self._heard_us and self.clock() - self._asked_us > SILENT_US:
            self._drop()

    # --- sessions

    def attach(self, session: str) -> None:
        """Have a session greeted for that is about to hold its first lease."""
        self._expected.add(session)
        self.process.soon(self._attach)

    def reconnected(self) -> None:
        """Hear that a session has a new epoch."""
        self.process.soon(self._attach)

    def _held_sessions(self) -> set[str]:
        return {lease.session for lease in self.owner.holding.values()} | self._expected

    def _hello(self, number: int, session: str) -> HelloItem:
        epoch = max(self.owner.epoch_of(session), self._newest.get(session, 0))
        newest = max((lease.fencing_token for lease in self.owner.holding.values()), default=0)
        return HelloItem(number, VERSION, session, epoch, "renewer", self.name, 1, None, newest)

    def _attach(self) -> bool:
        """Have a connection that has greeted for every session that holds a lease, under its present epoch."""
        held = self._held_sessions()
        if self._end is None:
            if held:
                self._wanted.ring()
            return False
        for session in sorted(held):
            self._numbers += 1
            hello = self._hello(self._numbers, session)
            if self._greeted.get(session) != hello.epoch:
                self._greeted[session] = hello.epoch
                self._greetings[hello.number] = session
                self._say(encode_up([hello]))
        self._expected -= held
        return False

    # --- hearing

    def _received(self, messages: list[Message]) -> None:
        self._heard_us = self.clock()
        for _, items in messages:
            for item in items:
                self._hear(item)
        self._answered.ring()

    def _hear(self, item: Down) -> None:
        number = getattr(item, "number", 0)
        if number in self._greetings:
            self._greeted_or_not(self._greetings.pop(number), item)
        elif number in self._waiting:
            self._take(self._waiting.pop(number), item)
        elif isinstance(item, EndedItem) and not number:
            self.owner.ended(Ended(item.id, item.why, item.at_us, item.arrival))
        elif isinstance(item, HurryItem):
            self.owner.hurry()
        elif isinstance(item, GoodbyeItem):
            self.owner.dialler.leave(self.server, item.after_seconds)
            self._drop()

    def _greeted_or_not(self, session: str, item: Down) -> None:
        refusal = refusal_of(item)
        if refusal is not None:
            self._greeted.pop(session, None)
            if isinstance(refusal, Stale):
                self._newest[session] = refusal.newest

    def _take(self, place: int, item: Down) -> None:
        if isinstance(item, AnswerItem | HurryItem | GoodbyeItem):
            return
        if isinstance(item, RefusedItem) and item.code in {"unknown_session", "stale_session"}:
            self._greeted.clear()  # greet again, and say the same
        elif isinstance(item, FailedItem):
            if isinstance(error_of(item), InvalidRequest):
                self._greeted.clear()
        else:
            self._outcomes[place] = outcome_of(item)

    # --- the connection

    def _connect_for_ever(self) -> Task:
        dialler = self.owner.dialler
        while True:
            sessions = sorted(self._held_sessions())
            if self._end is not None or not sessions:
                yield Until(self._wanted, None)
                continue
            yield Sleep(dialler.pause_us(self._failures))
            self._failures += 1
            for server in dialler.order():
                end = ClientEnd(self.process)
                hello = self._hello(GREETING, sessions[0])
                refusal = yield from dialler.dial(server, end, hello)
                if refusal is None:
                    self._take_over(end, server.name, hello)
                    break
                self._was_away = True
                if isinstance(refusal, Stale):
                    self._newest[hello.session] = refusal.newest

    def _take_over(self, end: ClientEnd, server: str, hello: HelloItem) -> None:
        self._end, self.wire, self.server = end, end.wire, server
        self._greeted = {hello.session: hello.epoch}
        self._heard_us = self._asked_us = self.clock()
        self._failures = 0
        end.received, end.broken = self._received, self._drop
        if self._was_away:
            self.owner.hurry()  # nobody knows how long nothing could be renewed
        self._was_away = True
        early, end.early = end.early, []
        self._received(early)
        if end.is_over:
            self._drop()
        else:
            self._attach()
            self.renew.ring()

    def _drop(self) -> None:
        end, self._end, self.wire = self._end, None, None
        if end is None or end.wire is None:
            return
        end.received = end.broken = None
        if not end.is_over:
            end.wire.close(by_client=True)
        self._greeted.clear()
        self._greetings.clear()
        self._waiting.clear()
        self._answered.ring()
        self._wanted.ring()
