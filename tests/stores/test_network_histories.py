"""Random use of a store behind a network, by several at once: it answers what a store in memory answers."""

import pytest
from hypothesis import HealthCheck, settings

from ebbgate.stores.base import Store
from ebbgate.testing.network import NetworkPlace
from tests.stores import servers
from tests.stores.test_state_machine import StoreHistories

EXAMPLES = 8
STEPS = 20


class NetworkHistories(StoreHistories):
    reopens = True
    server: servers.Postgres | servers.Redis

    def __init__(self) -> None:
        super().__init__()
        self.there = NetworkPlace(self.server.url(), self.kept)

    def make(self) -> Store:
        return self.there.open()


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
def test_a_store_behind_a_network_answers_what_the_model_answers(
    request: pytest.FixtureRequest, kind: str
) -> None:
    class Histories(NetworkHistories):
        server = request.getfixturevalue(kind)

    case = Histories.TestCase
    case.settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    case("runTest").debug()
