"""The power of a server fails: what it has answered survives, unless a crash is all that it was told to survive."""

import os
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.core.model import Lease
from ebbgate.stores.codec import decode
from ebbgate.stores.sqlite import Durability
from ebbgate.testing.power import Operation, installed
from ebbgate.testing.power_cuts import cuts
from tests.faults.server_process import ServerProcess
from tests.faults.world import START_US, Machine, recovered
from tests.serving import served

SEED = int(os.environ.get("EBBGATE_FAULT_SEED") or "1")
ROOM = int(os.environ.get("EBBGATE_FAULT_ROOM", "1"))
HELD = 12
PAIRS = 25


def live(folder: Path, durability: Durability, chance: random.Random) -> list[Operation]:
    """Hold leases and give some back over a real server; return what its disk was told, and when it had answered."""
    with installed() as disk, served(f"sqlite:///{folder / 'limits.db'}", durability=durability) as server:
        client = Client(server.url)
        client.create_limit("db", 100)
        disk.mark(("created", "", True))
        with ExitStack() as held:
            for number in range(HELD):
                block = client.concurrency("db")
                lease = held.enter_context(block)
                disk.mark((number, lease.id, True))
                if chance.random() < 0.3:
                    with client.concurrency("db") as brief:
                        disk.mark((number, brief.id, True))
                        disk.mark((number, brief.id, None))  # it is about to be given back
                    disk.mark((number, brief.id, False))
            operations = list(disk.operations)
        client.close()
    return operations


def answered(marks: list[object]) -> dict[str, bool | None]:
    """Return what clients were told last of each lease: that it is held, or given back; None: it was under way."""
    known: dict[str, bool | None] = {}
    for mark in marks:
        assert isinstance(mark, tuple)
        _, lease, is_held = mark
        if lease:
            known[lease] = is_held
    return known


def held_after(image: dict[str, bytes], folder: Path, durability: Durability) -> set[str]:
    """Return the leases that are held after the power came back, as the next server on this machine finds them."""
    with recovered(image, folder, Machine(wall_us=2 * START_US, boot="second"), durability) as store:
        records = [stored.record for stored in decode(store.load().rows)]
    return {record.id for record in records if isinstance(record, Lease) and record.state == "held"}


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
def test_an_answered_lease_survives_a_power_cut_unless_durability_is_normal(
    folder: Path, durability: Durability
) -> None:
    chance = random.Random(SEED)
    (folder / "lived").mkdir(mode=0o700)
    operations = live(folder / "lived", durability, chance)
    lost = images = 0
    for cut in cuts(operations):
        if "limits.db" not in cut.names or chance.random() > 0.25 * ROOM:
            continue
        told = [lease for lease, is_held in answered(cut.marks).items() if is_held]
        for image in cut.images(chance, every_max=1, samples=1):
            images += 1
            survived = held_after(image, folder / "after", durability)
            missing = [lease for lease in told if lease not in survived]
            lost += bool(missing)
            if durability == "full":
                assert not missing, f"at operation {cut.place}, seed {SEED}"
            assert missing == told[len(told) - len(missing) :], "only the last ones are lost"
    print(
        f"{durability}: {len(operations)} operations, {images} images, {lost} of them lack what was answered"
    )
    assert images > 20
    assert (lost > 0) == (durability == "normal"), "the proof can fail"


@pytest.mark.slow
@pytest.mark.parametrize("durability", [None, "normal"])
def test_the_command_syncs_every_commit_unless_durability_is_normal(
    folder: Path, durability: str | None
) -> None:
    flags = () if durability is None else ("--durability", durability)
    with ServerProcess(folder, *flags, module="tests.faults.server_syncs") as server:
        with Client(server.url) as client:
            client.create_limit("db", 1)
            for _ in range(PAIRS):
                with client.concurrency("db"):
                    pass
        server.end()
    syncs = int((folder / "syncs").read_text())
    if durability is None:
        assert syncs >= 2 * PAIRS
    else:
        assert syncs < PAIRS
