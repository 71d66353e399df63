"""The engine on a store in memory: interrupted at any line of a decision, or with answers that get lost."""

import itertools
import os
from collections.abc import Callable, Sequence

import pytest

from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Command, Held, Hello, PutLimit, Release
from ebbgate.core.model import SECOND, Head, Stored
from ebbgate.engine.drive import drive
from ebbgate.engine.engine import Batch, Engine
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import PATIENCE_US, Row, Version
from ebbgate.stores.memory import MemoryStore
from ebbgate.testing import invariants
from tests.interrupting import interrupted

EVERY = 7  # lines between two places of an interruption; with 1 nothing else comes out


class Lossy(MemoryStore):
    """A store whose answers get lost, of those methods that stand in `lost`, in this order."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[str] = []

    def commit(
        self, base: Version, tag: str, head: Head, rows: Sequence[Row], *, patience_us: int = PATIENCE_US
    ) -> Version:
        made = super().commit(base, tag, head, rows, patience_us=patience_us)
        self._lose("commit")
        return made

    def find(self, tag: str, base: Version, *, patience_us: int = PATIENCE_US) -> Version | None:
        found = super().find(tag, base, patience_us=patience_us)
        self._lose("find")
        return found

    def _lose(self, method: str) -> None:
        if self.lost[:1] == [method]:
            del self.lost[0]
            raise StoreUnavailable("the answer is lost")


def engine_of(took_in: Callable[[Sequence[Stored] | None], None] = lambda _: None) -> Engine:
    return Engine(Book(), new_tag=lambda: os.urandom(8).hex(), took_in=took_in)


def do(engine: Engine, store: MemoryStore, *commands: Command) -> Batch:
    return drive(engine.carry_out(commands), store)


def hold(lease_id: str, session: str) -> Acquire:
    return Acquire(lease_id, session, 1, (("db", 1),), 60 * SECOND)


def held_and_waiting() -> tuple[MemoryStore, Engine]:
    store, engine = MemoryStore(), engine_of()
    hello = [Hello(session, 1, remembers="nothing") for session in ("a", "b")]
    do(engine, store, *hello, PutLimit("", "create", "db", new_id="1", limit=1))
    do(engine, store, hold("holder", "a"), hold("waiter", "b"))
    return store, engine


def test_nobody_is_told_what_an_interrupted_decision_did_not_do() -> None:
    for line in itertools.count(0, EVERY):
        store, engine = held_and_waiting()
        happened = interrupted(line, lambda: do(engine, store, Release("holder", "a", 1)), "core")  # noqa: B023 - at once
        if not happened:
            break
        told = do(engine, store).told
        assert not told, f"interrupted at line {line}, it told {told}"
        invariants.check(engine.book, engine.book.now_us)
        do(engine, store, Release("holder", "a", 1))
        assert engine.book.leases["waiter"].state == "held"


def test_an_interrupted_look_at_what_others_committed_leaves_the_book_well() -> None:
    for line in itertools.count(0, EVERY):
        store, engine = held_and_waiting()
        other = engine_of()
        drive(other.refresh(), store)
        do(engine, store, Release("holder", "a", 1), Acquire("next", "a", 1, (("db", 1),), 60 * SECOND))
        if not interrupted(line, lambda: drive(other.refresh(), store), "core"):  # noqa: B023 - at once
            break
        assert [tell.id for tell in do(other, store, Release("waiter", "b", 1)).told] == ["next"]
        invariants.check(other.book, other.book.now_us)


def test_an_interrupted_look_at_what_is_due_forgets_nobody_who_waits() -> None:
    for line in itertools.count(0, EVERY):
        store, _ = held_and_waiting()
        other = engine_of()
        drive(other.refresh(), store)
        if not interrupted(line, lambda: other.book.next_due(other.book.now_us), "core"):  # noqa: B023 - at once
            break
        assert [tell.id for tell in do(other, store, Release("holder", "a", 1)).told] == ["waiter"]
        invariants.check(other.book, other.book.now_us)


def test_a_spend_whose_answers_are_lost_twice_is_spent_once() -> None:
    store, engine = Lossy(), engine_of()
    create = PutLimit("", "create", "db", new_id="1", limit=2, slot_decay_per_second=1e-9)
    do(engine, store, Hello("a", 1, remembers="nothing"), create)
    spend = Acquire("s", "a", 1, (("db", 1),), 60 * SECOND, spend=True, wait=False)
    store.lost = ["commit", "find", "commit"]
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            do(engine, store, spend)
    assert not store.lost
    (outcome,) = do(engine, store, spend).outcomes
    assert isinstance(outcome, Held)
    (live,) = engine.book.lives.values()
    assert live.room(engine.book.now_us) == 1
