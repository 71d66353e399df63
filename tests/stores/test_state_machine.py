"""Random use of a store, by several who have it open at once: it answers what a store in memory answers.

A store in memory that prunes nothing is the model. What another store no longer keeps it may refuse as too old;
what it does answer must be what the model says, and the last commits it must keep.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ebbgate.stores import sqlite
from ebbgate.stores.base import EMPTY, Conflict, Delta, Row, Store, TooOld, Version
from ebbgate.stores.memory import MemoryStore
from ebbgate.testing.simulated import store as simulated
from ebbgate.testing.stores import applied, gone, head, row
from tests.stores.support import SqlitePlace

T = TypeVar("T")

OPENERS = 2
EXAMPLES = 60
ids = st.sampled_from(["a", "b", "ä", "c d"])
kinds = st.sampled_from(["lease", "limit", "meter"])
rows = st.builds(
    lambda kind, name, value, keep: row(name, value, kind=kind) if keep else gone(name, value, kind=kind),
    kinds, ids, st.none() | st.integers(0, 9) | st.text(max_size=3), st.booleans(),
)  # fmt: skip
written = st.lists(rows, max_size=5, unique_by=lambda one: (one.kind, one.id))
openers = st.integers(0, OPENERS - 1)


class ClosableSimulatedStore(simulated.SimulatedStore):
    """The store of the simulated world, with what that one asks of the world."""

    def clock(self) -> int:
        return 1_700_000_000_000_000

    def close(self) -> None:
        pass


def answer(ask: Callable[[], T]) -> T | type[Exception]:
    """Return what a store answers: a value, or that it refuses."""
    try:
        return ask()
    except Conflict:
        return Conflict
    except TooOld:
        return TooOld


def whole(store: Store, version: Version) -> Delta:
    """Return all changes since `version`, asked for part by part."""
    parts: list[Row] = []
    while True:
        delta = store.changes_since(version)
        parts += delta.rows
        if not delta.more:
            return delta._replace(rows=parts)
        assert delta.version.number > version.number, "a part leads on"
        version = delta.version


class StoreHistories(RuleBasedStateMachine):
    """One history, told to a store and to the model."""

    kept = 3  # commits that the store keeps at least
    reopens = False  # whether a store that is opened again still has everything

    def make(self) -> Store:
        """Open the store, as one more process would."""
        raise NotImplementedError

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have a place for it."""
        yield

    def __init__(self) -> None:
        super().__init__()
        self._place = self.place()
        self._place.__enter__()
        self.model = MemoryStore()
        self.versions = [EMPTY]
        self.tags = itertools.count(1)
        self.calls: list[tuple[str, Version]] = []  # tag and base of every commit that was tried

    @initialize()
    def begin(self) -> None:
        self.reader = (
            self.make()
        )  # looks after every step; the others would forget by that what they took for new
        self.stores = [self.make() if self.reopens else self.reader for _ in range(OPENERS)]

    def teardown(self) -> None:
        for store in [*getattr(self, "stores", []), *([self.reader] if hasattr(self, "reader") else [])]:
            store.close()
        self._place.__exit__(None, None, None)

    @rule(opener=openers, rows=written)
    def commit(self, opener: int, rows: list[Row]) -> None:
        self._commit(opener, self.versions[-1], rows)

    @rule(opener=openers, times=st.integers(1, 150), rows=written)
    def commit_many(self, opener: int, times: int, rows: list[Row]) -> None:
        """More than one delta tells at once, more than is kept, and sometimes enough for the log to be cut."""
        for _ in range(times):
            self._commit(opener, self.versions[-1], rows or [row("a", len(self.versions))])

    @rule(opener=openers, which=st.data(), rows=written)
    def commit_on_an_old_version(self, opener: int, which: st.DataObject, rows: list[Row]) -> None:
        self._commit(opener, which.draw(st.sampled_from(self.versions[-4:])), rows)

    @rule(opener=openers, by=st.integers(-1, 1), tag=st.sampled_from(["", "other"]), rows=written)
    def commit_on_what_never_was(self, opener: int, by: int, tag: str, rows: list[Row]) -> None:
        self._commit(opener, Version(max(self.versions[-1].number + by, 0), tag), rows)

    def _commit(self, opener: int, base: Version, rows: list[Row]) -> None:
        tag = f"tag {next(self.tags)}"
        self.calls.append((tag, base))
        at = head(len(self.calls))
        expected = answer(lambda: self.model.commit(base, tag, at, rows))
        assert answer(lambda: self.stores[opener].commit(base, tag, at, rows)) == expected
        if isinstance(expected, Version) and expected != self.versions[-1]:
            self.versions.append(expected)

    @rule(opener=openers, version=st.data())
    def changes_since(self, opener: int, version: st.DataObject) -> None:
        self._changes_since(opener, version.draw(st.sampled_from(self.versions)))

    @rule(opener=openers)
    def changes_since_the_last_ones(self, opener: int) -> None:
        for version in self.versions[-2 * self.kept :]:
            self._changes_since(opener, version)

    def _changes_since(self, opener: int, version: Version) -> None:
        expected = whole(self.model, version)
        actual = answer(lambda: whole(self.stores[opener], version))
        if actual is TooOld and len(self.versions) - self.versions.index(version) > self.kept:
            return
        assert actual == expected

    @rule(opener=openers, by=st.integers(-2, 2), tag=st.sampled_from(["", "other"]))
    def changes_since_what_never_was(self, opener: int, by: int, tag: str) -> None:
        version = Version(max(self.versions[-1].number + by, 0), tag)
        if version != EMPTY:
            assert answer(lambda: self.stores[opener].changes_since(version)) is TooOld

    @rule(opener=openers, call=st.data())
    def find(self, opener: int, call: st.DataObject) -> None:
        if not self.calls:
            return
        tag, base = call.draw(st.sampled_from(self.calls[-20:]) | st.sampled_from(self.calls))
        actual = answer(lambda: self.stores[opener].find(tag, base))
        if actual is TooOld and base.number + 1 <= self.versions[-1].number - self.kept:
            return
        assert actual == self.model.find(tag, base)

    @rule(opener=openers)
    def open_again(self, opener: int) -> None:
        if self.reopens:
            self.stores[opener].close()
            self.stores[opener] = self.make()

    @rule(opener=openers)
    def load(self, opener: int) -> None:
        self._load(self.stores[opener])

    @invariant()
    def the_store_has_what_the_model_has(self) -> None:
        self._load(self.reader)

    def _load(self, store: Store) -> None:
        expected, actual = self.model.load(), store.load()
        assert actual[:2] == expected[:2]
        assert Counter(actual.rows) == Counter(expected.rows)

    @invariant()
    def the_rows_are_those_of_all_commits(self) -> None:
        delta = whole(self.model, EMPTY)
        assert applied(delta.rows) == applied(self.model.load().rows)


class SqliteHistories(StoreHistories):
    reopens = True

    @contextmanager
    def place(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite, "PRUNE_EVERY", 4)
            self.file = SqlitePlace(Path(folder), self.kept)
            yield

    def make(self) -> Store:
        return self.file.open()


class LongSqliteHistories(SqliteHistories):
    """Much is kept: changes are told in parts."""

    kept = 300


class MemoryHistories(StoreHistories):
    """The memory store that prunes against the one that does not."""

    def make(self) -> Store:
        return MemoryStore(keep=self.kept)


class SimulatedHistories(StoreHistories):
    @contextmanager
    def place(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulated, "KEPT", self.kept)
            yield

    def make(self) -> Store:
        return ClosableSimulatedStore()


@pytest.mark.parametrize(
    "histories", [SqliteHistories, LongSqliteHistories, MemoryHistories, SimulatedHistories]
)
def test_every_store_answers_what_the_model_answers(histories: type[StoreHistories]) -> None:
    case = histories.TestCase
    case.settings = settings(
        max_examples=EXAMPLES, stateful_step_count=25, suppress_health_check=list(HealthCheck), deadline=None
    )
    case("runTest").debug()


@pytest.mark.parametrize("call", ["find", "commit"])
def test_a_load_sees_the_newest_commit_whatever_was_called_before(tmp_path: Path, call: str) -> None:
    """Found by the histories above."""
    place = SqlitePlace(tmp_path)
    with closing(place.open()) as one, closing(place.open()) as other:
        first = one.commit(EMPTY, "first", head(1), [row("a", 1)])
        if call == "find":
            assert other.find("first", EMPTY) == first
        else:
            assert other.load().version == first
            assert answer(lambda: other.commit(EMPTY, "other", head(9), [])) is Conflict
        second = one.commit(first, "second", head(2), [row("a", 2)])
        assert other.load().version == second
