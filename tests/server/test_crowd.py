"""Crowds: however many connections are open, health is answered, and clients with a key get a connection."""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ebbgate.server import serving
from ebbgate.server import socket as stream_socket
from ebbgate.server.crowd import SPARE_MAX, Crowd, Seat, network_of
from ebbgate.server.http import HttpConfig
from ebbgate.server.options import Options
from ebbgate.server.serving import running
from tests.server.asking import KEY_TEXT, KEYS, Probe, Wire, ask, told
from tests.server.certificates import make_certificates
from tests.server.processes import refused, started

KEY = f"Authorization: Bearer {KEY_TEXT}"
FILES = 600
"""A limit of open files that leaves a few hundred connections."""

IDLE = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kept = []
for _ in range(count):
    kept.append(socket.create_connection((host, port)))
print("connected", flush=True)
sys.stdin.read()
"""


@contextmanager
def idle_connections(url: str, count: int) -> Iterator[None]:
    """Hold so many connections that say nothing, in a process of their own."""
    host, port = url.rpartition("/")[2].split(":")
    process = subprocess.Popen(
        [sys.executable, "-c", IDLE, host, port, str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"connected\n"
        yield
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


@pytest.fixture
def flags(tmp_path: Path) -> tuple[str, ...]:
    keys = tmp_path / "keys"
    keys.write_text(f"ci={KEY_TEXT}\n")
    keys.chmod(0o600)
    return ("--api-keys-file", str(keys))


# --- the slots


class Connections:
    """Connections of a crowd that note which of them were closed."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.closed: list[str] = []

    def arrive(self, name: str, address: str = "10.0.0.1") -> Seat:
        return self.crowd.arrive(address, partial(self.closed.append, name))


def test_a_new_connection_replaces_the_oldest_one_without_a_key() -> None:
    connections = Connections(Crowd(2))
    connections.arrive("a")
    connections.arrive("b")
    assert not connections.arrive("c").is_spare
    assert connections.closed == ["a"]
    assert len(connections.crowd) == 2


def test_the_address_with_the_most_connections_without_a_key_makes_room() -> None:
    connections = Connections(Crowd(4))
    connections.arrive("first", "10.0.0.1")
    for name in ("a", "b", "c"):
        connections.arrive(name, "10.0.0.2")
    connections.arrive("new", "10.0.0.3")
    assert connections.closed == ["a"]


def test_a_connection_with_a_key_stays_and_the_new_one_gets_a_spare_slot() -> None:
    connections = Connections(Crowd(1, spare_max=1))
    first = connections.arrive("first")
    first.prove()
    assert connections.arrive("second").is_spare
    assert connections.arrive("third").is_spare
    assert connections.closed == ["second"]
    first.leave()
    assert not connections.arrive("fourth").is_spare


def test_a_slot_is_freed_once() -> None:
    crowd = Crowd(2)
    seat = Connections(crowd).arrive("a")
    seat.leave()
    seat.leave()
    seat.prove()
    assert len(crowd) == 0


def test_a_trusted_connection_never_makes_room() -> None:
    crowd = Crowd(1)
    crowd.arrive("", lambda: None, trusted=True)
    assert crowd.arrive("", lambda: None, trusted=True).is_spare


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8:0:1::1", "2001:db8::2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("a:b", "a:b", True),
    ],
)
def test_one_ipv6_network_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


# --- a server


@pytest.mark.asyncio
async def test_connections_without_a_key_keep_out_neither_health_nor_clients_with_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_REST_CONNECTIONS", 0)
    async with running(told(tmp_path, connections_max=20, keys=KEYS), Probe()) as server:
        kept = await Wire.connect(server.url)
        await kept.send("GET /v1/limits HTTP/1.1", "Host: localhost", KEY)
        assert (await kept.answer()).status == 200
        async with stream_of(server.url) as stream:
            assert await stream.recv() == "ci"
            idle = [await Wire.connect(server.url) for _ in range(100)]
            assert (await ask(server.url, "/livez")).status == 200
            assert (await ask(server.url, "/v1/limits", KEY)).status == 200
            async with stream_of(server.url) as other:
                assert await other.recv() == "ci"
            assert await idle[0].is_over()
            await kept.send("GET /v1/limits HTTP/1.1", "Host: localhost", KEY)
            assert (await kept.answer()).status == 200
            await stream.send("still here")
            assert await stream.recv() == "still here"
        for wire in (*idle, kept):
            await wire.close()


def stream_of(url: str) -> connect:
    return connect(
        url.replace("http", "ws", 1) + "/v1/stream",
        additional_headers={"Authorization": f"Bearer {KEY_TEXT}"},
    )


@pytest.mark.asyncio
async def test_a_server_full_of_clients_with_a_key_answers_health_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_REST_CONNECTIONS", 0)
    async with running(told(tmp_path, connections_max=2), Probe()) as server:
        url = server.url.replace("http", "ws", 1) + "/v1/stream"
        async with connect(url), connect(url):
            silent = [await Wire.connect(server.url) for _ in range(2 * SPARE_MAX)]
            for path in ("/livez", "/readyz", "/livez?x=1"):
                answer = await ask(server.url, path)
                assert (answer.status, answer.headers["connection"]) == (200, "close")
            for path, more in (("/v1/limits", ()), ("/livez", ("Connection: Upgrade", "Upgrade: websocket"))):
                answer = await ask(server.url, path, *more)
                assert (answer.status, answer.problem()) == (503, "server_unavailable")
            assert (await ask(server.url, "/livez", method="POST", body=b"x")).status == 503
            for wire in silent:
                await wire.close()


@pytest.mark.asyncio
async def test_a_spare_slot_is_for_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_REST_CONNECTIONS", 0)
    monkeypatch.setattr(HttpConfig, "spare_seconds", 0.2)
    async with (
        running(told(tmp_path, connections_max=1), Probe()) as server,
        connect(server.url.replace("http", "ws", 1) + "/v1/stream"),
    ):
        silent = await Wire.connect(server.url)
        assert await silent.is_over()
        await silent.close()


@pytest.mark.asyncio
async def test_a_message_that_never_ends_costs_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_socket, "MESSAGE_SECONDS", 0.3)
    async with running(Options(store="memory://", port=0)) as server:
        url = server.url.replace("http", "ws", 1) + "/v1/stream"

        async def parts() -> AsyncIterator[str]:
            yield "["
            await asyncio.Event().wait()

        async with connect(url) as stream:
            sending = asyncio.create_task(stream.send(parts()))
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(stream.recv(), 30)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            1008,
            "a message must arrive within 0.3 seconds",
        )


# --- open files


def test_a_server_that_may_open_too_few_files_says_how_many_it_needs(tmp_path: Path) -> None:
    code, said = refused(tmp_path, files=64)
    assert code == 1
    assert "may open 64 files (ulimit -n), but a server needs at least 512" in said


def test_a_server_that_may_open_few_files_says_how_many_connections_are_possible(tmp_path: Path) -> None:
    with started(tmp_path, files=FILES) as served:
        (warned,) = [text for entry in served.entries() if "ulimit" in (text := str(entry["message"]))]
        assert "only 336 connections are possible" in warned
        assert "--connections-max 10000 needs ulimit -n 11264" in warned


@pytest.mark.slow
def test_health_answers_though_every_descriptor_is_asked_for(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with started(tmp_path, *flags, files=FILES) as served, idle_connections(served.url, 2 * FILES):
        for _ in range(20):
            assert asyncio.run(ask(served.url, "/livez")).status == 200
            assert asyncio.run(ask(served.url, "/v1/limits", KEY)).status == 200


@pytest.mark.slow
def test_handshakes_that_never_come_keep_nobody_out(tmp_path: Path, flags: tuple[str, ...]) -> None:
    folder = make_certificates(tmp_path)
    context = ssl.create_default_context(cafile=str(folder / "one.pem"))
    flags = (*flags, "--tls-cert", str(folder / "one.pem"), "--tls-key", str(folder / "one.key"))
    with started(tmp_path, *flags, files=FILES) as served, idle_connections(served.url, 2 * FILES):
        for _ in range(20):
            assert asyncio.run(ask(served.url, "/livez", context=context)).status == 200
            assert asyncio.run(ask(served.url, "/v1/limits", KEY, context=context)).status == 200


@pytest.mark.slow
def test_a_handshake_ends_after_ten_seconds(tmp_path: Path, flags: tuple[str, ...]) -> None:
    folder = make_certificates(tmp_path)
    flags = (*flags, "--tls-cert", str(folder / "one.pem"), "--tls-key", str(folder / "one.key"))
    with started(tmp_path, *flags) as served:
        host, port = served.url.rpartition("/")[2].split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.settimeout(25)
            assert silent.recv(1) == b""


@pytest.mark.slow
def test_eleven_thousand_idle_connections_keep_out_neither_health_nor_streams(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(started(tmp_path, *flags))
        for _ in range(4):
            stack.enter_context(idle_connections(served.url, 3_000))
        assert asyncio.run(ask(served.url, "/livez")).status == 200
        assert asyncio.run(ask(served.url, "/v1/limits", KEY)).status == 200
        asyncio.run(_open_and_close(served.url))


async def _open_and_close(url: str) -> None:
    async with stream_of(url):
        pass
