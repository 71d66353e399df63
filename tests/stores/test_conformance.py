"""Every store does what a store must do. What one need not do is said by the class it inherits from."""

from pathlib import Path

import pytest

from ebbgate.testing.store_conformance import (
    EmbeddedStoreConformance,
    StoreConformance,
    ThreadedStoreConformance,
)
from tests.stores.support import MemoryPlace, SimulatedPlace, SqlitePlace


class TestMemory(ThreadedStoreConformance):
    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace()


class TestSimulated(StoreConformance):
    @pytest.fixture
    def place(self) -> SimulatedPlace:
        return SimulatedPlace()


class TestSqlite(EmbeddedStoreConformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> SqlitePlace:
        return SqlitePlace(tmp_path)
