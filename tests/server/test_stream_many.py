"""Ten thousand connections: what each costs."""

import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ebbgate.core.model import SECOND
from ebbgate.wire.frames import text_frame
from ebbgate.wire.questions import ReadLimit
from ebbgate.wire.stream import PATH, AcquireItem, AnswerItem, HeldItem, HelloItem, WaitingItem, encode_up
from tests.server.conftest import Launch, Talk
from tests.server.streaming import LEASE_US, PATIENCE_SECONDS

MANY = 10_000
TOGETHER = 250
KIB_EACH = 40
SLOW_SECONDS = 5.0
"""What the slowest pair of somebody else may take on a very busy machine; alone it is some milliseconds."""

UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def resident_kib(pid: int) -> int:
    """Return how much memory a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("Linux tells")


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Return a list of sockets that are closed in the end."""
    found: list[socket.socket] = []
    yield found
    for sock in found:
        sock.close()


def opened(port: int) -> socket.socket:
    """Connect, and ask for the upgrade: a client with next to nothing behind it."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    sock.sendall(UPGRADE)
    return sock


def hear(sock: socket.socket, word: bytes) -> None:
    """Read until a word comes."""
    heard = b""
    while word not in heard:
        data = sock.recv(4_096)
        assert data, heard
        heard += data


def asking(number: int) -> bytes:
    """Return a greeting and the question for a slot."""
    hello = HelloItem(1, 1, f"waiter-{number:08}", 1, "main", "here", 4711, {"of": "a test"})
    return text_frame(
        encode_up([hello, AcquireItem(2, f"lease-{number:08}", (("db", 1),), LEASE_US)]), masked=True
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_connections_cost_40_kib_each_and_slow_nobody(
    launch: Launch, talk: Talk, sockets: list[socket.socket]
) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < MANY + 100:
        pytest.skip(f"at most {most} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = launch()
    first, other, waiter = (talk(server.port, name) for name in ("first", "other", "waiter"))
    first.limit("db", 1)
    other.limit("theirs", 1)
    held = first.held(duration_us=3_600 * SECOND)
    assert isinstance(waiter.acquire(), WaitingItem)
    before = resident_kib(server.process.pid)
    slowest = 0.0
    for begin in range(0, MANY, TOGETHER):
        group = [opened(server.port) for _ in range(TOGETHER)]
        sockets += group
        for number, sock in enumerate(group, begin):
            hear(sock, b"\r\n\r\n")
            sock.sendall(asking(number))
        began = time.monotonic()
        other.release(other.held("theirs").id)
        slowest = max(slowest, time.monotonic() - began)
        for sock in group:
            hear(sock, b'["waiting",2,')
    each = (resident_kib(server.process.pid) - before) / MANY
    print(f"{each:.1f} KiB for each of {MANY} clients that wait; the slowest pair {slowest * 1000:.1f} ms")
    read = first.question(ReadLimit("db"))
    assert isinstance(read, AnswerItem)
    assert msgspec.json.decode(read.body)["waiting"] == MANY + 1
    began = time.monotonic()
    first.release(held.id)
    assert isinstance(waiter.push(HeldItem), HeldItem)
    print(f"hand-over: {(time.monotonic() - began) * 1000:.1f} ms")
    assert each <= KIB_EACH
    assert slowest < SLOW_SECONDS
