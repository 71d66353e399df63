"""The clock of a file follows the machine's monotonic clock, whatever happens to the wall clock."""

from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import EMPTY, Conflict
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.stores.sqlite_clock import TAIL_US, Clocks, boot_id
from ebbgate.testing.stores import head, process, row, tag
from tests.stores.support import SqlitePlace

HOUR_US = 3_600_000_000
NOON_US = 1_800_000_000_000_000


@dataclass
class Machine:
    """A machine whose clocks the test sets."""

    wall_us: int = NOON_US
    monotonic_us: int = 5_000
    boot: str = "first boot"

    def pass_us(self, duration_us: int) -> None:
        self.wall_us += duration_us
        self.monotonic_us += duration_us

    def reboot(self, boot: str, *, off_us: int = HOUR_US) -> None:
        self.wall_us += off_us
        self.monotonic_us = 0
        self.boot = boot

    def open(self, path: Path) -> SqliteStore:
        return SqliteStore(
            path, clocks=Clocks(lambda: self.wall_us, lambda: self.monotonic_us, lambda: self.boot)
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


def test_the_boot_has_a_name() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


@pytest.mark.parametrize("step_us", [HOUR_US, -HOUR_US])
def test_a_step_of_the_wall_clock_changes_nothing(path: Path, step_us: int) -> None:
    machine = Machine()
    store = machine.open(path)
    assert store.clock() == NOON_US
    machine.pass_us(10)
    machine.wall_us += step_us
    assert store.clock() == NOON_US + 10
    later = machine.open(path)
    assert later.clock() == NOON_US + 10
    store.close()
    later.close()
    again = machine.open(path)
    machine.pass_us(1)
    assert again.clock() == NOON_US + 11
    again.close()


def test_a_new_boot_is_a_commit_so_nobody_builds_on_what_was_before(path: Path) -> None:
    machine = Machine()
    store = machine.open(path)
    before = store.commit(EMPTY, tag(), head(1), [row("a", 1)])
    store.close()
    machine.reboot("second boot")
    one, two = machine.open(path), machine.open(path)
    assert one.clock() == two.clock() == NOON_US + HOUR_US
    with pytest.raises(Conflict):
        one.commit(before, tag(), head(2), [row("a", 2)])
    version = one.load().version
    assert version.number == before.number + 1, "one commit for both"
    made = one.commit(version, tag(), head(2), [row("a", 2)])
    assert two.changes_since(version).version == made
    one.close()
    two.close()


def test_after_a_boot_time_never_goes_back_behind_a_commit(path: Path) -> None:
    """The battery of the wall clock was empty."""
    machine = Machine()
    store = machine.open(path)
    store.commit(EMPTY, tag(), Head(NOON_US + 7 * HOUR_US), [row("a", 1)])
    store.close()
    machine.reboot("second boot", off_us=-100 * HOUR_US)
    store = machine.open(path)
    assert store.clock() == NOON_US + 7 * HOUR_US
    assert store.load().head.instant_us == NOON_US + 7 * HOUR_US
    store.close()


def test_the_head_survives_a_boot_but_tokens_go_on_beyond_what_a_power_cut_may_have_taken(path: Path) -> None:
    machine = Machine()
    store = machine.open(path)
    store.commit(EMPTY, tag(), Head(NOON_US, 41, 42), [row("a", 1)])
    store.close()
    machine.reboot("second boot")
    store = machine.open(path)
    assert store.load().head == Head(NOON_US + HOUR_US, NOON_US + TAIL_US, 42)
    store.close()


def test_two_kernels_must_not_share_a_file(path: Path) -> None:
    """Who was there first can commit nothing more, is refused as soon as it looks, and when it opens."""
    here, there = Machine(), Machine(boot="of another machine")
    old = here.open(path)
    version = old.commit(EMPTY, tag(), head(1), [row("a", 1)])
    new = there.open(path)
    with pytest.raises(Conflict):
        old.commit(version, tag(), head(2), [row("a", 2)])
    assert old.moved(version)
    check = partial(old.commit, version, tag(), Head(), [])
    for use in (partial(old.changes_since, version), old.load, check):
        with pytest.raises(StoreUnavailable, match="another machine"):
            use()
    with pytest.raises(StoreUnavailable, match="another machine"):
        here.open(path)
    assert new.load().version.number == 2
    old.close()
    new.close()


def test_two_processes_read_one_clock(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    store = place.open()
    with process(send_clock, place) as (_child, answers):
        for _ in range(20):
            before = store.clock()
            answers.recv()  # what stood in the pipe may be older than `before`
            while (there := answers.recv()) < before:
                pass
            assert before <= there <= store.clock()
    store.close()


def send_clock(place: SqlitePlace, answers: Connection) -> None:
    store = place.open()
    while True:
        answers.send(store.clock())
