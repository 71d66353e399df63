"""A limit that cools down makes everybody wait, wherever they are, and tells them why."""

import threading
import time
from datetime import timedelta

import pytest

from ebbgate import Client, errors
from ebbgate import asyncio as ebbgate_asyncio
from ebbgate.sync import concurrency, cool_down, rate_limit
from tests.interface.helpers import held_elsewhere


def test_nobody_gets_in_until_it_is_over(client: Client) -> None:
    client.create_limit("api", 5)
    cool_down("api", 60, "429 from the vendor")
    limit = client.read_limit("api")
    assert limit.cool_down_until is not None
    assert limit.cool_down_why == "429 from the vendor"
    # Nobody holds anything: what tells why is the limit, not the list of its leases.
    with (
        pytest.raises(errors.AcquireTimeout, match="see why: ebbgate limit inspect 'api'"),
        concurrency("api", timeout_seconds=0),
    ):
        pass
    cool_down("api", timedelta(0))
    with concurrency("api", timeout_seconds=0) as lease:
        assert lease.protected
    assert client.read_limit("api").cool_down_until is None


def test_who_waits_gets_in_when_time_is_up(client: Client) -> None:
    client.create_limit("api", 1, slot_decay_per_second=1_000.0)
    begun = time.monotonic()
    cool_down(["api"], 0.5)
    waited: list[float] = []

    def call() -> None:
        rate_limit("api", timeout_seconds=20)
        waited.append(time.monotonic() - begun)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(waited) == 3
    assert min(waited) >= 0.499


def test_who_holds_slots_keeps_them(client: Client) -> None:
    client.create_limit("db", 1)
    with held_elsewhere("db"):
        client.cool_down("db", 60)
        assert client.read_limit("db").held_slots == 1


@pytest.mark.asyncio
async def test_coroutines_cool_a_limit_down_too(client: Client) -> None:
    client.create_limit("api", 1)
    await ebbgate_asyncio.cool_down("api", 60)
    with pytest.raises(errors.AcquireTimeout):
        async with ebbgate_asyncio.concurrency("api", timeout_seconds=0):
            pass


def test_nonsense_is_refused_with_a_clear_word(client: Client) -> None:
    client.create_limit("api", 1)
    with pytest.raises(errors.LimitNotFound, match="did you mean 'api'"):
        cool_down("apii", 1)
    for seconds in (-1, 90_000, float("nan"), "soon"):
        with pytest.raises(errors.InvalidRequest):
            cool_down("api", seconds)  # type: ignore[arg-type]  # what users may write
