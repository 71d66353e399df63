"""Redis and Valkey do what every store does that several processes decide on."""

from collections.abc import Callable

import pytest

from ebbgate.testing.network import NetworkPlace
from ebbgate.testing.store_conformance import SharedStoreConformance
from tests.stores.support import KEPT


class TestRedis(SharedStoreConformance):
    @pytest.fixture
    def place(self, redis_url: Callable[[], str]) -> NetworkPlace:
        return NetworkPlace(redis_url(), KEPT)
