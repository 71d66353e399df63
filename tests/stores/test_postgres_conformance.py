"""PostgreSQL does what every store does that several processes decide on."""

from collections.abc import Callable

import pytest

from ebbgate.testing.network import NetworkPlace
from ebbgate.testing.store_conformance import SharedStoreConformance
from tests.stores.support import KEPT


class TestPostgres(SharedStoreConformance):
    @pytest.fixture
    def place(self, postgres_url: Callable[[], str]) -> NetworkPlace:
        return NetworkPlace(postgres_url(), KEPT)
