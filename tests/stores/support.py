"""The places where the stores under test are."""

from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ebbgate.stores.memory import MemoryStore
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.testing.simulated.store import SimulatedStore
from ebbgate.testing.stores import count_up

KEPT = 20


@dataclass(frozen=True)
class SqlitePlace:
    """One file; it can be pickled, so other processes can be sent to it."""

    folder: Path
    kept: int = KEPT
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / "ebbgate" / "test.db"

    def open(self) -> SqliteStore:
        return SqliteStore(self.path, keep=self.kept, **self.options)


@dataclass(frozen=True)
class MemoryPlace:
    """Gone when it is closed."""

    kept: int = KEPT

    def open(self) -> MemoryStore:
        return MemoryStore(keep=self.kept)


class ClosableSimulatedStore(SimulatedStore):
    """The store of the simulation with what a world never asks of it."""

    def clock(self) -> int:
        return 1_700_000_000_000_000

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class SimulatedPlace:
    kept: int = KEPT

    def open(self) -> ClosableSimulatedStore:
        return ClosableSimulatedStore(keep=self.kept)


def count_up_elsewhere(place: SqlitePlace, answers: Connection, times: int) -> None:
    """What another process does: count a lease up."""
    with closing(place.open()) as store:
        answers.send(count_up(store, "sum", times))
