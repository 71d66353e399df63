"""A server: it decides for the clients that are connected to it. Several servers may share one store.

Its sessions and its end of every stream are the real ones (`ebbgate.server`); simulated are the decider around
the engine, the sockets, and what is asked over REST.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, cast

from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Away, Command, Hello, Outcome, Refused, Told, Waiting
from ebbgate.core.ledger import outcome_of
from ebbgate.core.model import SECOND, Lease, Settings, Stored
from ebbgate.errors import EbbgateError
from ebbgate.server import decider as real
from ebbgate.server.audience import Answered, Audience, Watcher
from ebbgate.server.doing import Doers
from ebbgate.server.lasts import Lasts
from ebbgate.server.sessions import AWAY_GRACE_US, Sessions
from ebbgate.server.socket import StreamSocket
from ebbgate.server.stream import Connection
from ebbgate.testing.simulated.decider import Decider, Job
from ebbgate.testing.simulated.kernel import Bell, Kernel, Process, Sleep, Task, Until
from ebbgate.testing.simulated.loop import SimulatedLoop
from ebbgate.testing.simulated.network import Network
from ebbgate.testing.simulated.store import MEASURED_US, Access
from ebbgate.testing.simulated.wire import Wire

SILENT_US: Final = 20 * SECOND
"""After so long without a word the server closes a connection; that is not certain."""

WATCH_US: Final = 5 * SECOND
REST: Final = "rest"
REST_EPOCH: Final = 1
REST_AGAIN_US: Final = 10 * SECOND
"""How often a request that is held open asks again for its waiter."""


class Host(Protocol):
    """What servers share beside the store."""

    kernel: Kernel
    access: Access
    settings: Settings
    network: Network

    def push(self, address: str) -> None:
        """Hint to whoever listens there that it should look."""


class Caller(Protocol):
    """Who asks over REST, as a server reaches it."""

    process: Process

    def answered(self, number: int, outcomes: Sequence[Outcome] | EbbgateError) -> None:
        """Hear the answer to a request."""


class Front:
    """What the real sessions and connections see of a decider."""

    def __init__(self, server: "Server") -> None:
        """Nobody listens yet."""
        self.audiences: list[Audience] = []
        self.watchers: list[Watcher] = []
        self.troubled: list[Callable[[EbbgateError], None]] = []
        self.doers = Doers()
        self.address = server.name
        self.turn = 0  # rises with every question: nobody is kept waiting for others here
        self.lasts = Lasts()
        self.store = server  # has the clock
        self._server = server

    @property
    def book(self) -> Book:
        """What is known."""
        return self._server.decider.book

    def submit(self, commands: Sequence[Command], answered: Answered) -> None:
        """Have commands carried out."""
        self.turn += 1
        server = self._server

        def tell(job: Job) -> None:
            with server.loop.running():
                answered(job.outcomes if job.error is None else job.error)

        server.decider.submit(Job(commands, tell))


class ServerEnd:
    """The server's end of one connection: the socket under the real `Connection`."""

    is_clogged = False

    def __init__(self, server: "Server", wire: Wire) -> None:
        """Wait for a greeting."""
        self.process = server.process
        self.wire = wire
        self.heard_us = server.host.kernel.now_us
        self._server = server
        self._is_over = False
        with server.loop.running():
            self.connection = Connection(
                cast("real.Decider", server.front), server.sessions, cast("StreamSocket", self), ""
            )
        server.ends[self] = None

    # --- as a socket

    def write(self, data: bytes) -> None:
        """Send one message."""
        self.wire.say_down(data)

    def end(self, code: int, reason: str) -> None:
        """Close the connection."""
        self.process.kernel.note(self.process.name, "closes", self.wire.client.process.name, code, reason)
        self.wire.close(by_client=False)
        self._server.loop.call_soon(self._end, False)

    def adjust(self) -> None:
        """Read on: that is never stopped here."""

    # --- as the end of a wire

    def arrived(self, data: bytes) -> None:
        """See `End`."""
        self.heard_us = self.process.kernel.now_us
        with self._server.loop.running():
            self.connection.received(data)

    def ended(self, *, certain: bool) -> None:
        """See `End`."""
        self._end(certain)

    def _end(self, certain: bool) -> None:
        if not self._is_over:
            self._is_over = True
            self._server.ends.pop(self, None)
            with self._server.loop.running():
                self.connection.ended(certain=certain)

    def look(self) -> None:
        """Close the connection if the client did not answer a ping for long."""
        server, client = self._server, self.wire.client.process
        now_us = server.host.kernel.now_us
        cut = server.host.network.is_cut(server.name, client.name)
        if client.alive and not client.stopped and not cut:
            self.heard_us = now_us
        elif now_us - self.heard_us > SILENT_US:
            self.end(1011, "keepalive ping timeout")


class SimulatedSessions(Sessions):
    """The real ones, but of several servers each speaks for those that came to it last."""

    def __init__(self, server: "Server") -> None:
        """Nobody is connected yet."""
        super().__init__(cast("real.Decider", server.front))
        self._server = server

    def __contains__(self, session: str) -> bool:
        """Tell whether a session is connected."""
        return session in self._present

    def miss_absent(self) -> None:
        """See `Sessions`."""
        server = self._server
        absent = [
            Away(session.id, session.epoch, certain=False, grace_us=AWAY_GRACE_US)
            for session in server.decider.book.sessions.values()
            if session.wake == server.name and session.id not in self and session.away_us < 0
        ]
        with server.loop.running():
            self._say(absent)


class Server:
    """One server process."""

    def __init__(self, host: Host, name: str) -> None:
        """Start; within the recovery grace it expires nothing."""
        self.host = host
        self.name = name
        self.process = Process(host.kernel, name, host.access.call)
        self.loop = SimulatedLoop(self.process)
        self.front = Front(self)
        self.ends: dict[ServerEnd, None] = {}
        self.sessions = SimulatedSessions(self)
        self.is_draining = False
        self._hearing: dict[str, list[Bell]] = {}  # who waits for a lease over REST
        self.decider = Decider(
            self.process,
            host.access,
            host.settings,
            greeting=lambda _book: [],
            took_in=self._took_in,
            tell=self._tell,
            is_mine=lambda session: session in self.sessions or session == REST,
            serves=True,
        )
        self.decider.grace.begin(self.clock())
        self.decider.stalled = self._hurry
        self.decider.committed = self._show
        self.process.start(self.decider.run())
        self.process.start(self._watch())
        self.process.start(self._measure())

    def _watch(self) -> Task:
        """Miss those who fell silent, and after the recovery grace those who did not come back."""
        kernel = self.host.kernel
        began_us, has_missed = kernel.now_us, False
        while True:
            before_us = kernel.now_us
            yield Sleep(WATCH_US)
            stalled = kernel.now_us - before_us > WATCH_US + SECOND
            for end in list(self.ends):
                if stalled:
                    end.heard_us = kernel.now_us  # what arrived meanwhile is read first
                end.look()
            if not has_missed and kernel.now_us - began_us > 30 * SECOND:
                has_missed = True
                self.sessions.miss_absent()

    def clock(self) -> int:
        """Return the store's time, as this server has it."""
        return self.host.access.time_of(self.process)

    def _measure(self) -> Task:
        while True:
            yield Sleep(MEASURED_US)
            self.host.access.measure(self.process)

    def accept(self, wire: Wire) -> ServerEnd:
        """Take a new connection."""
        return ServerEnd(self, wire)

    # --- over REST

    def rest(self, caller: Caller, number: int, commands: Sequence[Command], wait_us: int) -> None:
        """A request arrives; with `wait_us` it is held open so long for a waiter whose turn has not come."""
        self.process.start(self._answer(caller, number, commands, wait_us))

    def _answer(self, caller: Caller, number: int, commands: Sequence[Command], wait_us: int) -> Task:
        kernel, network = self.host.kernel, self.host.network
        until_us = kernel.now_us + wait_us
        while True:
            job = self._rest_job(commands)
            yield Until(self.decider.submit(job).bell, None)
            if _is_unknown(job):
                continue
            outcome = job.outcomes[-1] if job.outcomes else None
            left_us = until_us - kernel.now_us
            if not caller.process.alive and not network.is_cut(self.name, caller.process.name):
                return  # the connection of its request is closed
            if not isinstance(outcome, Waiting) or left_us <= 0 or self.is_draining:
                break
            bell = Bell()
            self._hearing.setdefault(outcome.id, []).append(bell)
            yield Until(bell, kernel.now_us + min(left_us, REST_AGAIN_US))
        answer: Sequence[Outcome] | EbbgateError = (
            job.outcomes[-len(commands) :] if job.error is None else job.error
        )
        network.send(self.process, caller.process, lambda: caller.answered(number, answer))

    def _rest_job(self, commands: Sequence[Command]) -> Job:
        mine = [replace(c, wake=self.name) if isinstance(c, Acquire) else c for c in commands]
        if REST in self.decider.book.sessions:
            return Job(mine)
        return Job([Hello(REST, REST_EPOCH), *mine])

    # --- who is told

    def _tell(self, told: Told) -> None:
        if not self._pass_on(told) and told.wake not in {"", self.name}:
            self.host.push(told.wake)

    def _pass_on(self, told: Told) -> bool:
        with self.loop.running():
            if any(audience.tell(told) for audience in self.front.audiences):
                return True
        bells = self._hearing.pop(told.id, [])
        for bell in bells:
            bell.ring()
        return bool(bells)

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        """Pass on what others' commits mean for the clients that are connected here."""
        self._show(stored)
        if stored is None:
            with self.loop.running():
                self.sessions.reloaded(self.decider.book)
            self._wake_all()
            return
        for entry in stored:
            lease = entry.record
            if isinstance(lease, Lease) and lease.state != "waiting" and lease.why != "released":
                self._pass_on(Told(lease.id, lease.session, "", outcome_of(lease)))

    def _show(self, stored: Sequence[Stored] | None) -> None:
        with self.loop.running():
            for watcher in self.front.watchers:
                watcher(stored, self.clock())

    def _wake_all(self) -> None:
        hearing, self._hearing = self._hearing, {}
        for bells in hearing.values():
            for bell in bells:
                bell.ring()

    def _hurry(self) -> None:
        """The store's clock ran ahead: a lease may end, by it, long before its next renewal is due."""
        with self.loop.running():
            self.sessions.hurry()

    # --- the end

    def drain(self, after_seconds: float) -> None:
        """Ask everybody to come back later, or at another server."""
        self.is_draining = True
        self._wake_all()
        with self.loop.running():
            self.sessions.drain(after_seconds)

    def stop(self) -> None:
        """End in order: that connections end now says nothing about the clients."""
        self.sessions.close()


def _is_unknown(job: Job) -> bool:
    return any(isinstance(it, Refused) and it.code == "unknown_session" for it in job.outcomes)
