"""A process that is stopped while it stands first in line does not delay the others."""

import signal
import time
from typing import cast
from unittest.mock import ANY

import pytest

from ebbgate import Client
from tests.interface.helpers import wait_for_waiters
from tests.processes.conftest import Start

RATE = 5
STOPPED_SECONDS = 6

SPEND = """
    say(ready=True)
    hear()
    for _ in range(1000):
        rate_limit("api")
        say(spent=True)
"""

SPEND_FOR = """
    say(ready=True)
    hear()
    until = time.monotonic() + float(hear())
    calls = 0
    while time.monotonic() < until:
        try:
            rate_limit("api", timeout_seconds=until - time.monotonic())
            calls += 1
        except errors.AcquireTimeout:
            pass
    say(calls=calls)
"""

SPEND_FOR_IN_TASKS = """
    import asyncio
    from ebbgate.asyncio import rate_limit as spend
    async def work():
        until = time.monotonic() + float(hear())
        calls = 0
        while time.monotonic() < until:
            try:
                await spend("api", timeout_seconds=until - time.monotonic())
                calls += 1
            except errors.AcquireTimeout:
                pass
        say(calls=calls)
    say(ready=True)
    hear()
    asyncio.run(work())
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", [SPEND_FOR, SPEND_FOR_IN_TASKS], ids=["threads", "tasks"])
def test_a_stopped_process_first_in_line_does_not_delay_a_rate(
    client: Client, start: Start, code: str
) -> None:
    client.create_limit("api", 1, slot_decay_per_second=RATE)
    stopped = start(SPEND)
    others = [start(code) for _ in range(3)]
    for program in (stopped, *others):
        program.hear()
    stopped.say()
    stopped.hear()
    wait_for_waiters(client, "api", 1)
    stopped.signal(signal.SIGSTOP)
    try:
        for other in others:
            other.say()
            other.say(str(STOPPED_SECONDS))
        calls = [cast("int", other.hear()["calls"]) for other in others]
    finally:
        stopped.signal(signal.SIGCONT)
        stopped.signal(signal.SIGKILL)
    assert sum(calls) >= RATE * STOPPED_SECONDS * 0.7, f"{calls}, of {RATE * STOPPED_SECONDS} that are due"


@pytest.mark.slow
def test_a_stopped_process_does_not_delay_the_end_of_a_cool_down(client: Client, start: Start) -> None:
    client.create_limit("api", 100)
    client.cool_down("api", 2)
    code = """
        say(ready=True)
        with concurrency("api"):
            say(inside=True)
            hear()
    """
    stopped, other = start(code), None
    stopped.hear()
    wait_for_waiters(client, "api", 1)
    stopped.signal(signal.SIGSTOP)
    try:
        other = start(code)
        began = time.monotonic()
        assert other.hear() == {"at": ANY, "ready": True}
        assert other.hear()["inside"] is True
        assert time.monotonic() - began < 6
    finally:
        stopped.signal(signal.SIGCONT)
        stopped.signal(signal.SIGKILL)
