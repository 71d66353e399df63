"""Whoever waits long finds the reason in the log, once and then rarely; whoever does not wait long finds nothing."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import pytest

from ebbgate import Client
from ebbgate.asyncio import concurrency as async_concurrency
from ebbgate.client import progress
from ebbgate.core.model import SECOND
from ebbgate.sync import concurrency, rate_limit
from tests.interface.helpers import held_elsewhere


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="ebbgate")
    progress.forget_said()
    return caplog


def lines(told: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in told.messages if message.startswith("waiting for")]


def test_many_waiters_of_a_process_hear_once_who_holds_it(
    client: Client, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MOMENTS_US", (SECOND // 4, 10 * SECOND))  # that it is 2 s is told below
    client.create_limit("db", 1)

    async def wait_in_tasks() -> None:
        async def once() -> None:
            with pytest.raises(TimeoutError):
                async with async_concurrency("db", timeout_seconds=0.9):
                    pytest.fail("it is held")

        await asyncio.gather(*[once() for _ in range(5)])

    def wait_in_a_thread() -> None:
        with pytest.raises(TimeoutError), concurrency("db", timeout_seconds=0.9):
            pytest.fail("it is held")

    with held_elsewhere("db"):
        for among in ("tasks", "threads"):
            told.clear()
            progress.forget_said()
            if among == "tasks":
                asyncio.run(wait_in_tasks())
            else:
                in_threads(wait_in_a_thread)
            (line,) = lines(told)
            assert line.startswith("waiting for 'db' for 0s, "), among
            assert " in line: held by " in line
            assert line.endswith("; see: ebbgate limit inspect 'db'")
    assert client.read_limit("db").waiting == 0


def in_threads(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


def test_the_reason_of_a_cool_down_is_told(client: Client, told: pytest.LogCaptureFixture) -> None:
    client.create_limit("api", 5, slot_decay_per_second="5/s")
    client.cool_down("api", 2.5, "429 from the vendor")
    begun = time.monotonic()
    rate_limit("api")
    assert time.monotonic() - begun < 5, "who is told gets in all the same"
    (line,) = lines(told)
    assert line.startswith(
        "waiting for 'api' for 2s, next in line: it cools down for 1s (429 from the vendor)"
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


def test_nobody_asks_for_what_no_log_would_show(
    client: Client, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.set_level(logging.WARNING, logger="ebbgate")
    client.create_limit("db", 1)

    def tell(*_: object) -> None:
        pytest.fail("nobody wants to know")

    monkeypatch.setattr(progress.LogWatch, "tell", tell)
    with held_elsewhere("db"), pytest.raises(TimeoutError), concurrency("db", timeout_seconds=2.3):
        pytest.fail("it is held")


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
