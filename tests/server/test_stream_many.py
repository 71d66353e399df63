"""Ten thousand connections: what each costs."""

import resource
import time
from pathlib import Path

import pytest

from ebbgate.wire.stream import DoneItem, HeldItem, WaitingItem
from tests.server.conftest import Launch, Talk
from tests.server.streaming import Talker

MANY = 10_000
TOGETHER = 250
KIB_EACH = 40
SLOW_SECONDS = 5.0
"""What the slowest pair of somebody else may take on a very busy machine; alone it is some milliseconds."""


def resident_kib(pid: int) -> int:
    """Return how much memory a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("Linux tells")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_connections_cost_40_kib_each_and_slow_nobody(launch: Launch, talk: Talk) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < MANY + 100:
        pytest.skip(f"at most {most} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = launch()
    first, other = talk(server.port, "first"), talk(server.port, "other")
    first.limit("db", 1)
    other.limit("theirs", 1)
    held = first.held()
    before = resident_kib(server.process.pid)
    waiting: list[Talker] = []
    slowest = 0.0
    for begin in range(0, MANY, TOGETHER):
        group = [talk(server.port) for _ in range(TOGETHER)]
        for number, waiter in enumerate(group, begin):
            waiter.send(waiter.hello_item(f"waiter-{number:08}", 1), waiter.acquire_item())
        began = time.monotonic()
        other.release(other.held("theirs").id)
        slowest = max(slowest, time.monotonic() - began)
        for waiter in group:
            greeted, asked = waiter.answers(1, 2)
            assert isinstance(greeted, DoneItem)
            assert isinstance(asked, WaitingItem)
        waiting += group
    each = (resident_kib(server.process.pid) - before) / MANY
    print(f"{each:.1f} KiB for each of {MANY} clients that wait; the slowest pair {slowest * 1000:.1f} ms")
    began = time.monotonic()
    first.release(held.id)
    assert isinstance(waiting[0].push(HeldItem), HeldItem)
    print(f"hand-over: {(time.monotonic() - began) * 1000:.1f} ms")
    assert each <= KIB_EACH
    assert slowest < SLOW_SECONDS
