"""One channel of a client process: what `client.remote.loop_channel` does around the real `Desk`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ebbgate.client.remote.desk import Asked, Desk, Reply
from ebbgate.client.remote.dialling import Stale
from ebbgate.client.remote.host import GIVE_BACK_US, GREETING, RELEASES_US, patience_until
from ebbgate.client.remote.items import acquire_item, item_of
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Command, Ended, Held, Outcome, Release
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, ServerUnavailable
from ebbgate.testing.simulated.client import CONNECT_TIMEOUT_US, Steps
from ebbgate.testing.simulated.dialling import ClientEnd, Message
from ebbgate.testing.simulated.kernel import Bell, Sleep, Task, Until
from ebbgate.testing.simulated.wire import Wire
from ebbgate.wire.stream import VERSION, AnswerItem, ByeItem, HelloItem, ReleaseItem, Up, encode_up

if TYPE_CHECKING:
    from ebbgate.testing.simulated.remote import RemoteProcess

LOOK_US: Final = 2 * SECOND
"""How often is looked what time calls for while anything is unanswered or waits."""


class SimulatedAsked(Asked):
    """A command of a task."""

    __slots__ = ("bell", "reply")

    def __init__(self, item: Up, waiter: Waiter | None = None) -> None:
        """See `Asked`."""
        super().__init__(item, waiter)
        self.bell = Bell()
        self.reply: Reply | None = None

    def settle(self, desk: Desk, reply: Reply) -> None:
        """Resume the task."""
        del desk
        self.reply = reply
        self.bell.ring()


class Channel:
    """A session and its connection."""

    def __init__(self, owner: "RemoteProcess", session: str) -> None:
        """Connect on first use."""
        self.owner = owner
        self.name = owner.name
        self.process = owner.process
        self.session = session
        self.holding = owner.holding
        self.upkeep = owner.upkeep
        self.renew = owner.renew
        self.clock = owner.clock
        self.true_us = owner.true_us
        self.record = owner.record
        self.wire: Wire | None = None
        self.server = ""
        self._desk = Desk(session, owner.clock)
        self._end: ClientEnd | None = None
        self._wanted = Bell()  # rung when a connection is needed
        self._is_looking = self._is_flushing = False
        self._failures = 0
        self._epochs = 0
        self._broken_us = 0
        self._was_connected = self._is_attached = self._is_closed = False
        self.process.start(self._connect_for_ever())

    @property
    def epoch(self) -> int:
        """The epoch of the connection that there is or was last."""
        return self._desk.epoch

    # --- what callers want

    def wake(self) -> str:
        """Return nothing: the server puts its own address there."""
        return ""

    def ask(
        self, command: Acquire, waiter: Waiter, until_us: int | None, cancel_us: int | None
    ) -> Steps[Outcome | None]:
        """See `Gate`."""
        now_us = self.clock()
        until_us = patience_until(now_us, until_us, CONNECT_TIMEOUT_US, waits=command.wait)
        asked = SimulatedAsked(acquire_item(self._desk.number(), command), waiter)
        return (yield from self._reply(asked, self.true_us(until_us), cancel_us))

    def call(self, commands: Sequence[Command], until_us: int | None) -> Steps[Sequence[Outcome | None]]:
        """See `Keeper`."""
        outcomes: list[Outcome | None] = []
        for command in commands:
            asked = SimulatedAsked(item_of(self._desk.number(), command))
            patience_us = self.process.kernel.now_us + CONNECT_TIMEOUT_US
            outcomes.append((yield from self._reply(asked, patience_us, until_us)))
        return outcomes

    def _reply(self, asked: SimulatedAsked, until_us: int, cancel_us: int | None) -> Steps[Outcome | None]:
        """Return the answer, None at the true instant `cancel_us`; it fails at `until_us`."""
        self._put(asked)
        yield Until(asked.bell, until_us if cancel_us is None else min(until_us, cancel_us))
        reply = asked.reply
        if reply is None:
            self._desk.give_up(asked)
            if cancel_us is not None and self.process.kernel.now_us >= cancel_us:
                return None
            raise ServerUnavailable("simulated: no server answers")
        if isinstance(reply, EbbgateError):
            raise reply
        assert not isinstance(reply, AnswerItem), "nobody asks questions here"
        return reply

    def wait(self, waiter: Waiter, bell: Bell, until_us: int | None) -> Steps[None]:
        """See `Gate`."""
        if waiter.outcome is None:
            yield Until(bell, until_us)

    def forget(self, waiter: Waiter) -> None:
        """See `Gate`."""
        self._desk.forget(waiter.lease_id)

    def give_back(self, command: Release) -> Steps[bool]:
        """See `Gate`; without an answer it is sent again as long as there is hope."""
        if not self._was_connected:
            return False  # nothing was ever asked
        asked = SimulatedAsked(ReleaseItem(self._desk.number(), command.id, command.session))
        self._put(asked)
        yield Until(asked.bell, self.process.kernel.now_us + GIVE_BACK_US)
        return isinstance(asked.reply, Ended)

    def counted_from(self, held: Held, started_us: int, duration_us: int) -> int:
        """See `Gate`."""
        del duration_us
        if not self._is_attached:
            self._is_attached = True
            self.owner.attach(self.session)
        return self._desk.counted_from(held.id, started_us)

    def lost(self, ended: Ended) -> bool:
        """Hear that a lease has ended; tell whether it waited here."""
        if ended.id not in self._desk.queued:
            return False
        self._desk.lost(ended)
        return True

    # --- asking

    def _put(self, asked: Asked) -> None:
        self._desk.ask(asked)
        self._look_later()
        if self._end is None:
            self._wanted.ring()
        elif not self._is_flushing:
            self._is_flushing = True
            self.process.soon(self._flush)

    def _flush(self) -> bool | None:
        """Send what was asked in this turn."""
        self._is_flushing = False
        items = self._desk.sending() if self.wire is not None else []
        if not items or self.wire is None:
            return False
        self.wire.say_up(encode_up(items))
        return None

    def _look_later(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self.process.soon(self._look, LOOK_US)

    def _look(self) -> bool:
        """See what time calls for; come back while there is anything."""
        self._is_looking = False
        desk = self._desk
        if self._end is not None:
            if desk.look():
                self._drop()
            else:
                self._flush()
        elif self.clock() - self._broken_us > RELEASES_US:
            desk.drop_releases()
        if desk.is_busy():
            self._look_later()
        return False

    def _received(self, messages: list[Message]) -> None:
        desk = self._desk
        desk.received(messages)
        ended, desk.ended = desk.ended, []
        for loss in ended:
            self.owner.ended(loss)
        if desk.hurried:
            desk.hurried = False
            self.owner.hurry()
        if desk.works:
            desk.works = False
            self._failures = 0
        if desk.goodbye_seconds >= 0:
            self.owner.dialler.leave(self.server, desk.goodbye_seconds)
            self._drop()
        elif desk.is_outdated:
            self._drop()
        else:
            self._flush()

    # --- the connection

    def _connect_for_ever(self) -> Task:
        dialler = self.owner.dialler
        while True:
            if self._end is not None or not self._desk.is_busy() or self._is_closed:
                yield Until(self._wanted, None)
                continue
            yield Sleep(dialler.pause_us(self._failures))
            self._failures += 1
            for server in dialler.order():
                self._epochs += 1
                end = ClientEnd(self.process)
                token = self._desk.newest_token
                hello = HelloItem(
                    GREETING, VERSION, self.session, self._epochs, "main", self.name, 1, None, token
                )
                refusal = yield from dialler.dial(server, end, hello)
                if refusal is None:
                    self._take_over(end, server.name, hello.epoch)
                    break
                if isinstance(refusal, Stale):
                    self._epochs = max(self._epochs, refusal.newest)

    def _take_over(self, end: ClientEnd, server: str, epoch: int) -> None:
        self._end, self.wire, self.server = end, end.wire, server
        self._was_connected, self._is_attached = True, False
        end.received, end.broken = self._received, self._drop
        self._desk.connected(epoch)
        early, end.early = end.early, []
        self._received(early)
        if end.is_over:
            self._drop()
        self.owner.renewals.reconnected()
        self._look_later()

    def _drop(self) -> None:
        """Give a connection up; another one is made if anybody needs it."""
        end, self._end, self.wire = self._end, None, None
        if end is None or end.wire is None:
            return
        end.received = end.broken = None
        if not end.is_over:
            end.wire.close(by_client=True)
        self._broken_us = self.clock()
        self._wanted.ring()

    # --- the end

    def part(self) -> None:
        """Say good-bye, and close the connection."""
        self._is_closed = True
        if self.wire is not None:
            self._flush()
            self.wire.say_up(encode_up([ByeItem(self._desk.number(), self.session)]))
