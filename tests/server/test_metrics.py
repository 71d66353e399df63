"""What a server counts, as Prometheus reads it."""

import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ebbgate import Client
from ebbgate.errors import NoSlotFree
from ebbgate.server.metrics import LIMITS_MAX, OTHER
from tests.serving import ServedInThread, served

Samples = dict[tuple[str, ...], float]


@pytest.fixture
def server() -> Iterator[ServedInThread]:
    with served("memory://") as here:
        yield here


@pytest.fixture
def client(server: ServedInThread) -> Iterator[Client]:
    with Client(server.url) as here:
        yield here


def scraped(server: ServedInThread) -> Samples:
    """Return every sample: its name and the values of its labels, and its value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def hold(client: Client, name: str, times: int = 1) -> None:
    for _ in range(times):
        with client.concurrency(name):
            pass


def test_who_gets_in_and_who_leaves_is_counted_by_limit(server: ServedInThread, client: Client) -> None:
    client.create_limit("a", 2)
    client.create_limit("b", 2, slot_decay_per_second=1000)
    hold(client, "a", 3)
    client.rate_limit("b")
    found = scraped(server)
    assert found["ebbgate_grants_total", "hold", "a"] == 3
    assert found["ebbgate_grants_total", "spend", "b"] == 1
    assert found["ebbgate_ends_total", "a", "released"] == 3
    assert not any(name == "ebbgate_ends_total" and "b" in labels for name, *labels in found)


def test_a_histogram_counts_everybody_below_each_bound(server: ServedInThread, client: Client) -> None:
    client.create_limit("a", 2)
    hold(client, "a", 5)
    found = scraped(server)
    assert found["ebbgate_wait_seconds_bucket", "0.001", "a"] == 5
    for name in ("ebbgate_wait_seconds", "ebbgate_hold_seconds"):
        bounds = [value for (kind, *_), value in found.items() if kind == f"{name}_bucket"]
        assert bounds == sorted(bounds)
        assert found[f"{name}_bucket", "+Inf", "a"] == found[f"{name}_count", "a"] == 5
    assert found["ebbgate_wait_seconds_sum", "a"] == 0
    assert found["ebbgate_hold_seconds_sum", "a"] > 0


def test_refusals_are_counted_by_their_code(server: ServedInThread, client: Client) -> None:
    client.create_limit("a", 1)
    with client.concurrency("a"), pytest.raises(NoSlotFree), client.concurrency("a", max_retries=0):
        pass
    assert scraped(server)["ebbgate_refusals_total", "no_slot_free"] == 1


def test_counts_follow_a_limit_to_its_new_name_and_go_with_it(server: ServedInThread, client: Client) -> None:
    client.create_limit("a", 1)
    hold(client, "a", 2)
    client.update_limit("a", name="c")
    hold(client, "c")
    found = scraped(server)
    assert found["ebbgate_grants_total", "hold", "c"] == 3
    assert ("ebbgate_grants_total", "hold", "a") not in found
    client.delete_limit("c")
    client.create_limit("c", 1)
    assert not any(name.startswith("ebbgate_grants") for name, *_ in scraped(server))
    hold(client, "c")
    assert scraped(server)["ebbgate_grants_total", "hold", "c"] == 1


def test_the_limits_of_a_great_many_are_shown_together(server: ServedInThread, client: Client) -> None:
    for number in range(LIMITS_MAX + 3):
        client.create_limit(f"n{number:04}", 1)
    last = f"n{LIMITS_MAX + 2:04}"
    for name in ("n0000", f"n{LIMITS_MAX:04}", last):
        hold(client, name, 2)
    found = scraped(server)
    grants = {labels[1]: value for (name, *labels), value in found.items() if name == "ebbgate_grants_total"}
    assert grants == {"n0000": 2, OTHER: 4}
    assert found["ebbgate_limit_slots", OTHER] == 3
