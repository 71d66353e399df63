"""A whole world: processes, servers and clients on one store, from one seed."""

from typing import Final

import ebbgate
from ebbgate.client.terms import Terms
from ebbgate.core.model import SECOND, Settings, Stored
from ebbgate.engine.engine import Batch
from ebbgate.stores.codec import encode
from ebbgate.testing import history as h
from ebbgate.testing import invariants
from ebbgate.testing.simulated.client import Gate, Steps, use
from ebbgate.testing.simulated.decider import Decider
from ebbgate.testing.simulated.embedded import EmbeddedProcess
from ebbgate.testing.simulated.kernel import Kernel, Sleep
from ebbgate.testing.simulated.network import Network
from ebbgate.testing.simulated.once import Once
from ebbgate.testing.simulated.operator import Operator
from ebbgate.testing.simulated.plan import Plan, plan_of
from ebbgate.testing.simulated.remote import RemoteProcess
from ebbgate.testing.simulated.rest import RestProcess
from ebbgate.testing.simulated.server import Server
from ebbgate.testing.simulated.store import Access, SimulatedStore

SHARED: Final = "shared"
RATE: Final = "rate"
OPERATOR: Final = "operator"
RESET_PER_LOSS: Final = 20
"""How many single messages are lost for one connection that is reset."""


class World:
    """Everything that one seed brings about, in virtual time."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        """Set it up; nothing has happened yet."""
        self.seed = seed
        self.plan = plan = plan or plan_of(seed)
        self.kernel = kernel = Kernel(seed)
        self.settings = Settings()
        self.access = access = Access(kernel, SimulatedStore(), far=plan.shape == "servers")
        access.spared = OPERATOR
        access.time.counted = lambda by_us: self.record(h.ClockStepped(when_us=kernel.now_us, by_us=by_us))
        self.network = network = Network(kernel, access.count)
        access.latency_us = (10, 500) if plan.shape == "machine" else (200, 5_000)
        told_us = (30 if plan.shape == "machine" else 120) * SECOND  # messages are lost again and again
        setting = h.Setting(when_us=kernel.now_us, version=ebbgate.__version__, told_us=told_us)
        self.history: list[h.AnyEvent] = [setting]
        self.once = Once()
        access.store.spent = self.once.spent
        self.servers: dict[str, Server] = {}
        self.embedded: dict[str, EmbeddedProcess] = {}
        self.remotes: dict[str, RemoteProcess] = {}
        self.rests: dict[str, RestProcess] = {}
        self.dead: list[EmbeddedProcess | RemoteProcess | RestProcess | Server] = []
        self.draining = False
        self._presences: dict[int, EmbeddedProcess] = {}
        self._born = 0
        self._checked: dict[str, object] = {}
        network.lost, network.late, network.doubled = (
            plan.message_lost,
            plan.message_late,
            plan.message_doubled,
        )
        network.reset = plan.message_lost / RESET_PER_LOSS
        for number in range(plan.servers):
            self.start_server(f"server{number}")
        self.operator = Operator(self._first_gate())
        self.operator.gate.process.start(self._set_up())

    def _first_gate(self) -> Gate:
        if self.plan.shape == "servers":
            return self.start_remote(OPERATOR).channels[0]
        return self.start_embedded(OPERATOR)

    def _set_up(self) -> Steps[None]:
        kernel, operator = self.kernel, self.operator
        yield from operator.create(SHARED, kernel.random.randint(2, 6))
        yield from operator.create(
            RATE, kernel.random.randint(1, 8), kernel.random.choice((0.5, 1.0, 1 / 3, 7.0))
        )
        for number in range(self.plan.tenants):
            yield from operator.create(f"tenant{number}", kernel.random.randint(1, 3))
        self._arm()
        for number in range(self.plan.embedded):
            self.populate(self.start_embedded(f"e{number}"))
        for number in range(self.plan.remotes):
            self.populate(*self.start_remote(f"r{number}").channels)
        for number in range(self.plan.rests):
            self.populate(self.start_rest(f"h{number}"))

    def _arm(self) -> None:
        plan, access = self.plan, self.access
        access.lost_request, access.lost_answer = plan.lost_request, plan.lost_answer
        access.crash = plan.crash
        access.late_commit = 0.3 if plan.shape == "servers" else 0.0

    # --- who lives here

    def start_server(self, name: str) -> Server:
        """Start a server, or start it again."""
        server = self.servers[name] = Server(self, name)
        server.decider.decided = self._check_decided
        return server

    def start_embedded(self, name: str) -> EmbeddedProcess:
        """Start a process that decides for itself."""
        self._born += 1
        made = EmbeddedProcess(self, name, self._born)
        self._presences[self._born] = made
        made.decider.decided = self._check_decided
        self.embedded[name] = made
        self.record(h.Started(when_us=self.kernel.now_us, client=name))
        return made

    def start_remote(self, name: str) -> RemoteProcess:
        """Start a client of servers, over streams."""
        drift = self.kernel.random.uniform(-self.plan.drift, self.plan.drift)
        made = self.remotes[name] = RemoteProcess(self, name, drift, self.plan.channels)
        self.record(h.Started(when_us=self.kernel.now_us, client=name))
        return made

    def start_rest(self, name: str) -> RestProcess:
        """Start a client of servers, over REST."""
        made = self.rests[name] = RestProcess(self, name)
        self.record(h.Started(when_us=self.kernel.now_us, client=name))
        return made

    def populate(self, *gates: Gate) -> None:
        """Let callers live in a process; they ask by any of its gates."""
        for number in range(max(self.plan.callers, len(gates))):
            gate = gates[number % len(gates)]
            gate.process.start(self._live(gate))

    def next_name(self, name: str) -> str:
        """Return the name of the process that comes after one that died."""
        first, _, number = name.partition(".")
        return f"{first}.{int(number or 0) + 1}"

    # --- what processes ask of the world

    def record(self, event: h.AnyEvent) -> None:
        """Write down what a client saw."""
        self.history.append(event)
        match event:
            case h.Asked():
                self.once.asked(
                    event.lease,
                    event.when_us,
                    forgetful=event.client in self.rests,
                    embedded=event.client in self.embedded,
                )
            case h.Queued():
                self.once.queued(event.lease)
            case h.Released():
                self.once.returned(event.lease, event.when_us, self.access.store.head.token)
            case h.StoreLost():
                self.once.store_lost(event.when_us)
            case _:
                pass
        self.kernel.note(event.client or "world", event)

    def is_alive(self, presence: int) -> bool:
        """Tell what the kernel of the machine knows."""
        return self._presences[presence].process.alive

    def push(self, address: str) -> None:
        """Hint to whoever listens there that it should look."""
        target = self.servers.get(address, self.embedded.get(address))
        if target is None:
            return
        if self.kernel.happens(self.plan.hint_lost):
            self.access.count("hint lost")
            return
        target.process.soon(target.decider.look, self.kernel.between(10, 1_000))

    # --- what callers do

    def _live(self, gate: Gate) -> Steps[None]:
        kernel = self.kernel
        while not self.draining:
            yield Sleep(kernel.between(self.plan.think_us // 10, self.plan.think_us * 4))
            terms = self._terms()
            hold_us = kernel.between(max(self.plan.hold_us // 20, 1), self.plan.hold_us * 4)
            if kernel.happens(self.plan.long_holds):
                hold_us = kernel.between(60 * SECOND, 400 * SECOND)
            elif kernel.happens(self.plan.hour_holds):
                hold_us = 3_600 * SECOND
            cancel_us = kernel.now_us + kernel.between(1_000, 60 * SECOND) if kernel.happens(0.1) else None
            if cancel_us is not None:
                self.access.count("cancelled")
            yield from use(gate, terms, kernel.new_id(), hold_us, cancel_us)

    def _terms(self) -> Terms:
        chance = self.kernel.random
        names = self.operator.names()
        kind = chance.random()
        slots = chance.choice((1, 1, 1, 2))
        if kind < 0.2 or not names:
            wanted = {name: slots for name in names if name.startswith(RATE)}
        elif kind < 0.6:
            wanted = {chance.choice(names): slots}
        else:
            wanted = {name: chance.choice((1, 1, 2)) for name in chance.sample(names, min(2, len(names)))}
            if chance.random() < 0.5:
                wanted |= {name: 1 for name in names if name.startswith(SHARED)}
        if chance.random() < 0.01:
            wanted["never-was"] = 1
        timeout = chance.choice((None, None, 0, 1_000_000, 20_000_000, 120_000_000))
        return Terms(
            tuple(sorted(wanted.items())) or (("never-was", 1),),
            kind < 0.2,
            timeout,
            duration_us=chance.choice((60, 60, 60, 90, 120, 300)) * SECOND,
            strict=chance.random() < 0.05,
            raise_on_loss=chance.random() < 0.3,
            priority=chance.choice((0, 0, 0, 0, 0, 0, 1, -1)),
        )

    # --- running

    def step(self) -> bool:
        """Let the next thing happen, and check what must hold after every step."""
        if not self.kernel.step():
            return False
        self.check_books()
        return True

    def deciders(self) -> list[Decider]:
        """Return all that decide and live."""
        owners: list[Server | EmbeddedProcess] = [*self.servers.values(), *self.embedded.values()]
        return [owner.decider for owner in owners if owner.process.alive]

    def _check_decided(self, decider: Decider, batch: Batch) -> None:
        """Check a book right after a decision: nobody was left outside at that instant, nothing given twice."""
        invariants.check(decider.book, decider.book.now_us)
        self.once.decided(batch.outcomes, batch.told, self.kernel.now_us)

    def check_books(self) -> None:
        """Check every book that changed, as long as no decision is under way in it."""
        store = self.access.store
        for decider in self.deciders():
            if not decider.process.ran:
                continue
            decider.process.ran = False
            version = decider.engine.version
            if version is None or decider.book.undecided():
                continue
            if self._checked.get(decider.process.name) == (version, decider.book.now_us):
                continue
            self._checked[decider.process.name] = (version, decider.book.now_us)
            book = decider.book
            invariants.check(book, max(book.now_us, book.head.instant_us, decider.planned_us))
            if version == store.version:
                _check_equal(decider, store)


def _check_equal(decider: Decider, store: SimulatedStore) -> None:
    """Check that a book that is up to date equals the store's records."""
    book = decider.book
    records: list[Stored] = [Stored("limit", i, limit) for i, limit in book.limits.items()]
    records += [Stored("meter", i, live.meter) for i, live in book.lives.items() if live.meter is not None]
    records += [Stored("session", i, session) for i, session in book.sessions.items()]
    records += [Stored("request", i, request) for i, request in book.requests.items()]
    records += [Stored("lease", i, lease) for i, lease in book.leases.items()]
    mine = {(row.kind, row.id): row.body for row in encode(records)}
    theirs = {key: row.body for key, row in store.rows.items()}
    if mine != theirs:
        different = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        shown = [(key, mine.get(key), theirs.get(key)) for key in different[:3]]
        raise AssertionError(f"the book of {decider.process.name} is not what the store has: {shown}")
    assert book.head == store.head, f"{book.head} is not the store's head {store.head}"
