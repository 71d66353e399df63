"""Ten thousand connections: what each costs."""

import resource
import time
from pathlib import Path

import pytest

from ebbgate.wire.stream import HeldItem, WaitingItem
from tests.server.conftest import Launch, Talk
from tests.server.streaming import Talker

MANY = 10_000
KIB_EACH = 40


def resident_kib(pid: int) -> int:
    """Return how much memory a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("Linux tells")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_client_that_waits_costs_at_most_40_kib_of_the_server(launch: Launch, talk: Talk) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < MANY + 100:
        pytest.skip(f"at most {most} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = launch()
    first = talk(server.port, "first")
    first.limit("db", 1)
    held = first.held()
    before = resident_kib(server.process.pid)
    waiting: list[Talker] = []
    for number in range(MANY):
        waiter: Talker = talk(server.port, f"waiter-{number:08}")
        assert isinstance(waiter.acquire(), WaitingItem)
        waiting.append(waiter)
    each = (resident_kib(server.process.pid) - before) / MANY
    print(f"{each:.1f} KiB for each of {MANY} clients that wait")
    began = time.monotonic()
    first.release(held.id)
    assert isinstance(waiting[0].push(HeldItem), HeldItem)
    print(f"hand-over: {(time.monotonic() - began) * 1000:.1f} ms")
    assert each <= KIB_EACH
