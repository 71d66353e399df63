"""A machine for tests of power cuts: its clocks, and what a store on it should hold after every commit."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from ebbgate.core.model import Head
from ebbgate.stores.base import EMPTY, Row, Version
from ebbgate.stores.sqlite import Durability, SqliteStore
from ebbgate.stores.sqlite_checkpoint import _opened, _pass
from ebbgate.stores.sqlite_clock import Clocks
from ebbgate.stores.sqlite_guard import Guard
from ebbgate.stores.sqlite_lock import FileLock
from ebbgate.stores.sqlite_schema import beside
from ebbgate.testing.power import installed, materialise
from ebbgate.testing.power_cuts import Image
from ebbgate.testing.stores import Rows, applied

START_US = 1_700_000_000_000_000


class Machine:
    """The clocks of a machine that is booted anew when a test says so."""

    def __init__(self, wall_us: int = START_US, boot: str = "first") -> None:
        self.wall_us = wall_us
        self.monotonic_us = 1_000_000
        self.boot = boot

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall_us, lambda: self.monotonic_us, lambda: self.boot)

    def passes(self, duration_us: int) -> None:
        self.wall_us += duration_us
        self.monotonic_us += duration_us


@dataclass(slots=True)
class Story:
    """What was committed, in order: number -> version and what the store held then."""

    versions: list[Version] = field(default_factory=lambda: [EMPTY])
    heads: list[Head] = field(default_factory=lambda: [Head()])
    rows: list[Rows] = field(default_factory=lambda: [{}])

    def tell(self, version: Version, head: Head, rows: list[Row]) -> None:
        assert version.number == len(self.versions)
        self.versions.append(version)
        self.heads.append(head)
        self.rows.append(applied(rows, self.rows[-1]))


def checkpoint(path: Path, *, over: bool) -> None:
    """Do one pass of the real checkpointer; `over`: until the log starts over."""
    with (
        closing(FileLock(beside(path, "lock"))) as turn,
        closing(Guard(path, _opened, 1_000_000)) as guard,
    ):
        _pass(guard, turn, 0 if over else 1 << 30)


@contextmanager
def recovered(
    image: Image, folder: Path, machine: Machine, durability: Durability = "normal"
) -> Iterator[SqliteStore]:
    """Open what a power cut left, as the first process after the next boot does.

    To be quick it syncs nothing for real.
    """
    for old in folder.iterdir() if folder.exists() else ():
        if old.is_file():
            old.unlink()
    folder.mkdir(exist_ok=True)
    materialise(image, folder)
    with (
        nullcontext() if any("ebbgate-disk" in name for name in apsw.vfs_names()) else installed(),
        closing(SqliteStore(folder / "limits.db", durability=durability, clocks=machine.clocks)) as store,
    ):
        yield store


def integrity(store: SqliteStore) -> str:
    """Return what SQLite says of every page and index of a store."""

    def check(cursor: apsw.Cursor) -> str:
        return str(cursor.execute("PRAGMA integrity_check").get)

    return store._run(0, check)


def logged(store: SqliteStore) -> list[Version]:
    """Return every version that the store's log knows, the oldest first."""

    def read(cursor: apsw.Cursor) -> list[Version]:
        return [Version(*entry) for entry in cursor.execute("SELECT version, tag FROM log ORDER BY version")]

    return store._run(0, read)


def digest(image: Image) -> bytes:
    """Return what tells two images apart."""
    summed = hashlib.blake2b(digest_size=16)
    for name in sorted(image):
        summed.update(f"{name} {len(image[name])} ".encode())
        summed.update(image[name])
    return summed.digest()


def chance_of(seed: int) -> random.Random:
    """Return the one source of chance of a test."""
    return random.Random(seed)
