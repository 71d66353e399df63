"""Several servers on one store write one history: each counts what it decided, and all see the same levels."""

import json
import urllib.request
from typing import Any

from ebbgate import Client
from tests.scale.conftest import Serve
from tests.serving import served

GRANTS = 7


def points(port: int, seconds: int = 900) -> list[dict[str, Any]]:
    """Return what one server says of the past."""
    url = f"http://127.0.0.1:{port}/v1/limits/db/history?window_seconds={seconds}"
    with urllib.request.urlopen(url) as answer:
        return list(json.load(answer)["points"])


def test_no_grant_is_counted_twice_and_none_is_lost_when_a_server_ends(serve: Serve, store: str) -> None:
    other = serve()
    with Client(other.url) as second:
        with served(store) as one, Client(one.url) as first:
            first.create_limit("db", 3)
            for client in (first, second) * GRANTS:
                with client.concurrency("db"):
                    pass
            with second.concurrency("db"):
                told = points(one.port)
                assert max(point["held_slots_max"] for point in told) == 1
                assert all(point["held_slots_mean"] <= 1 for point in told)
                assert sum(point["grants"] for point in told) == GRANTS, "its own, until the other one writes"
        assert sum(point["grants"] for point in points(other.port)) == 2 * GRANTS + 1
