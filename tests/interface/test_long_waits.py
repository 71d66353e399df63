"""Whoever waits long finds the reason in the log, once and then rarely; whoever does not wait long finds nothing."""

import asyncio
import logging
import re
import threading
import time

import pytest

from ebbgate import Client
from ebbgate.asyncio import concurrency as async_concurrency
from ebbgate.client import progress
from ebbgate.core.model import SECOND
from ebbgate.sync import concurrency, rate_limit
from tests.interface.helpers import held_elsewhere, wait_for_waiters, wait_until


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="ebbgate")
    progress.forget_said()
    return caplog


def lines(told: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in told.messages if message.startswith("waiting for")]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have waiters told sooner than after two seconds: when is a law of tests/client/test_progress.py."""
    monkeypatch.setattr(progress, "MOMENTS_US", (SECOND // 4, *progress.MOMENTS_US[1:]))


def test_many_waiters_of_a_process_hear_once_who_holds_it(
    client: Client, told: pytest.LogCaptureFixture
) -> None:
    """Tasks wait for one limit, and threads for another one; all of them long enough to be told."""
    client.create_limit("tasks", 1)
    client.create_limit("threads", 1)

    async def wait_in_tasks() -> None:
        async def once() -> None:
            async with async_concurrency("tasks"):
                pass

        await asyncio.gather(*[once() for _ in range(5)])

    def wait_in_a_thread() -> None:
        with concurrency("threads"):
            pass

    with held_elsewhere("tasks"), held_elsewhere("threads"):
        waiting = [threading.Thread(target=wait_in_a_thread) for _ in range(3)]
        waiting.append(threading.Thread(target=asyncio.run, args=(wait_in_tasks(),)))
        for thread in waiting:
            thread.start()
        wait_for_waiters(client, "tasks", 5)
        wait_for_waiters(client, "threads", 3)
        begun = time.monotonic()
        wait_until(lambda: len(lines(told)) >= 2 and time.monotonic() - begun > 2.3)
    for thread in waiting:
        thread.join(20)
    for name, line in zip(("tasks", "threads"), sorted(lines(told)), strict=True):
        assert re.fullmatch(
            rf"waiting for '{name}' for [2-9]s, .+ in line: held by .+; see: ebbgate limit inspect '{name}'",
            line,
        )
    assert client.read_limit("tasks").waiting == client.read_limit("threads").waiting == 0


@pytest.mark.usefixtures("soon")
def test_the_reason_of_a_cool_down_is_told(client: Client, told: pytest.LogCaptureFixture) -> None:
    client.create_limit("api", 5, slot_decay_per_second="5/s")
    client.cool_down("api", 50, "429 from the vendor")
    waiting = threading.Thread(target=rate_limit, args=("api",))
    waiting.start()
    wait_until(lambda: lines(told))
    client.cool_down("api", 0)
    waiting.join(20)
    assert not waiting.is_alive(), "who is told gets in all the same"
    (line,) = lines(told)
    assert re.match(
        r"waiting for 'api' for \ds, next in line: it cools down for \d\ds \(429 from the vendor\)", line
    )


def test_a_short_wait_is_nothing_to_speak_of_and_asks_nothing(
    client: Client, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_limit("db", 1)
    asked: list[int] = []
    monkeypatch.setattr(progress.LogWatch, "wants", lambda _watch, waited_us: asked.append(waited_us))
    with held_elsewhere("db"), pytest.raises(TimeoutError), concurrency("db", timeout_seconds=0.5):
        pytest.fail("it is held")
    assert lines(told) == []
    assert asked == []


@pytest.mark.usefixtures("soon")
def test_nobody_asks_for_what_no_log_would_show(
    client: Client, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.set_level(logging.WARNING, logger="ebbgate")
    client.create_limit("db", 1)

    def tell(*_: object) -> None:
        pytest.fail("nobody wants to know")

    monkeypatch.setattr(progress.LogWatch, "tell", tell)
    with held_elsewhere("db"), pytest.raises(TimeoutError), concurrency("db", timeout_seconds=0.6):
        pytest.fail("it is held")


@pytest.mark.usefixtures("soon")
def test_a_wait_that_is_cancelled_while_it_is_told_leaves_the_line(
    client: Client, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_limit("db", 1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.LogWatch, "tell", interrupt)
    with held_elsewhere("db"), pytest.raises(KeyboardInterrupt), concurrency("db"):
        pytest.fail("it is held")
    assert client.read_limit("db").waiting == 0
