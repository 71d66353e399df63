"""After a power cut: no fencing token is given twice, nothing stays held, and what was set up is there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate import Client, errors
from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.core.book import Book
from ebbgate.stores.sqlite import Durability, SqliteStore
from ebbgate.testing.power import Operation, installed
from ebbgate.testing.power_cuts import Image, cuts
from tests.faults.test_power_cuts import ROOM, SEED
from tests.faults.world import Machine, chance_of, checkpoint, digest, recovered

HOUR_US = 3_600_000_000


@contextlib.contextmanager
def client_of(store: SqliteStore, path: Path) -> Iterator[Client]:
    gate = EmbeddedGate(store, path, Book())
    client = Client(f"sqlite:///{path}")
    client._gate = gate
    try:
        yield client
    finally:
        gate.close()


def life(path: Path, durability: Durability, machine: Machine) -> list[Operation]:
    """Take and give back slots for some seconds; the record has every token at the moment it was given."""
    path.parent.mkdir(mode=0o700)
    with installed() as disk:
        store = SqliteStore(path, durability=durability, clocks=machine.clocks)
        with client_of(store, path) as client:
            client.create_limit("db", 2)
            disk.mark("limit")
            client.create_limit("api", 100, slot_decay_per_second=5)
            for turn in range(12):
                machine.passes(700_000)
                with client.concurrency("db", timeout_seconds=0) as one:
                    disk.mark(one.fencing_token)
                    with client.concurrency({"db": 1, "api": 1}, timeout_seconds=0) as two:
                        disk.mark(two.fencing_token)
                if turn % 5 == 4:
                    checkpoint(path, over=turn % 2 == 0)
                client.rate_limit("api", timeout_seconds=0)
            return list(disk.operations)


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize(
    "wall_us", [3_000_000, -HOUR_US], ids=["wall clock right", "wall clock an hour behind"]
)
def test_no_token_is_given_twice_after_a_power_cut(
    folder: Path, durability: Durability, wall_us: int
) -> None:
    """Not even on a machine whose wall clock starts in the past (no battery), though the tail is lost."""
    machine = Machine()
    operations = life(folder / "lived" / "limits.db", durability, machine)
    chance = chance_of(SEED)
    known: dict[bytes, int] = {}
    for cut in cuts(operations):
        if chance.random() < 0.75 / ROOM:
            continue
        tokens = [mark for mark in cut.marks if isinstance(mark, int)]
        for image in cut.images(chance, every_max=1, samples=ROOM):
            key = digest(image)
            if key not in known:
                later = Machine(machine.wall_us + wall_us, "second")
                known[key] = first_token_after(image, folder / "after", later, durability)
            if durability == "full" and "limit" in cut.marks:
                assert known[key], "the limit was acknowledged"
            if known[key]:
                assert known[key] > max(tokens, default=0), f"at operation {cut.place}, seed {SEED}"
    assert len(known) > 15


def first_token_after(image: Image, folder: Path, machine: Machine, durability: Durability) -> int:
    """Return the first token that is given after the power came back; 0 if there is no limit any more."""
    with recovered(image, folder, machine, durability) as store, client_of(store, store.path) as client:
        try:
            client.read_limit("db")
        except errors.LimitNotFound:
            return 0
        # The presence file of the image is another one, about which nobody can say who is alive.
        for left in client.list_leases():
            client.revoke_lease(left.id)
        with client.concurrency("db", occupy=2, timeout_seconds=0) as lease:
            return lease.fencing_token
