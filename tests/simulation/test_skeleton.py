"""The simulated world itself: one seed is one history, and compare-and-swap survives every crash."""

from collections.abc import Generator
from typing import Any

import pytest

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import EMPTY, Conflict, Row, Version
from ebbgate.testing.simulation import Faults, Process, Request, Sleep, World

FAULTS = Faults(crash=0.005, lost_answer=0.05, lost_request=0.05)
ROUNDS = 20


def counter(name: str, acknowledged: list[str]) -> Process:
    """Add one to a shared number, again and again, by compare-and-swap."""
    for turn in range(ROUNDS):
        for attempt in range(1_000_000):
            tag = f"{name}-{turn}-{attempt}"
            if (yield from add_one(tag)):
                acknowledged.append(tag)
                break
            yield Sleep(100)


def add_one(tag: str) -> Generator[Sleep | Request, Any, bool]:
    """Try once; when the answer was lost, ask until it is known whether the commit took place."""
    base = EMPTY
    try:
        snapshot = yield Request("load", ())
        base = snapshot.version
        value = int(snapshot.rows[0].body) if snapshot.rows else 0
        row = Row("meter", "counter", str(value + 1).encode())
        yield Request("commit", (base, tag, Head(), [row]))
    except Conflict:
        return False
    except StoreUnavailable:
        return (yield from settled(tag, base))
    return True


def settled(tag: str, base: Version) -> Generator[Sleep | Request, Any, bool]:
    """Return whether the commit took place."""
    while True:
        try:
            return (yield Request("find", (tag, base))) is not None
        except StoreUnavailable:
            yield Sleep(1_000)


def build(seed: int, acknowledged: list[str]) -> World:
    """Make a world with three processes that count together."""
    world = World(seed, FAULTS)
    for name in ("a", "b", "c"):
        world.spawn(name, counter(name, acknowledged))
    return world


@pytest.mark.parametrize("seed", range(20))
def test_one_seed_gives_one_history(seed: int) -> None:
    """Two worlds of one seed write the same history, byte for byte."""
    worlds = [build(seed, []), build(seed, [])]
    for world in worlds:
        world.run(steps_max=5_000)
    assert worlds[0].history == worlds[1].history
    assert worlds[0].steps > ROUNDS


@pytest.mark.parametrize("seed", range(50))
def test_no_acknowledged_commit_is_lost_and_none_counts_twice(seed: int) -> None:
    """The counter equals the commits made; every acknowledged one is among them, once."""
    acknowledged: list[str] = []
    world = build(seed, acknowledged)
    world.run(steps_max=20_000)
    made = [version.tag for version, _, _ in world.store.log]
    assert int(world.store.rows["meter", "counter"]) == len(made)
    assert set(acknowledged) <= set(made)
    assert len(made) - len(acknowledged) <= world.crashes
    assert len(acknowledged) == len(set(acknowledged))
