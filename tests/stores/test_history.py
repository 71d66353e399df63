"""Memory and file alike tell of leases that are over, and of the turn to write."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate.core.model import Head, Lease, State, Stored, Why
from ebbgate.stores.base import EmbeddedStore, Version
from ebbgate.stores.codec import encode
from ebbgate.stores.memory import MemoryStore
from ebbgate.testing.stores import tag
from tests.stores.support import SqlitePlace


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened: EmbeddedStore = MemoryStore() if request.param == "memory" else SqlitePlace(tmp_path).open()
    yield opened
    opened.close()


def lease(lease_id: str, state: State, why: Why = "") -> Stored:
    made = Lease(lease_id, "s", "hold", (("db", 1),), (), (), False, 0, 1, {}, "", 1, 1, state=state, why=why)
    return Stored("lease", lease_id, made)


def commit(store: EmbeddedStore, *changes: Stored) -> Version:
    return store.commit(store.load().version, tag(), Head(), encode(changes))


def ended(store: EmbeddedStore, limit: int = 10) -> list[tuple[str, str]]:
    return [(past.lease.id, past.lease.why) for past in store.recent(limit)]


def test_recent_tells_what_ended_newest_first(store: EmbeddedStore) -> None:
    assert ended(store) == []
    commit(store, lease("a", "held"), lease("b", "held"), lease("c", "waiting"))
    assert ended(store) == []
    commit(store, lease("a", "ended", "released"))
    commit(store, lease("c", "ended", "cancelled"), lease("d", "ended", "spent")._replace(keep=False))
    assert ended(store) == [("d", "spent"), ("c", "cancelled"), ("a", "released")]
    assert ended(store, 2) == [("d", "spent"), ("c", "cancelled")]
    assert ended(store, 0) == []


def test_a_lease_that_came_back_did_not_end(store: EmbeddedStore) -> None:
    commit(store, lease("a", "ended", "expired"))
    commit(store, lease("a", "held"))
    assert ended(store) == []
    commit(store, lease("a", "ended", "released"))
    assert ended(store) == [("a", "released")]


def test_a_forgotten_lease_is_still_told_of(store: EmbeddedStore) -> None:
    commit(store, lease("a", "ended", "revoked"))
    commit(store, Stored("lease", "a", None, keep=False))
    assert ended(store) == [("a", "revoked")]


def test_moved_and_the_turn_within_one_opening(store: EmbeddedStore) -> None:
    version = store.load().version
    assert not store.moved(version)
    made = commit(store, lease("a", "held"))
    assert store.moved(version)
    assert not store.moved(made)
    store.unlock()
    assert store.try_lock()
    store.unlock()
    assert store.lock(1_000)
    store.unlock()
