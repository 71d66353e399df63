"""The life of a server: how it starts, what it refuses, how it ends; in this process and as users start it."""

import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ebbgate import settings
from ebbgate.cli import serve as command
from ebbgate.cli.main import run_command
from ebbgate.errors import EbbgateError, InvalidRequest, StoreUnavailable
from ebbgate.neighbours.owner import owner_of
from ebbgate.server import http, serving
from ebbgate.server.http import HttpConfig
from ebbgate.server.logs import JsonFormatter, TerminalFormatter
from ebbgate.server.notify import Notifier
from ebbgate.server.options import Options
from ebbgate.server.serving import running
from ebbgate.server.sockets import bind, close_all
from ebbgate.stores import without_password
from ebbgate.version import requirement
from tests.server.asking import KEY_TEXT, KEYS, Probe, Wire, ask, told
from tests.server.certificates import make_certificates
from tests.server.processes import refused, started


def has_ipv6() -> bool:
    try:
        close_all(bind("::1", 0))
    except EbbgateError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


# --- in this process


@pytest.mark.asyncio
async def test_it_serves_where_it_says_and_leaves_nothing_behind(tmp_path: Path) -> None:
    probe = Probe()
    async with running(told(tmp_path), probe) as server:
        assert probe.life == ["start"]
        assert (await ask(server.url)).status == 200
        address = owner_of(tmp_path / "limits.db")
        assert address is not None
        assert (address.url, address.socket, address.pid) == (server.url, str(server.socket), os.getpid())
        assert server.socket is not None
        assert server.socket.is_socket()
        url = server.url
    assert probe.life == ["start", "drain", "close"]
    assert owner_of(tmp_path / "limits.db") is None
    assert not server.socket.exists()
    with pytest.raises(ConnectionRefusedError):
        await ask(url)


@pytest.mark.asyncio
async def test_what_its_predecessor_left_after_a_crash_is_in_nobody_s_way(tmp_path: Path) -> None:
    left = tmp_path / "limits.db-owner.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    async with running(told(tmp_path), Probe()):
        assert (await ask(str(left), host="localhost")).status == 200


@pytest.mark.asyncio
async def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    async with running(told(tmp_path), Probe()) as first:
        probe = Probe()
        with pytest.raises(StoreUnavailable, match="owned by the server at"):
            async with running(told(tmp_path), probe):
                pass
        assert probe.life == []
        assert (await ask(first.url)).status == 200
        assert (await ask(str(first.socket), host="localhost")).status == 200
    async with running(told(tmp_path), Probe()):
        pass


@pytest.mark.asyncio
async def test_a_taken_port_is_told_before_the_store_is_touched(tmp_path: Path) -> None:
    async with running(told(tmp_path), Probe()) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(EbbgateError, match=f"port {port} of 127.0.0.1 is taken"):
            async with running(told(tmp_path / "other", port=port)):
                pass
        assert not (tmp_path / "other").exists()


@pytest.mark.asyncio
async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    class Broken(Probe):
        async def start(self) -> None:
            raise StoreUnavailable("no")

    probe = Broken()
    with pytest.raises(StoreUnavailable):
        async with running(told(tmp_path), probe):
            pass
    assert probe.life == ["close"]
    assert owner_of(tmp_path / "limits.db") is None
    assert not (tmp_path / "limits.db-owner.sock").exists()


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", pytest.param("::1", marks=ipv6), "localhost"])
async def test_it_listens_where_it_is_told(tmp_path: Path, host: str) -> None:
    async with running(told(tmp_path, host=host), Probe()) as server:
        assert (await ask(server.url, host=f"[{host}]" if ":" in host else host)).status == 200
        assert len({bound.getsockname()[1] for bound in server._listening[0].servers[0].sockets}) == 1


@pytest.mark.asyncio
@ipv6
async def test_localhost_is_both_addresses_with_one_port(tmp_path: Path) -> None:
    async with running(told(tmp_path, host="localhost"), Probe()) as server:
        port = server.url.rpartition(":")[2]
        assert (await ask(f"http://127.0.0.1:{port}")).status == 200
        if ("::1", 0) in {found[4][:2] for found in socket.getaddrinfo("localhost", None)}:
            assert (await ask(f"http://[::1]:{port}")).status == 200


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "300.1.1.1"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest, match="--host"):
        bind(host, 0)


@pytest.mark.asyncio
async def test_a_store_in_memory_has_no_owner_and_no_socket() -> None:
    async with running(Options(store="memory://", port=0), Probe()) as server:
        assert server.socket is None
        assert (await ask(server.url)).status == 200


@pytest.mark.asyncio
async def test_the_kernel_notices_who_is_gone_and_nobody_is_pinged(tmp_path: Path) -> None:
    async with (
        running(told(tmp_path), Probe()) as server,
        connect(server.url.replace("http", "ws", 1) + "/v1/stream"),
    ):
        (connection,) = server._listening[0].server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        found = [
            accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        ]
        assert found == [10, 5, 3]
        assert server._listening[0].config.ws_ping_interval is None


@pytest.mark.asyncio
async def test_it_may_open_as_many_files_as_the_system_allows(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        async with running(told(tmp_path), Probe()):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- draining


@pytest.mark.asyncio
async def test_who_waits_is_answered_before_the_end(tmp_path: Path) -> None:
    probe = Probe()
    async with running(told(tmp_path), probe) as server:
        waiting = asyncio.create_task(ask(server.url, "/held"))
        await probe.entered.wait()
        idle = await Wire.connect(server.url)
        stream = await connect(server.url.replace("http", "ws", 1) + "/v1/stream")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert (await waiting).status == 200
    assert await idle.is_over()
    await idle.close()
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await stream.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    await stream.close()


@pytest.mark.asyncio
async def test_who_does_not_finish_in_time_is_cut_off(tmp_path: Path) -> None:
    probe = Probe()
    async with running(told(tmp_path, drain_seconds=0.3), probe) as server:
        wire = await Wire.connect(server.url)
        await wire.send("GET /stuck HTTP/1.1", "Host: localhost")
        await probe.entered.wait()
        began = time.monotonic()
    assert 0.2 < time.monotonic() - began < 5
    assert await wire.is_over()
    await wire.close()


@pytest.mark.asyncio
async def test_the_rest_of_a_request_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_ARRIVAL_SECONDS", 0.2)
    probe = Probe()
    async with running(told(tmp_path, drain_seconds=60), probe) as server:
        late, soon = await Wire.connect(server.url), await Wire.connect(server.url)
        for wire in (late, soon):
            await wire.send("POST /v1/limits HTTP/1.1", "Host: localhost", "Content-Length: 5", body=b"ab")
        async with asyncio.timeout(20):
            while probe.served < 2:
                await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.05, soon.writer.write, b"cde")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert (await soon.answer()).json()["bytes"] == 5
    assert await late.is_over()
    for wire in (late, soon):
        await wire.close()


@pytest.mark.asyncio
async def test_in_a_hurry_nobody_is_waited_for(tmp_path: Path) -> None:
    probe = Probe()
    async with running(told(tmp_path, drain_seconds=60), probe) as server:
        wire = await Wire.connect(server.url)
        await wire.send("GET /stuck HTTP/1.1", "Host: localhost")
        await probe.entered.wait()
        asyncio.get_running_loop().call_later(0.1, server.hurry)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    await wire.close()


# --- slow and large requests


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabc",
    ],
)
async def test_a_request_that_never_ends_costs_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(HttpConfig, "request_seconds", 0.2)
    async with running(told(tmp_path), Probe()) as server:
        wire = await Wire.connect(server.url)
        wire.writer.write(begun)
        assert await wire.is_over()
        await wire.close()


@pytest.mark.asyncio
async def test_who_waits_for_an_answer_is_not_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpConfig, "request_seconds", 0.1)
    probe = Probe()
    async with running(told(tmp_path), probe) as server:
        wire = await Wire.connect(server.url)
        await wire.send("GET /held HTTP/1.1", "Host: localhost")
        stream = await connect(server.url.replace("http", "ws", 1) + "/v1/stream")
        assert await stream.recv() == ""
        await asyncio.wait_for(probe.entered.wait(), 20)
        await asyncio.sleep(0.3)
        probe.let_go.set()
        assert (await wire.answer()).status == 200
        await wire.send("GET /livez HTTP/1.1", "Host: localhost")
        assert (await wire.answer()).status == 200
        await stream.send("still here")
        assert await stream.recv() == "still here"
        await wire.close()
        await stream.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),  # TLS begins so
        (b"FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 65_536 + b"\r\n", 431, "too_large"),
    ],
)
async def test_what_is_no_request_is_refused_as_everything_else_is(
    tmp_path: Path, said: bytes, status: int, code: str
) -> None:
    probe = Probe()
    async with running(told(tmp_path), probe) as server:
        wire = await Wire.connect(server.url)
        wire.writer.write(said)
        answer = await wire.answer()
        assert (answer.status, answer.problem()) == (status, code)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert await wire.is_over()
        await wire.close()
    assert probe.served == 0


@pytest.mark.asyncio
async def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    probe = Probe()
    async with running(told(tmp_path), probe) as server:
        wire = await Wire.connect(server.url)
        await wire.send("GET / HTTP/1.1", "Host: localhost")
        assert (await wire.answer()).status == 200  # what came before does not count
        wire.writer.write(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                wire.writer.write(b"x" * 4_096)
                await wire.writer.drain()
                if wire.reader.at_eof():
                    raise ConnectionError
                await asyncio.sleep(0)
        await wire.close()
    assert probe.served == 1


@pytest.mark.asyncio
async def test_more_connections_than_allowed_are_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_REST_CONNECTIONS", 0)
    async with running(told(tmp_path, connections_max=1), Probe()) as server:
        first = await Wire.connect(server.url)
        await first.send("GET /v1/limits HTTP/1.1", "Host: localhost")
        assert (await first.answer()).status == 200
        answer = await ask(server.url)
        assert (answer.status, answer.problem()) == (503, "server_unavailable")
        await first.close()
        state = server._listening[0].server_state
        async with asyncio.timeout(20):
            while state.connections:
                await asyncio.sleep(0.01)
        assert (await ask(server.url)).status == 200


def test_the_bounds_are_those_of_the_reference() -> None:
    assert (http.HEAD_BYTES_MAX, http.REQUEST_SECONDS) == (65_536, 30.0)


# --- TLS


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


@pytest.mark.asyncio
async def test_over_tls_it_shows_its_certificate_and_asks_for_tls_for_good(
    tmp_path: Path, certificates: Path
) -> None:
    options = told(tmp_path, tls_cert=certificates / "one.pem", tls_key=certificates / "one.key")
    async with running(options, Probe()) as server:
        assert server.url.startswith("https://")
        context = trusting(certificates / "one.pem")
        answer = await ask(server.url, context=context)
        assert answer.json()["scheme"] == "https"
        assert "max-age" in answer.headers["strict-transport-security"]
        async with connect(server.url.replace("https", "wss", 1) + "/v1/stream", ssl=context) as stream:
            assert await stream.recv() == ""
        assert (await ask(str(server.socket), host="localhost")).json()["scheme"] == "http"
        with pytest.raises(ssl.SSLError):
            await ask(server.url, context=trusting(certificates / "two.pem"))
        old = trusting(certificates / "one.pem")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await ask(server.url, context=old)).status == 200
        plain = await Wire.connect(server.url.replace("https", "http", 1))
        await plain.send("GET / HTTP/1.1", "Host: localhost")
        assert await plain.is_over()
        await plain.close()


@pytest.mark.asyncio
async def test_a_new_certificate_is_taken_without_an_end(tmp_path: Path, certificates: Path) -> None:
    for suffix in ("pem", "key"):
        shutil.copy(certificates / f"one.{suffix}", tmp_path / f"own.{suffix}")
    options = told(tmp_path, tls_cert=tmp_path / "own.pem", tls_key=tmp_path / "own.key")
    async with running(options, Probe()) as server:
        (tmp_path / "own.key").write_text("broken")
        server.reload()
        assert (await ask(server.url, context=trusting(certificates / "one.pem"))).status == 200
        for suffix in ("pem", "key"):
            shutil.copy(certificates / f"two.{suffix}", tmp_path / f"own.{suffix}")
        server.reload()
        assert (await ask(server.url, context=trusting(certificates / "two.pem"))).status == 200


@pytest.mark.asyncio
async def test_clients_may_have_to_show_a_certificate(tmp_path: Path, certificates: Path) -> None:
    options = told(
        tmp_path, tls_cert=certificates / "one.pem", tls_key=certificates / "one.key",
        tls_client_ca=certificates / "two.pem",
    )  # fmt: skip
    async with running(options, Probe()) as server:
        context = trusting(certificates / "one.pem")
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 tells the client only when it reads
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(server.url, context=context)
        context.load_cert_chain(certificates / "two.pem", certificates / "two.key")
        assert (await ask(server.url, context=context)).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("cert", "key"),
    [("one.pem", "two.key"), ("none.pem", "one.key"), ("one.key", "one.key"), ("one.pem", "locked.key")],
)
async def test_a_certificate_that_cannot_be_shown_is_told_at_the_start(
    tmp_path: Path, certificates: Path, cert: str, key: str
) -> None:
    with pytest.raises(InvalidRequest, match="--tls-"):
        async with running(told(tmp_path, tls_cert=certificates / cert, tls_key=certificates / key), Probe()):
            pass


# --- what would be unsafe is refused


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gate.example.com", ""])
def test_beyond_this_machine_it_needs_keys_and_tls(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidRequest, match="API keys"):
        told(tmp_path, host=host)
    with pytest.raises(InvalidRequest, match="API keys"):
        told(tmp_path, host=host, tls_cert=Path("a"), tls_key=Path("b"))
    with pytest.raises(InvalidRequest, match="--tls-cert and --tls-key, or name the proxy"):
        told(tmp_path, host=host, keys=KEYS)
    told(tmp_path, host=host, keys=KEYS, tls_cert=Path("a"), tls_key=Path("b"))
    told(tmp_path, host=host, keys=KEYS, trusted_proxies=("10.0.0.1",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1}, {"port": 65_536}, {"away_grace_seconds": -1}, {"recovery_grace_seconds": float("nan")},
        {"lease_duration_min_seconds": 0}, {"drain_seconds": 1e9}, {"connections_max": 0},
        {"tls_cert": Path("a")}, {"tls_key": Path("a")}, {"tls_client_ca": Path("a")},
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        told(tmp_path, **wrong)


def test_a_password_is_not_shown() -> None:
    assert (
        without_password("postgresql://me:secret@db.example:5432/x")
        == "postgresql://me:***@db.example:5432/x"
    )
    assert without_password("sqlite:////a/b.db") == "sqlite:////a/b.db"


# --- the service manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """What systemd is to a service: a socket, and its name in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = (
            str(tmp_path / "notify")
            if request.param == "path"
            else f"@ebbgate-{os.getpid()}-{time.time_ns()}"
        )
        listening.bind(name.replace("@", "\0", 1))
        listening.settimeout(20)
        yield listening, name


def test_a_service_manager_hears_of_start_life_and_end(
    manager: tuple[socket.socket, str], tmp_path: Path
) -> None:
    heard, name = manager
    with started(tmp_path, environment={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "600000"}) as served:
        first = heard.recv(4_096).decode()
        assert first == f"READY=1\nSTATUS=serving {served.url}"
        assert [heard.recv(4_096) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        assert served.end() == 0
        last = []
        while b"STOPPING=1" not in last:
            last.append(heard.recv(4_096))


def test_a_service_manager_that_has_gone_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "none"), watchdog_seconds=3)
    notifier.tell("READY=1")
    assert "cannot be told READY=1" in caplog.text
    assert notifier.pause_seconds(5) == 1.0
    Notifier(None, watchdog_seconds=3).tell_alive()


def test_a_watchdog_of_another_process_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert settings.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert settings.watchdog_seconds() == 2.0
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert settings.watchdog_seconds() is None


# --- as users start it


@pytest.mark.slow
@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)])
def test_it_ends_in_time_though_clients_are_connected(
    tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    with started(tmp_path) as served, ExitStack() as stack:
        url = served.url
        port = int(url.rpartition(":")[2])
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        began = time.monotonic()
        assert served.end(*signals) == 0
        assert time.monotonic() - began < 5
        ready, stopped = served.find("ready"), served.find("stopped")
        assert ready is not None
        assert stopped is not None
        assert ready["store"] == f"sqlite:///{tmp_path / 'ebbgate' / 'ebbgate.db'}"
        assert owner_of(tmp_path / "ebbgate" / "ebbgate.db") is None


@pytest.mark.slow
def test_it_is_soon_ready_and_starts_again_after_a_crash(tmp_path: Path) -> None:
    """The target is a second, on a machine that does nothing else; what hangs takes longer than the bound here."""
    port = free_port()
    seconds = []
    for _ in range(3):
        with started(tmp_path, "--port", str(port)) as served:
            ready = served.find("ready")
            assert ready is not None, served.log.read_text()
            seconds.append(float(str(ready["seconds"])))
            assert owner_of(tmp_path / "ebbgate" / "ebbgate.db") is not None
            served.process.kill()
            served.process.wait()
        assert owner_of(tmp_path / "ebbgate" / "ebbgate.db") is None
    print(seconds)
    assert min(seconds) < 10


@pytest.mark.slow
def test_what_it_logs_is_one_object_a_line_and_holds_no_key(tmp_path: Path) -> None:
    variables = {"EBBGATE_API_KEYS": f"ci={KEY_TEXT}", "EBBGATE_LOG_LEVEL": "debug"}
    with started(tmp_path, environment=variables) as served:

        async def talk() -> None:
            right, wrong = f"Authorization: Bearer {KEY_TEXT}", f"Authorization: Bearer {KEY_TEXT}-wrong"
            assert (await ask(served.url, "/v1/limits", wrong)).status == 401
            await ask(served.url, "/v1/nothing", right)
            await ask(served.url, "/v1/limits", right, method="NONSENSE")
            for path, key in (("/v1/nothing", right), *[("/v1/stream", wrong)] * 3):
                wire = await Wire.connect(served.url)
                await wire.send(
                    f"GET {path} HTTP/1.1", "Host: localhost", key, "Upgrade: websocket", "Connection: Upgrade",
                    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13",
                )  # fmt: skip
                await wire.answer()
                await wire.close()

        asyncio.run(talk())
        assert served.end() == 0
        text = served.log.read_text()
        assert KEY_TEXT not in text
        entries = [json.loads(line) for line in text.splitlines()]
        assert {"ready", "stopped"} <= {entry["message"] for entry in entries}
        assert {entry["logger"] for entry in entries} == {"ebbgate.server"}, "what is refused is no failure"
        for entry in entries:
            assert {"time", "level", "logger", "message"} <= set(entry)
            assert entry["time"].endswith("Z")
        (refusal,) = [entry for entry in entries if "refused" in entry["message"]][:1]
        assert (refusal["status"], refusal["path"], refusal["client"]) == (401, "/v1/limits", "127.0.0.1")


@pytest.mark.slow
def test_a_variable_counts_unless_it_is_empty_or_the_option_is_given(tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "EBBGATE_PORT": str(port), "EBBGATE_HOST": "", "EBBGATE_STORE": "memory://",
        "EBBGATE_ALLOWED_HOSTS": "a.example, b.example", "EBBGATE_DRAIN_SECONDS": "1",
        "EBBGATE_TLS_CERT": "", "EBBGATE_TRUSTED_PROXIES": "10.0.0.1",
    }  # fmt: skip
    with started(
        tmp_path, "--port", str(port), "--store", f"sqlite:///{tmp_path}/x.db", environment=variables
    ) as served:
        assert served.url == f"http://127.0.0.1:{port}"
        assert (tmp_path / "x.db").exists()
        for host in ("a.example", "b.example"):
            assert asyncio.run(ask(served.url, "/livez", host=host)).status == 200
        assert asyncio.run(ask(served.url, "/livez", host="c.example")).status == 421


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "variables", "code", "says"),
    [
        (("--host", "0.0.0.0"), {}, 2, "EBBGATE_API_KEYS_FILE"),
        (("--host", "0.0.0.0"), {"EBBGATE_API_KEYS": KEY_TEXT}, 2, "--tls-cert"),
        ((), {"EBBGATE_HOST": "0.0.0.0"}, 2, "API keys"),
        ((), {"EBBGATE_API_KEYS": "short"}, 2, "no. 1"),
        (("--api-keys-file", "none"), {}, 2, "cannot be read"),
        (("--api-keys-file", "/dev/null"), {}, 2, "holds no key"),
        (("--port", "x"), {}, 2, "'x' is no whole number"),
        ((), {"EBBGATE_PORT": "1.5"}, 2, "EBBGATE_PORT"),
        (("--durability", "some"), {}, 2, "some"),
        (("--store", "mysql://x"), {}, 2, "names no store"),
        (("--store", "sqlite:////proc/none/x.db"), {}, 1, "folder must be writable"),
        (("--port", "0", "--nonsense"), {}, 2, "nonsense"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(
    tmp_path: Path, flags: tuple[str, ...], variables: dict[str, str], code: int, says: str
) -> None:
    got, said = refused(tmp_path, *flags, environment=variables)
    assert (got, len(said.strip().splitlines())) == (code, 1), said
    assert said.startswith("ebbgate: ")
    assert says in said
    assert KEY_TEXT not in said


@pytest.mark.slow
def test_a_server_on_a_file_that_another_one_owns_says_which(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        code, said = refused(tmp_path, "--port", "0", "-o", "json")
        assert code == 1
        problem = json.loads(said.splitlines()[-1])
        assert problem["code"] == "store_unavailable"
        assert first.url in problem["detail"]
        assert str(first.process.pid) in problem["detail"]


def test_without_its_libraries_it_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "litestar" else object())
    assert run_command(["serve"]) == 1
    assert f"pip install {requirement('server')}" in capsys.readouterr().err


def test_a_log_for_people_is_short_and_cannot_be_forged() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 1, "refused: %s", ("Bearer abc\n\x1b[2J",), None)
    forged = "/\n\x1b[31mforged"
    record.__dict__["fields"] = {"path": forged, "client": ""}
    line = TerminalFormatter().format(record)
    for part in ("\n", "\x1b[2J", "\x1b[31m", "abc", "client"):
        assert part not in line
    entry = JsonFormatter().format(record)
    assert json.loads(entry)["path"] == forged
    assert "\n" not in entry
    assert "abc" not in entry
