"""A client process that talks to servers by messages, with a clock of its own.

It keeps what is not answered yet. Connected again, under a higher epoch, it sends all of it once more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ebbgate.client.embedded.hearing import Hearing
from ebbgate.client.renewal import Upkeep
from ebbgate.client.waiting import Heard, Waiter
from ebbgate.core.commands import Acquire, Command, Done, Ended, Held, Outcome, Refused, Release, Renew
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, ServerUnavailable
from ebbgate.testing import history as h
from ebbgate.testing.simulated.client import Steps, renew_for_ever
from ebbgate.testing.simulated.kernel import STARTED_US, Bell, Kernel, Process, Sleep, Task, Until
from ebbgate.testing.simulated.network import Network
from ebbgate.testing.simulated.server import SILENT_US, Reply, Server
from ebbgate.testing.simulated.store import Access

RPC_US: Final = 5 * SECOND
"""How long a call waits for its answer before it fails as unavailable."""

GREET_US: Final = 2 * SECOND
ASK_AGAIN_US: Final = 10 * SECOND
"""How often a waiter asks what became of it: what it was told may be lost."""


class Outside(Protocol):
    """What clients of servers share."""

    kernel: Kernel
    access: Access
    network: Network
    servers: dict[str, Server]

    def record(self, event: h.AnyEvent) -> None:
        """Write down what a client saw."""


@dataclass(slots=True)
class Pending:
    """A request without an answer."""

    commands: Sequence[Command]
    sent_us: int = -1  # last, by the local clock
    reply: Reply | None = None
    bell: Bell = field(default_factory=Bell)


class RemoteProcess:
    """A client process."""

    def __init__(self, outside: Outside, name: str, drift: float) -> None:
        """Start; its clock runs `1 + drift` times as fast as true time."""
        kernel = outside.kernel
        self.outside = outside
        self.name = name
        self.process = Process(kernel, name, outside.access.call)
        self.session = kernel.new_id()
        self.epoch = 0
        self.hearing = Hearing()
        self.upkeep = Upkeep(self.hearing.holding, kernel.random.uniform)
        self.renew = Bell()
        self._rate = 1.0 + drift
        self._server: Server | None = None
        self._welcome: Outcome | None = None
        self._connected = False
        self._line = Bell()  # rung when something about the connection changed
        self._pending: dict[int, Pending] = {}
        self._numbers = 0
        self._asked: dict[str, Acquire] = {}  # what waits, as it was asked
        self._surely_us: dict[str, int] = {}  # lease -> until when it surely lasts, by the local clock
        self.process.start(self._connect_for_ever())
        self.process.start(renew_for_ever(self))

    # --- the connection

    def _connect_for_ever(self) -> Task:
        kernel, random = self.outside.kernel, self.outside.kernel.random
        while True:
            if self._connected:
                yield Until(self._line, None)
                continue
            names = sorted(self.outside.servers)
            if not names:
                yield Sleep(kernel.between(SECOND // 2, 2 * SECOND))
                continue
            server = self._server = self.outside.servers[random.choice(names)]
            self.epoch += 1
            self._welcome = None
            self._greet(server, self.epoch)
            yield Until(self._line, kernel.now_us + GREET_US)
            if self._is_welcome():
                self._connected = True
                self.hurry()
                for number in list(self._pending):
                    self._send(number)
            else:
                yield Sleep(kernel.between(SECOND // 10, SECOND))

    def _greet(self, server: Server, epoch: int) -> None:
        self.outside.network.send(
            self.process, server.process, lambda: server.greet(self, self.session, epoch)
        )

    def _is_welcome(self) -> bool:
        return isinstance(self._welcome, Done)

    def welcomed(self, server: Server, epoch: int, outcome: Outcome) -> None:
        """See `Peer`."""
        if epoch == self.epoch and server is self._server and not self._connected:
            self._welcome = outcome
            self._line.ring()

    def closed(self, server: Server, epoch: int) -> None:
        """See `Peer`."""
        if server is self._server and epoch == self.epoch and self._connected:
            self._connected = False
            self._line.ring()
            # The server may not know: to it this connection falls silent.
            server.process.soon(lambda: server.silent(self.session, epoch), SILENT_US)

    def hurry(self) -> None:
        """See `Peer`."""
        self.upkeep.hurry(self.clock())
        self.renew.ring()

    def notice_silence(self, server: Server, epoch: int) -> None:
        """Nothing was heard for long: close the connection, and open another."""
        self.closed(server, epoch)

    @property
    def connection(self) -> tuple[Server, int] | None:
        """Return the server it speaks to, and under which epoch."""
        return (self._server, self.epoch) if self._server is not None else None

    # --- calls

    def _send(self, number: int) -> None:
        pending, server, epoch = self._pending[number], self._server, self.epoch
        if server is None or not self._connected:
            return
        pending.sent_us = self.clock()
        commands = [_under(command, epoch) for command in pending.commands]
        self.outside.network.send(
            self.process, server.process, lambda: server.ask(self, self.session, epoch, number, commands)
        )

    def answered(self, epoch: int, number: int, reply: Reply) -> None:
        """See `Peer`."""
        pending = self._pending.get(number)
        if pending is None or epoch != self.epoch:
            return
        if any(_is_of_another_session(outcome) for outcome in reply.outcomes):
            if self._server is not None:
                self.closed(self._server, epoch)  # the store forgot this session: greet, and ask again
            return
        del self._pending[number]
        pending.reply = reply
        pending.bell.ring()

    def call(
        self, commands: Sequence[Command], waiter: Waiter | None, until_us: int | None
    ) -> Steps[list[Outcome] | None]:
        """Carry out commands; None when the true instant `until_us` came first."""
        now_us = self.outside.kernel.now_us
        self._numbers += 1
        number = self._numbers
        pending = self._pending[number] = Pending(commands)
        self._send(number)
        end_us = now_us + RPC_US
        if waiter is not None and isinstance(commands[-1], Acquire):
            self._asked[waiter.lease_id] = commands[-1]
        yield Until(pending.bell, end_us if until_us is None else min(end_us, until_us))
        self._pending.pop(number, None)
        reply = pending.reply
        if reply is None:
            if until_us is not None and self.outside.kernel.now_us >= until_us:
                return None
            raise ServerUnavailable("simulated: no server answers")
        if reply.error is not None:
            raise reply.error
        outcome = reply.outcomes[-1]
        if isinstance(outcome, Held):
            # Not before it was asked for the last time, and then so much was left at most.
            self._surely_us[outcome.id] = pending.sent_us + outcome.expires_us - reply.store_us
        return reply.outcomes

    def told(self, epoch: int, lease_id: str, outcome: Heard) -> None:
        """See `Peer`."""
        if epoch == self.epoch:
            self.hearing.hear(lease_id, outcome)

    def wait(self, waiter: Waiter, bell: Bell, until_us: int | None) -> Steps[None]:
        """Return when `waiter` has its outcome, at the true instant `until_us` at most.

        It asks again now and then, and always before it believes a grant that it was told: only an answer tells
        from when on the countdown is counted.
        """
        kernel = self.outside.kernel
        command = self._asked[waiter.lease_id]
        while until_us is None or kernel.now_us < until_us:
            hint = self.hearing.waiters[waiter.lease_id] = Waiter(waiter.lease_id)
            hint.notify = bell.ring
            pause_us = kernel.now_us + ASK_AGAIN_US
            yield Until(bell, pause_us if until_us is None else min(until_us, pause_us))
            try:
                outcomes = yield from self.call((command,), None, until_us)
            except EbbgateError:
                continue
            if outcomes and isinstance(outcomes[0], Held | Ended | Refused):
                waiter.outcome = outcomes[0]
                break
        self.hearing.waiters.pop(waiter.lease_id, None)

    # --- what else clients need

    def clock(self) -> int:
        """Return the local time, by a clock that drifts."""
        return int((self.outside.kernel.now_us - STARTED_US) * self._rate)

    def true_us(self, local_us: int) -> int:
        """Return the first true instant at which the local clock shows this."""
        return STARTED_US + math.ceil(local_us / self._rate)

    def wake(self) -> str:
        """Return something: the server puts its own address there."""
        return "connection"

    def sizes(self, names: tuple[str, ...]) -> dict[str, int]:
        """Return nothing: nobody here warns of nested waits."""
        del names
        return {}

    def counted_from(self, held: Held, started_us: int, duration_us: int) -> int:
        """Return the local instant from which the countdown of a new lease is surely counted."""
        until_us = self._surely_us.pop(held.id, started_us + duration_us)
        return min(until_us - duration_us, self.clock())

    def record(self, event: h.AnyEvent) -> None:
        """Write down what this client saw."""
        self.outside.record(event)


def _under(command: Command, epoch: int) -> Command:
    """Return a command as it is sent under the present epoch."""
    return replace(command, epoch=epoch) if isinstance(command, Acquire | Release | Renew) else command


def _is_of_another_session(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.code in {"unknown_session", "stale_session"}
