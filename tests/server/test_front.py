"""The front: whom it lets through to what, over real sockets and, for who cannot be here, as an application."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ebbgate.errors import InvalidRequest
from ebbgate.server import front
from ebbgate.server.front import KEY, Front, Message
from ebbgate.server.http import HEALTH_PATHS
from ebbgate.server.options import BODY_BYTES_MAX, Options
from ebbgate.server.peers import is_served_name
from ebbgate.server.serving import Server, running
from tests.server.asking import KEY_TEXT, KEYS, OTHER_KEY, Probe, Wire, ask, told

BEARER = f"Authorization: Bearer {KEY_TEXT}"


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest_asyncio.fixture
async def server(tmp_path: Path, probe: Probe) -> AsyncIterator[Server]:
    """A server without keys, for this machine."""
    async with running(told(tmp_path, allowed_hosts=("gate.example.com",)), probe) as server:
        yield server


@pytest_asyncio.fixture
async def guarded(tmp_path: Path, probe: Probe) -> AsyncIterator[Server]:
    """A server with keys."""
    async with running(told(tmp_path, keys=KEYS), probe) as server:
        yield server


async def refused_stream(server: Server, **more: Any) -> tuple[int, str]:  # noqa: ANN401 - as `connect` has them
    """Try to open a WebSocket; return the status and the code of the refusal."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(server.url.replace("http", "ws", 1) + "/v1/stream", **more):
            pass
    response = refused.value.response
    return response.status_code, msgspec.json.decode(response.body)["code"]


# --- hosts


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:4220", "127.255.255.254:9", "[::1]", "[::1]:4220",
        "[0:0:0:0:0:0:0:1]:1", "gate.example.com", "Gate.Example.Com:443", "gate.example.com.", "localhost.:1",
    ],
)  # fmt: skip
async def test_who_means_this_machine_or_a_configured_name_is_served(server: Server, host: str) -> None:
    assert (await ask(server.url, host=host)).status == 200
    assert (await ask(server.url, host=host)).status == 200  # now from memory


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:4220", "127.0.0.1.evil.example", "localhost.evil.example", "evil-localhost",
        "10.0.0.1", "0.0.0.0", "[::]", "[::2]", "2130706433", "127.1", "0177.0.0.1", "0x7f.1", "127.0.0.1@evil",
        "127.0.0.1:80:80", "127.0.0.1:x", "[::1", "::1", "", ":4220", "127.0.0.1, evil.example",
        "evil.example#@127.0.0.1", "sub.gate.example.com", "gate.example.com..", "\xff",
    ],
)  # fmt: skip
async def test_a_page_whose_name_was_rebound_to_this_machine_is_refused(
    server: Server, probe: Probe, host: str
) -> None:
    answer = await ask(server.url, host=host)
    assert (answer.status, answer.problem()) == (421, "host_not_allowed")
    for path in HEALTH_PATHS:
        assert (await ask(server.url, path, host=host)).status == 421
    assert probe.served == 0


@pytest.mark.asyncio
async def test_a_stream_of_a_rebound_name_is_refused(server: Server, probe: Probe) -> None:
    assert await refused_stream(server, additional_headers={"Host": "evil.example"}) == (
        400,
        "invalid_request",
    )
    wire = await Wire.connect(server.url)
    await wire.send(
        "GET /v1/stream HTTP/1.1", "Host: evil.example", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13",
    )  # fmt: skip
    answer = await wire.answer()
    assert (answer.status, answer.problem()) == (421, "host_not_allowed")
    await wire.close()
    assert probe.served == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "headers", [(), ("Host: 127.0.0.1", "Host: 127.0.0.1"), ("Host: 127.0.0.1", "host: evil.example")]
)
async def test_a_request_has_one_host(server: Server, probe: Probe, headers: tuple[str, ...]) -> None:
    answer = await ask(server.url, "/v1/limits", *headers, host=None)
    assert answer.status == 400
    assert probe.served == 0


@given(st.binary(max_size=80))
def test_no_host_header_makes_it_fail(host: bytes) -> None:
    """And no other name than ours is ever served."""
    served = is_served_name(host, frozenset({"gate.example.com"}))
    if served:
        assert host.lower().startswith((b"gate.example.com", b"localhost", b"127.", b"["))


@pytest.mark.parametrize("name", ["", "*", "http://x", "x:80", "a b", "x/y", "évil", "[::1]"])
def test_a_name_that_can_never_match_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        told(tmp_path, allowed_hosts=(name,))


# --- origins


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "https://127.0.0.1", "http://127.0.0.1:81", "file://"]
)
async def test_a_page_of_another_origin_is_refused(server: Server, probe: Probe, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        answer = await ask(server.url, "/v1/limits", f"Origin: {origin}", method=method)
        assert (answer.status, answer.problem()) == (403, "origin_not_allowed")
        assert not {name for name in answer.headers if name.startswith("access-control")}
    assert await refused_stream(server, origin=origin) == (403, "origin_not_allowed")
    assert probe.served == 0


@pytest.mark.asyncio
async def test_our_own_page_is_served(server: Server) -> None:
    host = urlsplit(server.url).netloc
    assert (
        await ask(server.url, "/v1/limits", f"Origin: http://{host}", host=host, method="POST")
    ).status == 200
    async with connect(server.url.replace("http", "ws", 1) + "/v1/stream", origin=f"http://{host}") as stream:  # type: ignore[arg-type]
        assert await stream.recv() == ""


@pytest.mark.asyncio
@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "anything"])
async def test_what_a_browser_sends_for_another_site_is_refused(
    server: Server, probe: Probe, site: str
) -> None:
    answer = await ask(server.url, "/v1/limits", f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: no-cors")
    assert (answer.status, answer.problem()) == (403, "origin_not_allowed")
    headers = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    assert (await ask(server.url, "/v1/limits", f"Sec-Fetch-Site: {site}", *headers)).status == 403
    assert (await ask(server.url, "/livez", f"Sec-Fetch-Site: {site}", *headers, method="POST")).status == 403
    assert (
        await ask(server.url, "/livez", f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate")
    ).status == 403
    assert probe.served == 0
    assert (await ask(server.url, "/livez", f"Sec-Fetch-Site: {site}", *headers)).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_what_a_browser_sends_for_our_page_or_its_user_is_served(server: Server, site: str) -> None:
    assert (await ask(server.url, "/v1/limits", f"Sec-Fetch-Site: {site}")).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "header", ["Origin: http://127.0.0.1", "Sec-Fetch-Site: none", f"{BEARER}", "Sec-Fetch-Mode: navigate"]
)
async def test_a_header_that_decides_stands_once(server: Server, probe: Probe, header: str) -> None:
    assert (await ask(server.url, "/v1/limits", header, header)).status == 400
    assert probe.served == 0


# --- keys


@pytest.mark.asyncio
async def test_with_keys_every_route_needs_one_but_health(guarded: Server, probe: Probe) -> None:
    for path in (
        "/v1/limits",
        "/metrics",
        "/openapi.json",
        "/livez/",
        "//livez",
        "/LIVEZ",
        "/livez%2f",
        "/api/x",
    ):
        answer = await ask(guarded.url, path)
        assert (answer.status, answer.problem()) == (401, "not_authorized")
        assert answer.headers["www-authenticate"].startswith(
            "Basic" if path.startswith("/api/") else "Bearer"
        )
    assert (await ask(guarded.url, "/livez", method="POST")).status == 401
    assert await refused_stream(guarded) == (401, "not_authorized")
    assert probe.served == 0
    for path in HEALTH_PATHS:
        assert (await ask(guarded.url, path)).status == 200


@pytest.mark.asyncio
async def test_who_shows_a_key_is_known_by_its_id(guarded: Server) -> None:
    assert (await ask(guarded.url, "/v1/limits", BEARER)).json()["key"] == "ci"
    assert (await ask(guarded.url, "/v1/limits", f"Authorization: bearer {OTHER_KEY}")).json()["key"] == "web"
    async with connect(
        guarded.url.replace("http", "ws", 1) + "/v1/stream",
        additional_headers={"Authorization": f"Bearer {KEY_TEXT}"},
    ) as stream:
        assert await stream.recv() == "ci"


@pytest.mark.asyncio
async def test_basic_is_for_the_prefect_compatible_routes_alone(guarded: Server) -> None:
    for said in (KEY_TEXT, f"admin:{KEY_TEXT}", f"{KEY_TEXT}:"):
        header = f"Authorization: Basic {b64encode(said.encode()).decode()}"
        assert (await ask(guarded.url, "/api/v2/concurrency_limits/filter", header, method="POST")).json()[
            "key"
        ] == "ci"
        assert (await ask(guarded.url, "/v1/limits", header)).status == 401
        assert (await ask(guarded.url, "/apiary", header)).status == 401
    assert (await ask(guarded.url, "/api/admin/version", BEARER)).json()["key"] == "ci"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said", ["Bearer wrong-wrong-wrong-wrong", f"Bearer {KEY_TEXT[:-1]}", f"Bearer {KEY_TEXT}x", "Bearer", ""]
)
async def test_a_wrong_key_is_refused(guarded: Server, probe: Probe, said: str) -> None:
    assert (await ask(guarded.url, "/v1/limits", f"Authorization: {said}")).status == 401
    assert await refused_stream(guarded, additional_headers={"Authorization": said}) == (
        401,
        "not_authorized",
    )
    assert probe.served == 0


@pytest.mark.asyncio
async def test_the_socket_of_the_own_user_needs_no_key(guarded: Server) -> None:
    assert guarded.socket is not None
    assert guarded.socket.stat().st_mode & 0o777 == 0o600
    answer = await ask(str(guarded.socket), host="localhost")
    assert answer.json() == {"key": "", "scheme": "http", "bytes": 0, "client": None}
    assert (await ask(str(guarded.socket), host="evil.example")).status == 421


# --- bodies


@pytest.mark.asyncio
async def test_a_body_may_have_one_mebibyte(server: Server, probe: Probe) -> None:
    assert (await ask(server.url, method="POST", body=b"x" * BODY_BYTES_MAX)).json()[
        "bytes"
    ] == BODY_BYTES_MAX
    wire = await Wire.connect(server.url)
    await wire.send("POST /v1/limits HTTP/1.1", "Host: localhost", f"Content-Length: {BODY_BYTES_MAX + 1}")
    answer = await wire.answer()  # before any of it was sent
    assert (answer.status, answer.problem()) == (413, "too_large")
    assert await wire.is_over()
    await wire.close()
    assert probe.served == 1


@pytest.mark.asyncio
async def test_a_body_of_unknown_length_is_bounded_as_well(server: Server, probe: Probe) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    for chunks, status in ((16, 200), (17, 413)):
        wire = await Wire.connect(server.url)
        await wire.send("POST /v1/limits HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked")
        wire.writer.write(chunk * chunks + (b"0\r\n\r\n" if status == 200 else b""))
        answer = await wire.answer()
        assert answer.status == status
        assert status == 413 or answer.json()["bytes"] == BODY_BYTES_MAX
        await wire.close()
    assert probe.served == 1


# --- what it adds


@pytest.mark.asyncio
async def test_every_answer_keeps_pages_from_embedding_and_guessing(server: Server) -> None:
    for answer in (
        await ask(server.url),
        await ask(server.url, host="evil.example"),
        await ask(server.url, "/boom"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert "strict-transport-security" not in answer.headers
        assert "server" not in answer.headers
        assert not {name for name in answer.headers if name.startswith("access-control")}


@pytest.mark.asyncio
async def test_a_defect_is_a_problem_and_a_line_in_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(server.url, "/boom")
    assert (answer.status, answer.problem()) == (500, "internal")
    assert "RuntimeError: boom" in caplog.text
    theirs = await ask(server.url, "/api/boom")
    assert (theirs.status, theirs.problem()) == (500, "internal")
    assert msgspec.json.decode(theirs.body)["exception_message"] == "Internal Server Error"
    assert (await ask(server.url)).status == 200


@pytest.mark.asyncio
async def test_more_streams_than_allowed_are_sent_away(tmp_path: Path) -> None:
    async with running(told(tmp_path, connections_max=2), Probe()) as server:
        url = server.url.replace("http", "ws", 1) + "/v1/stream"
        async with connect(url) as first:
            async with connect(url) as second:
                assert await first.recv() == await second.recv() == ""
                assert await refused_stream(server) == (503, "server_unavailable")
                assert (await ask(server.url)).status == 200
            async with connect(url) as third:
                assert await third.recv() == ""


@pytest.mark.asyncio
async def test_a_refused_stream_is_logged_as_a_refusal_and_as_nothing_else(
    guarded: Server, caplog: pytest.LogCaptureFixture
) -> None:
    assert await refused_stream(guarded) == (401, "not_authorized")
    await ask(guarded.url, "/livez")  # by now the connection is over
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == [
        "refused: Unauthorized"
    ]


@pytest.mark.asyncio
async def test_refusals_cannot_fill_the_log(guarded: Server, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        await ask(guarded.url, "/v1/limits", f"Authorization: Bearer {KEY_TEXT}-wrong")
    told_of = [record for record in caplog.records if "refused" in record.getMessage()]
    assert 1 <= len(told_of) < 10
    assert KEY_TEXT not in "".join(str(vars(record)) for record in told_of)


# --- other machines, which a test cannot be: the application is asked itself


async def asked(
    app: Front, client: str, *headers: tuple[str, str], kind: str = "http", **more: object
) -> tuple[int, Any]:
    """Ask as somebody at another address; return the status, and the scope as the service got it."""
    sent: list[Message] = []
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    scope: dict[str, Any] = {
        "type": kind, "method": "GET", "path": "/v1/limits", "scheme": "http" if kind == "http" else "ws",
        "headers": pairs, "client": (client, 9), "extensions": {}, **more,
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0].get("status", sent[0].get("code")), scope


def beyond(app: Probe, **more: Any) -> Front:  # noqa: ANN401 - whatever options take
    options = Options(
        store="memory://", host="10.1.2.3", keys=KEYS, allowed_hosts=("gate.example.com",), **more
    )
    return Front(app, options)


PROXIED = (("host", "10.1.2.3:4220"), ("authorization", f"Bearer {KEY_TEXT}"))


@pytest.mark.asyncio
async def test_over_plain_http_only_this_machine_and_named_proxies_are_served() -> None:
    app = beyond(Probe(), trusted_proxies=("10.9.0.0/16", "fd00::5"))
    for client in ("10.9.3.4", "fd00::5", "::ffff:10.9.3.4", "127.0.0.1", "::1"):
        assert (await asked(app, client, *PROXIED))[0] == 200
    for client in ("10.8.0.1", "fd00::6", "::ffff:10.8.0.1", "", "nonsense"):
        assert (await asked(app, client, *PROXIED))[0] == 403
        assert (await asked(app, client, *PROXIED, kind="websocket"))[0] == 1008


@pytest.mark.asyncio
async def test_over_tls_everybody_with_a_key_is_served() -> None:
    app = beyond(Probe(), tls_cert=Path("cert"), tls_key=Path("key"))
    assert (await asked(app, "10.8.0.1", *PROXIED, scheme="https"))[0] == 200
    assert (await asked(app, "10.8.0.1", PROXIED[0], scheme="https"))[0] == 401


@pytest.mark.asyncio
async def test_a_named_proxy_is_believed() -> None:
    app = beyond(Probe(), trusted_proxies=("10.9.0.1", "10.9.0.2"))
    forwarded = (
        ("x-forwarded-proto", "https"), ("x-forwarded-host", "gate.example.com"),
        ("x-forwarded-for", "1.2.3.4, 203.0.113.7"), ("x-forwarded-for", "10.9.0.2"),
    )  # fmt: skip
    own = ("origin", "https://gate.example.com")
    status, scope = await asked(app, "10.9.0.1", *PROXIED, *forwarded, own)
    assert (status, scope["scheme"], scope["client"][0], scope[KEY]) == (200, "https", "203.0.113.7", "ci")
    assert (await asked(app, "10.9.0.1", *PROXIED, *forwarded, ("origin", "http://10.1.2.3:4220")))[0] == 403
    assert (await asked(app, "10.9.0.1", *PROXIED, ("x-forwarded-host", "evil.example")))[0] == 421


@pytest.mark.asyncio
async def test_nobody_else_is_believed() -> None:
    forwarded = (
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "gate.example.com"),
        ("x-forwarded-for", "127.0.0.1"),
    )
    app = beyond(Probe(), tls_cert=Path("cert"), tls_key=Path("key"), trusted_proxies=("10.9.0.1",))
    status, scope = await asked(app, "10.8.0.1", *PROXIED, *forwarded)
    assert (status, scope["scheme"], scope["client"][0]) == (200, "http", "10.8.0.1")
    rebound = (("host", "evil.example"), PROXIED[1])
    assert (await asked(app, "10.8.0.1", *rebound, *forwarded))[0] == 421


@pytest.mark.parametrize("proxy", ["", "gate.example.com", "10.0.0.1/8", "10.0.0.300", "*"])
def test_a_proxy_is_an_address_or_a_network(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(InvalidRequest):
        told(tmp_path, trusted_proxies=(proxy,))


@pytest.mark.asyncio
async def test_what_is_neither_request_nor_stream_passes_through() -> None:
    seen = []

    async def app(scope: front.Scope, receive: front.Receive, send: front.Send) -> None:
        seen.append(scope["type"])

    async def never() -> Message:
        raise AssertionError

    async def nothing(message: Message) -> None:
        raise AssertionError(message)

    await Front(app, Options(store="memory://"))({"type": "lifespan"}, never, nothing)
    assert seen == ["lifespan"]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_front_costs_microseconds() -> None:
    """It stands before every request of some 100 us."""
    headers = [
        (b"host", b"127.0.0.1:4220"), (b"user-agent", b"x"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"),
        (b"connection", b"keep-alive"), (b"authorization", f"Bearer {KEY_TEXT}".encode()),
        (b"content-type", b"application/json"), (b"content-length", b"42"),
    ]  # fmt: skip
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}

    async def app(scope: front.Scope, receive: front.Receive, send: front.Send) -> None:
        await send(start)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        pass

    async def took(asked: front.App) -> float:
        best = 1.0
        for _ in range(20):
            began = time.process_time()
            for _ in range(500):
                scope = {
                    "type": "http", "method": "POST", "path": "/v1/leases", "scheme": "http", "headers": headers,
                    "client": ("127.0.0.1", 1),
                }  # fmt: skip
                await asked(scope, receive, send)
            best = min(best, (time.process_time() - began) / 500)
        return best

    cost = await took(Front(app, Options(store="memory://", keys=KEYS))) - await took(app)
    print(f"{cost * 1e6:.1f} us")
    assert cost < 25e-6
    await asyncio.sleep(0)
