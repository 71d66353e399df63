"""Several books that share one history, driven by the same commands, and the plain reference beside them."""

import copy
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from ebbgate.core.book import Book, Decision
from ebbgate.core.commands import (
    Acquire,
    Away,
    Command,
    CoolDown,
    DeleteLimit,
    Held,
    Hello,
    Outcome,
    PutLimit,
    Refused,
    Release,
    ReleaseSlots,
    Renew,
    Revoke,
    Tick,
    wanted,
)
from ebbgate.core.model import (
    SECOND,
    Lease,
    Limit,
    ManagementRequest,
    Meter,
    Record,
    Remembers,
    Session,
    Settings,
    Stored,
)
from ebbgate.testing import invariants
from ebbgate.testing.reference import ReferenceBook

T0 = 1_700_000_000_000_000
MINUTE = 60 * SECOND

REMEMBERS: Mapping[str, Remembers] = {"s": "everything", "t": "nothing", "u": "spends"}


def limit_id(number: int) -> str:
    return str(UUID(int=number))


def copied(record: Record | None) -> Record | None:
    """Return a record of its own, as one that came through a store."""
    return copy.copy(record)


def all_records(book: Book) -> list[Stored]:
    """Return everything a store would hold, in an order of its own."""
    stored: list[Stored] = [Stored("lease", lease.id, copied(lease)) for lease in book.leases.values()]
    stored += [Stored("meter", live.meter.id, live.meter) for live in book.lives.values() if live.meter]
    stored += [Stored("session", session.id, copied(session)) for session in book.sessions.values()]
    stored += [Stored("request", request.id, copied(request)) for request in book.requests.values()]
    stored += [Stored("limit", limit.id, copied(limit)) for limit in book.limits.values()]
    return stored


def plain(record: Record | None) -> object:
    """Return what a record says, comparable."""
    if isinstance(record, Lease):
        return tuple(getattr(record, name) for name in Lease.__slots__)
    if isinstance(record, Limit | Session | ManagementRequest):
        return tuple(getattr(record, name) for name in type(record).__slots__)
    return tuple(record) if isinstance(record, Meter) else None


def state_of(book: Book) -> dict[tuple[str, str], object]:
    return {(stored.kind, stored.id): plain(stored.record) for stored in all_records(book)}


def changes_of(decision: Decision) -> dict[tuple[str, str], object]:
    changes: dict[tuple[str, str], object] = {
        (stored.kind, stored.id): (stored.keep, plain(stored.record)) for stored in decision.changes
    }
    assert len(changes) == len(decision.changes), "a commit names a record twice"
    return changes


def seen(decision: Decision) -> tuple[object, ...]:
    """Return what a decision says, comparable and safe from later changes."""
    return (decision.outcomes, decision.told, changes_of(decision), decision.head)


@dataclass
class Desk:
    """One book, one session "s", and a clock: for examples."""

    settings: Settings = field(default_factory=Settings)
    now: int = T0
    book: Book = field(init=False)
    number: int = 0

    def __post_init__(self) -> None:
        self.book = Book(self.settings)
        self.do(Hello("s", 1, host="here", pid=7))

    def decide(self, *commands: Command) -> Decision:
        decision = self.book.decide(commands, self.now)
        changes_of(decision)
        invariants.check(self.book, self.now)
        decision = decision._replace(changes=[s._replace(record=copied(s.record)) for s in decision.changes])
        self.book.confirm(decision.head)
        return decision

    def do(self, command: Command) -> Outcome:
        return self.decide(command).outcomes[0]

    def after(self, seconds: float, *commands: Command) -> Decision:
        """Let time pass; then decide, a `Tick` if nothing else."""
        self.now += round(seconds * SECOND)
        return self.decide(*(commands or (Tick(),)))

    def limit(
        self, name: str, limit: int | None = 1, *, decay: float | None = None, active: bool | None = None
    ) -> str:
        """Put a limit, and return its id."""
        self.now += 1
        self.number += 1
        done = self.do(
            PutLimit(
                f"r{self.number}", "put", name, limit_id(self.number),
                limit=limit, slot_decay_per_second=decay, active=active,
            )
        )  # fmt: skip
        assert not isinstance(done, Refused), done
        return self.book.names[name].limit.id

    def ask(
        self,
        lease_id: str,
        names: str | list[str] | dict[str, int],
        occupy: int = 1,
        *,
        session: str = "s",
        seconds: float = 300,
        **more: object,
    ) -> Outcome:
        duration_us = round(seconds * SECOND)
        command = Acquire(lease_id, session, 1, wanted(names, occupy), duration_us)
        return self.do(replace(command, **more))  # type: ignore[arg-type]  # whatever else it can be

    def release(self, lease_id: str, session: str = "s") -> Decision:
        return self.decide(Release(lease_id, session, 1))

    def renew(
        self, lease_id: str, session: str = "s", *, retake: bool = True, seconds: float = 300
    ) -> Outcome:
        return self.do(Renew(lease_id, session, 1, round(seconds * SECOND), retake))

    def state(self, lease_id: str) -> str:
        lease = self.book.leases.get(lease_id)
        return "" if lease is None else f"{lease.state} {lease.why}".strip()

    def lease(self, lease_id: str) -> Lease:
        return self.book.leases[lease_id]


class Broken(Exception):  # noqa: N818 - also given as a command, which it is not
    """A defect."""


class World:
    """Books that take turns in deciding one history, each taking in what the others committed.

    Every decision is compared with the reference's; every book's records with the reference's afterwards.
    """

    def __init__(self, settings: Settings, *, books: int = 3, now: int = T0) -> None:
        self.settings = settings
        self.now = now
        self.books = [Book(settings) for _ in range(books)]
        self.reference = ReferenceBook(settings)
        self.limits = 0
        self.leases = 0
        self.requests = 0
        self.grants: list[str] = []

    def step(
        self,
        commands: Sequence[Command],
        *,
        decider: int = 0,
        undone: Sequence[int] = (),
        looks: Sequence[int] = (),
        broken: Sequence[int] = (),
    ) -> list[Outcome]:
        """Let one book decide.

        Args:
            commands: what is asked.
            decider: which book.
            undone: books that decide the same before, in vain.
            looks: books that are asked before when something is due.
            broken: books that fail before, half way.
        """
        for index in broken:
            self._break(self.books[index], commands)
        for index in looks:
            self.books[index].next_due(self.now)
        expected = seen(self.reference.decide(commands, self.now))
        for index in undone:
            self._in_vain(self.books[index], commands, expected)
        book = self.books[decider]
        decision = book.decide(commands, self.now)
        assert seen(decision) == expected
        invariants.check(book, self.now)
        changes = [stored._replace(record=copied(stored.record)) for stored in decision.changes]
        self.reference.confirm(decision.head)
        book.confirm(decision.head)
        for other in self.books:
            if other is not book:
                other.apply(decision.head, [s._replace(record=copied(s.record)) for s in changes])
        self.grants += [told.id for told in decision.told if isinstance(told.outcome, Held)]
        self.compare()
        return decision.outcomes

    def _in_vain(self, book: Book, commands: Sequence[Command], expected: tuple[object, ...]) -> None:
        before = state_of(book)
        assert seen(book.decide(commands, self.now)) == expected
        book.rollback()
        assert state_of(book) == before
        invariants.check(book, self.now)

    def _break(self, book: Book, commands: Sequence[Command]) -> None:
        """Have a decision fail before it has settled what its last command did."""
        before = state_of(book)
        settle, calls = book.queue.settle, itertools.count()

        def fails(now_us: int, admit: Callable[[Lease, int], None] | None) -> list[Lease]:
            if next(calls) == len(commands) // 2:
                raise Broken
            return settle(now_us, admit)

        book.queue.settle = fails  # type: ignore[method-assign]
        try:
            book.decide([*commands, Broken()], self.now)  # type: ignore[list-item]  # nor is this a command
        except (Broken, TypeError, AttributeError):
            pass
        finally:
            del book.queue.settle
        book.rollback()
        assert state_of(book) == before
        invariants.check(book, self.now)

    def compare(self) -> None:
        expected = state_of(self.reference)
        for book in self.books:
            assert state_of(book) == expected
            assert book.head == self.reference.head
            invariants.check(book, self.now)

    def reload(self, index: int) -> None:
        """Replace a book by one that has read everything anew."""
        source = self.books[index]
        self.books[index] = Book(self.settings)
        self.books[index].load(source.head, all_records(source))

    def next_due(self, index: int) -> int:
        """Return when something is due, having made sure that nothing is due before."""
        at_us = self.books[index].next_due(self.now).at_us
        assert at_us < 0 or at_us >= 0
        before_us = at_us - 1 if at_us >= 0 else self.now + 3_600 * SECOND
        if before_us > self.now:
            self.reference.now_us = before_us
            early = self.reference.decide([Tick()], before_us)
            forgotten = all(not stored.keep for stored in early.changes)
            assert forgotten, f"due at {at_us}, but before: {early}"
            self.reference.rollback()
            self.reference.seen_us = self.now  # that instant was only tried
        return at_us

    # --- who and what there is

    def ids(self, *states: str) -> list[str]:
        return [lease.id for lease in self.reference.leases.values() if lease.state in states]

    def names(self) -> list[str]:
        return sorted(self.reference.names)


class Dice:
    """Draws a random history; `random.Random` for speed, or hypothesis for shrinking, behind one face."""

    def __init__(self, source: random.Random) -> None:
        self.r = source

    def commands(self, world: World) -> list[Command]:
        return [self.command(world) for _ in range(self.r.choice((1, 1, 1, 2, 4)))]

    def command(self, world: World) -> Command:
        gone = [name for name in ("s", "t", "u") if name not in world.reference.sessions]
        if gone and self.r.random() < 0.5:
            name = self.r.choice(gone)
            return Hello(name, 1, remembers=REMEMBERS[name])
        choose = self.r.choices(
            (self.acquire, self.release, self.put, self.renew, self.hello, self.away, self.delete,
             self.revoke,
             self.tick, self.again, self.cool_down, self.release_slots),
            (40, 22, 7, 4, 2, 1, 1, 2, 6, 3, 2, 4),
        )[0]  # fmt: skip
        return choose(world)

    def session(self) -> str:
        return self.r.choice(("s", "s", "t", "u"))

    def epoch(self, world: World, session_id: str) -> int:
        session = world.reference.sessions.get(session_id)
        return (session.epoch if session else 1) + self.r.choices((0, 1, -1), (60, 1, 1))[0]

    def acquire(self, world: World) -> Command:
        r = self.r
        world.leases += 1
        pool = [*world.names(), *world.names(), "nobody"] if r.random() < 0.1 else world.names() or ["nobody"]
        names = r.sample(pool, min(len(pool), r.choice((1, 1, 2, 2, 3))))
        slots = wanted({name: r.choice((1, 1, 1, 2, 3)) for name in names})
        session = self.session()
        return Acquire(
            f"l{world.leases}", session, self.epoch(world, session), slots,
            r.choice((60, 61, 90, 300)) * SECOND if r.random() < 0.99 else 1,
            spend=r.random() < 0.25, wait=r.random() < 0.95, strict=r.random() < 0.2,
            priority=r.choice((0, 0, 0, 0, 1, -1)), wake=r.choice(("", "w")), attended=r.random() < 0.8,
        )  # fmt: skip

    def again(self, world: World) -> Command:
        """Ask for a known lease once more, with the same or other slots."""
        known = list(world.reference.leases.values())
        if not known:
            return self.acquire(world)
        lease = self.r.choice(known)
        slots = lease.asked if self.r.random() < 0.8 else (("x", 1),)
        return Acquire(
            lease.id, lease.session, self.epoch(world, lease.session), slots, lease.duration_us,
            spend=lease.kind == "spend", wake=self.r.choice(("", "w")), attended=lease.attend_due_us < 0,
        )  # fmt: skip

    def lease(self, world: World, *states: str) -> tuple[str, str]:
        ids = world.ids(*states) if self.r.random() < 0.9 else world.ids("held", "waiting", "ended")
        if not ids:
            return "unknown", self.session()
        lease = world.reference.leases[self.r.choice(ids)]
        return lease.id, lease.session if self.r.random() < 0.97 else self.session()

    def release(self, world: World) -> Command:
        lease_id, session = self.lease(
            world, *self.r.choices((("held",), ("waiting",), ("ended",)), (8, 3, 1))[0]
        )
        return Release(lease_id, session, self.epoch(world, session))

    def release_slots(self, world: World) -> Command:
        """Release one slot of one of a lease's limits, or of all; sometimes with a request id that is known."""
        lease_id, session = self.lease(world, self.r.choice(("held", "held", "ended")))
        lease = world.reference.leases.get(lease_id)
        ids = [limit_id for limit_id, _ in lease.slots] if lease else []
        if ids and self.r.random() < 0.5:
            ids = [self.r.choice(ids)]
        world.requests += 1
        request = f"r{world.requests if self.r.random() < 0.95 else max(1, world.requests - 1)}"
        return ReleaseSlots(
            request, lease_id, session, self.epoch(world, session), tuple((id_, 1) for id_ in ids or ["x"])
        )

    def renew(self, world: World) -> Command:
        lease_id, session = self.lease(world, self.r.choice(("held", "ended")))
        duration_us = self.r.choice((60, 120)) * SECOND
        return Renew(lease_id, session, self.epoch(world, session), duration_us, self.r.random() < 0.9)

    def revoke(self, world: World) -> Command:
        return Revoke(self.lease(world, "held", "waiting")[0])

    def hello(self, world: World) -> Command:
        session = self.session()
        return Hello(
            session, self.epoch(world, session), remembers=REMEMBERS[session], wake=self.r.choice(("", "v"))
        )

    def away(self, world: World) -> Command:
        session = self.session()
        grace_us = self.r.choice((0, 10)) * SECOND
        return Away(session, self.epoch(world, session), self.r.random() < 0.5, grace_us)

    def tick(self, world: World) -> Command:
        return Tick(self.r.random() < 0.9)

    def cool_down(self, world: World) -> Command:
        seconds = self.r.choice((0, 0, 1, 5, 40, 90))
        return CoolDown(self.r.choice(world.names() or ["x"]), seconds * SECOND, "busy")

    def delete(self, world: World) -> Command:
        return DeleteLimit(self.r.choice(world.names() or ["x"]), force=self.r.random() < 0.7)

    def put(self, world: World) -> Command:
        r = self.r
        world.limits += 1
        world.requests += 1
        request = f"r{world.requests if r.random() < 0.95 else max(1, world.requests - 1)}"
        names = world.names()
        if len(names) < 4 and r.random() < 0.5:
            decay = r.choice((0.0, 0.0, 1.0, 0.5, 1 / 3, 7.3))
            return PutLimit(
                request, "put", r.choice("abcdef"), limit_id(r.randrange(1 << 100)),
                limit=r.choice((1, 1, 2, 3, 5)),
                slot_decay_per_second=decay,
            )  # fmt: skip
        target = r.choice(names or ["a"])
        what = r.randrange(5)
        if what == 0:
            return PutLimit(request, "update", target, name=r.choice("abcdef"))
        if what == 1:
            return PutLimit(request, "update", target, active=r.random() < 0.7)
        if what == 2:
            return PutLimit(
                request, "update", target, slot_decay_per_second=r.choice((0.0, 0.5, 1.0, 1e6, 0.01))
            )
        return PutLimit(request, "update", target, limit=r.choice((0, 1, 1, 2, 2, 3, 5)))

    def pass_time(self, world: World) -> None:
        world.now += self.r.choices(
            (
                0,
                1,
                self.r.randrange(10_000),
                self.r.randrange(SECOND),
                self.r.randrange(30 * SECOND),
                61 * SECOND,
            ),
            (10, 3, 3, 8, 4, 1),
        )[0]


def run_history(
    seed: int, steps: int, settings: Settings, each: Callable[[World], None] = lambda _: None
) -> World:
    """Drive one random history from a seed, calling `each` after every step; whatever is wrong raises."""
    dice = Dice(random.Random(seed))
    world = World(settings)
    r = dice.r
    world.step([Hello(name, 1, remembers=remembers) for name, remembers in REMEMBERS.items()])
    for _ in range(2):
        world.step([dice.put(world)])
    for _ in range(steps):
        dice.pass_time(world)
        some = [index for index in range(len(world.books)) if r.random() < 0.3]
        looks = [index for index in range(len(world.books)) if r.random() < 0.2]
        if r.random() < 0.1:
            world.reload(r.randrange(len(world.books)))
        if r.random() < 0.2:
            due = world.next_due(r.randrange(len(world.books)))
            if due > world.now and r.random() < 0.5:
                world.now = due
        commands = [] if r.random() < 0.05 else dice.commands(world)
        if any(isinstance(command, PutLimit) for command in commands):
            world.now += 1
        broken = [index for index in range(len(world.books)) if r.random() < 0.05]
        decider = r.randrange(len(world.books))
        world.step(commands, decider=decider, undone=some, looks=looks, broken=broken)
        each(world)
    return world
