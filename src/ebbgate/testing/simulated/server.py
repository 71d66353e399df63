"""A server: it decides for the clients that are connected to it. Several servers may share one store.

There is no real server yet; this one keeps the rules of `semantics.md` that concern it, so that the core, the
engine and the flows are proven behind it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from ebbgate.client.waiting import Heard
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Away, Command, Done, Hello, Outcome, Told
from ebbgate.core.ledger import outcome_of
from ebbgate.core.model import SECOND, Lease, Settings, Stored
from ebbgate.errors import EbbgateError
from ebbgate.testing.simulated.decider import Decider, Job
from ebbgate.testing.simulated.kernel import Kernel, Process, Sleep, Task
from ebbgate.testing.simulated.network import Network
from ebbgate.testing.simulated.store import Access

AWAY_GRACE_US: Final = 10 * SECOND
SILENT_US: Final = 20 * SECOND
"""After so long without a word the server closes a connection; that is not certain."""


class Host(Protocol):
    """What servers share beside the store."""

    kernel: Kernel
    access: Access
    settings: Settings
    network: Network

    def push(self, address: str) -> None:
        """Hint to whoever listens there that it should look."""


class Peer(Protocol):
    """A client, as a server reaches it."""

    process: Process

    def welcomed(self, server: "Server", epoch: int, outcome: Outcome) -> None:
        """Hear the answer to a greeting."""

    def answered(self, epoch: int, number: int, reply: "Reply") -> None:
        """Hear the answer to a request."""

    def told(self, epoch: int, lease_id: str, outcome: Heard) -> None:
        """Hear what became of a lease."""

    def closed(self, server: "Server", epoch: int) -> None:
        """Hear that the connection is closed."""

    def hurry(self) -> None:
        """Hear that every lease should be renewed now."""


class Reply(NamedTuple):
    """What became of one request."""

    outcomes: list[Outcome]
    error: EbbgateError | None
    store_us: int  # the store's clock when it was answered


class Connection(NamedTuple):
    """One connected client."""

    peer: Peer
    epoch: int


class Server:
    """One server process."""

    def __init__(self, host: Host, name: str) -> None:
        """Start; within the recovery grace it expires nothing."""
        self.host = host
        self.name = name
        self.process = Process(host.kernel, name, host.access.call)
        self.connections: dict[str, Connection] = {}
        self.decider = Decider(
            self.process,
            host.access,
            host.settings,
            greeting=lambda _book: [],
            took_in=self._took_in,
            tell=self._tell,
            is_mine=lambda session: session in self.connections,
            serves=True,
        )
        self.decider.grace.begin(host.access.clock())
        self.decider.stalled = self._hurry
        self.process.start(self.decider.run())
        self.process.start(self._miss_absent())

    def _miss_absent(self) -> Task:
        """After the recovery grace: say of those who were served here before and did not come back, they are away."""
        yield Sleep(30 * SECOND)
        book: Book = self.decider.book
        absent = [
            Away(session.id, session.epoch, certain=False, grace_us=AWAY_GRACE_US)
            for session in book.sessions.values()
            if session.wake == self.name and session.id not in self.connections and session.away_us < 0
        ]
        if absent:
            self.decider.submit(Job(absent))

    def _hurry(self) -> None:
        """The store's clock ran ahead: a lease may end, by it, long before its next renewal is due."""
        for peer, _ in self.connections.values():
            self.host.network.send(self.process, peer.process, peer.hurry, sure=True)

    # --- what arrives

    def greet(self, peer: Peer, session: str, epoch: int) -> None:
        """A client connects."""

        def answered(job: Job) -> None:
            outcome = job.outcomes[0] if job.outcomes else None
            if isinstance(outcome, Done):
                known = self.connections.get(session)
                if known is None or known.epoch <= epoch:
                    self.connections[session] = Connection(peer, epoch)
            if outcome is not None:
                self._send(peer, lambda: peer.welcomed(self, epoch, outcome))

        self.decider.submit(
            Job((Hello(session, epoch, peer.process.name, 1, None, -1, self.name),), answered)
        )

    def ask(self, peer: Peer, session: str, epoch: int, number: int, commands: Sequence[Command]) -> None:
        """A request arrives."""
        connection = self.connections.get(session)
        if connection is None or connection.epoch < epoch:
            self._send(peer, lambda: peer.closed(self, epoch))  # it speaks to a server that was restarted
            return

        def answered(job: Job) -> None:
            reply = Reply(job.outcomes, job.error, self.host.access.clock())
            self._send(peer, lambda: peer.answered(epoch, number, reply))

        mine = [replace(c, wake=self.name) if isinstance(c, Acquire) else c for c in commands]
        self.decider.submit(Job(mine, answered))

    def gone(self, session: str, epoch: int) -> None:
        """The kernel of a client closed its connection: it is dead, or comes back within the grace."""
        self._leave(session, epoch, certain=True)

    def silent(self, session: str, epoch: int) -> None:
        """A client was not heard of for long: the server closes the connection."""
        self._leave(session, epoch, certain=False)

    def _leave(self, session: str, epoch: int, *, certain: bool) -> None:
        connection = self.connections.get(session)
        if connection is None or connection.epoch != epoch:
            return
        del self.connections[session]
        self.decider.submit(Job((Away(session, epoch, certain=certain, grace_us=AWAY_GRACE_US),)))
        peer = connection.peer
        self._send(peer, lambda: peer.closed(self, epoch))

    # --- what is told

    def _send(self, peer: Peer, arrive: Callable[[], None]) -> None:
        self.host.network.send(self.process, peer.process, arrive)

    def _push(self, session: str, lease_id: str, outcome: Heard) -> bool:
        connection = self.connections.get(session)
        if connection is None:
            return False
        peer, epoch = connection
        self._send(peer, lambda: peer.told(epoch, lease_id, outcome))
        return True

    def _tell(self, told: Told) -> None:
        if not self._push(told.session, told.id, told.outcome) and told.wake not in {"", self.name}:
            self.host.push(told.wake)

    def _took_in(self, stored: Sequence[Stored] | None) -> None:
        """Pass on what others' commits mean for the clients that are connected here."""
        if stored is not None:
            for entry in stored:
                lease = entry.record
                if isinstance(lease, Lease) and lease.state != "waiting" and lease.why != "released":
                    self._push(lease.session, lease.id, outcome_of(lease))
            return
        unknown = [session for session in self.connections if session not in self.decider.book.sessions]
        for session in unknown:  # the store lost its tail: they greet again, and ask for what they wait for
            connection = self.connections.pop(session)
            self._send_closed(connection)

    def _send_closed(self, connection: Connection) -> None:
        peer, epoch = connection
        self._send(peer, lambda: peer.closed(self, epoch))
