"""The core alone: `Book.decide` and `confirm`, no store, no lock, one thread of one fresh process.

A decision is one call of `decide` with one command, confirmed. Commands are made before the clock starts.
"""

import gc
import time
import tracemalloc
from collections.abc import Iterator
from uuid import UUID

from bench.crew import Result, Start, Task, crew
from bench.report import Line, Options, at_least, at_most, percentile
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Command, Held, Hello, PutLimit, Refused, Release, Waiting
from ebbgate.core.model import SECOND

T0 = 1_700_000_000 * SECOND
SESSION = "00000000-0000-4000-a000-000000000000"


class Desk:
    """A book with one client, and a clock that moves by 10 µs a decision."""

    def __init__(self) -> None:
        self.book = Book()
        self.now_us = T0
        self.made = 0
        self.do(Hello(SESSION, 1, "here", 1, remembers="nothing"))

    def limit(self, name: str, slots: int) -> None:
        """Make a limit."""
        self.made += 1
        self.do(PutLimit(f"r{self.made}", "create", name, str(UUID(int=self.made)), limit=slots))

    def acquire(self, *names: str) -> Acquire:
        """Return a new question for one slot of each limit."""
        self.made += 1
        return Acquire(
            str(UUID(int=self.made)), SESSION, 1, tuple(sorted((n, 1) for n in names)), 300 * SECOND
        )

    def do(self, command: Command) -> list[str]:
        """Decide; return who was let in by it."""
        self.now_us += 10
        decision = self.book.decide((command,), self.now_us)
        assert not isinstance(decision.outcomes[0], Refused), decision.outcomes
        self.book.confirm(decision.head)
        return [told.id for told in decision.told if isinstance(told.outcome, Held)]


def release(lease_id: str) -> Release:
    return Release(lease_id, SESSION, 1)


def decisions(task: Task, start: Start) -> Result:
    """Acquire and release, always with room; one command a decision, then 64."""
    desk = Desk()
    desk.limit("a", 1_000)
    asks = [desk.acquire("a") for _ in range(task["pairs"])]
    commands: list[Command] = []
    for ask in asks:
        commands += [ask, release(ask.id)]
    book, now_us = desk.book, desk.now_us
    start()
    gc.collect()
    begun = time.perf_counter()
    for command in commands:
        now_us += 10
        book.confirm(book.decide((command,), now_us).head)
    single_s = time.perf_counter() - begun
    batches = [commands[place : place + 64] for place in range(0, len(commands), 64)]
    begun = time.perf_counter()
    for batch in batches:
        now_us += 640
        book.confirm(book.decide(batch, now_us).head)
    return {"single": len(commands) / single_s, "batched": len(commands) / (time.perf_counter() - begun)}


def grants(task: Task, start: Start) -> Result:
    """Return what a release costs that lets the next one in, at a queue kept at its length.

    With tenants, every waiter wants a slot of its tenant's limit and one of a limit that all share.
    """
    desk = Desk()
    waiters, tenants = task["waiters"], task["tenants"]
    desk.limit("shared", 8 if tenants else 1)
    for tenant in range(tenants):
        desk.limit(f"t{tenant}", 1)
    holding: list[str] = []
    turn = 0

    def enter() -> None:
        nonlocal turn
        ask = desk.acquire("shared", f"t{turn % tenants}") if tenants else desk.acquire("shared")
        turn += 1
        desk.do(ask)
        if desk.book.leases[ask.id].state == "held":
            holding.append(ask.id)

    while desk.book.lives[str(UUID(int=1))].waiting < waiters:
        enter()
    start()
    gc.collect()
    gc.freeze()
    spent_us: list[float] = []
    for _ in range(task["grants"]):
        command = release(holding.pop(0))
        begun = time.perf_counter_ns()
        let_in = desk.do(command)
        spent_us.append((time.perf_counter_ns() - begun) / 1000)
        assert let_in, "a release lets somebody in"
        holding += let_in
        enter()
    return {"us": percentile(spent_us, 0.5)}


def memory(task: Task, start: Start) -> Result:
    """Return what tracemalloc counts for each lease, ids included."""
    desk = Desk()
    number = task["leases"]
    desk.limit("a", number if task["held"] else 1)
    desk.do(desk.acquire("a"))
    start()
    gc.collect()
    tracemalloc.start()
    for _ in range(number - 1):
        desk.do(desk.acquire("a"))
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    assert isinstance(desk.book.decide((desk.acquire("a"),), desk.now_us).outcomes[0], Held | Waiting)
    return {"bytes": size / (number - 1)}


def run(options: Options) -> Iterator[Line]:
    """Measure everything about the core."""
    pairs = round(options.scaled(60_000, 10_000))
    made = [crew(decisions, [{"pairs": pairs}])[0] for _ in range(options.repeats)]
    yield Line(
        "decisions, one a batch, no contention",
        [r["single"] for r in made],
        "/s",
        at_least(150_000),
        note="aim 250,000",
    )
    yield Line("decisions, 64 a batch", [r["batched"] for r in made], "/s")
    number = round(options.scaled(3_000, 500))
    yield from _growth(options, "waiters on one limit", number, tenants=0)
    yield from _growth(options, "waiters, a tenth as many tenants", number, tenants=1)
    for held, what in ((True, "lease"), (False, "waiter")):
        task = {"leases": round(options.scaled(50_000, 5_000)), "held": held}
        sizes = [crew(memory, [task])[0]["bytes"] / 1024 for _ in range(options.repeats)]
        yield Line(f"memory of a {what} (tracemalloc, its id included)", sizes, "KiB", at_most(1.5))


def _growth(options: Options, what: str, number: int, *, tenants: int) -> Iterator[Line]:
    """Measure short and long queues in turn, so that a slow spell of the machine meets both."""
    few, many = 100, round(options.scaled(100_000, 10_000))
    spent_us: dict[int, list[float]] = {few: [], many: []}
    for _ in range(options.repeats):
        for waiters, values in spent_us.items():
            task = {"waiters": waiters, "tenants": tenants * waiters // 10, "grants": number}
            values.append(crew(grants, [task])[0]["us"])
    for waiters, values in spent_us.items():
        yield Line(f"a release and the grant it leads to, {waiters:,} {what}", values, "us")
    ratios = [much / little for little, much in zip(spent_us[few], spent_us[many], strict=True)]
    yield Line(f"the same, {many:,} against {few}", ratios, "x", at_most(2))
