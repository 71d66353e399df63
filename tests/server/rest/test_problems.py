"""Whatever goes wrong is answered with a problem document."""

import gzip
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ebbgate import errors
from ebbgate.server.keys import Keys
from ebbgate.server.rest.problems import STATUSES
from tests.cli.support import wait_until
from tests.server.processes import run_python
from tests.server.rest.serving import PATIENCE_SECONDS, Served, problem_of, served

JSON = {"Content-Type": "application/json"}

# Of callers that wait themselves, and of clients that find no server: a server says none of these.
NEVER_SAID = {"error", "not_acquired", "acquire_timeout", "lease_lost"}


LOCK = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_what_is_not_there_is_not_found(rest: Served) -> None:
    for path in ("/v1", "/v1/limits/a/b", "/v2/limits", "/v1/leases/a/b", "/docs", "/schema"):
        problem_of(rest.client.get(path), 404, "route_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/limits", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/v1/limits/db", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("PUT", "/v1/leases", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/spends", "OPTIONS, POST"),
        ("POST", "/livez", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/events", "GET, OPTIONS"),
    ],
)
def test_a_method_that_an_address_has_not_is_refused_with_those_it_has(
    rest: Served, method: str, path: str, allowed: str
) -> None:
    answer = rest.client.request(method, path)
    problem_of(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed
    answer = rest.client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, allowed)


def test_what_can_be_read_can_be_asked_for_without_its_body(rest: Served) -> None:
    for path in ("/livez", "/readyz", "/v1/limits", "/openapi.json"):
        answer = rest.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "text/json"])
@pytest.mark.parametrize("path", ["/v1/limits", "/v1/leases", "/v1/spends", "/v1/leases/renew"])
def test_a_body_that_is_not_called_json_is_refused(rest: Served, media_type: str | None, path: str) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = rest.client.post(path, content=b"{}", headers=headers)
    problem_of(answer, 415, "unsupported_media_type")


def test_a_compressed_body_is_refused_and_told_so(rest: Served) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    answer = rest.client.post(
        "/v1/limits", content=gzip.compress(b'{"name":"db","limit":1}'), headers=headers
    )
    assert "compressed" in problem_of(answer, 415, "unsupported_media_type")["detail"]


def test_the_stream_asked_for_without_an_upgrade_says_what_a_proxy_may_have_lost(rest: Served) -> None:
    answer = rest.client.get("/v1/stream")
    assert "proxy" in problem_of(answer, 426, "upgrade_required")["detail"]
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize("path", ["/v1/limits", "/prefix/v1/stream", "/api/nothing"])
def test_a_websocket_that_is_not_there_is_not_found(rest: Served, path: str) -> None:
    upgrade = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    problem_of(rest.client.get(path, headers=upgrade), 404, "route_not_found")


def test_json_may_be_called_so_in_other_ways(rest: Served) -> None:
    for number, media_type in enumerate(("application/json; charset=utf-8", "Application/JSON")):
        body = b'{"name":"n%d","limit":1}' % number
        answer = rest.client.post("/v1/limits", content=body, headers={"Content-Type": media_type})
        assert answer.status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b'{"name":"db","limit":1}{}', b"nothing", b"\xff\xfe", b'{"name":"\xff"}', b'{"name":"\\ud800"}',
        b"\x00", b'\xef\xbb\xbf{"name":"db","limit":1}', b'{"limit":NaN}', b"'", b"{" * 100_000,
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(rest: Served, body: bytes) -> None:
    problem_of(rest.client.post("/v1/limits", content=body, headers=JSON), 400, "malformed")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"labels":' * 100_000,
        b'{"limits":[{"name":"a"}],"labels":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"limits":[{"name":"a","slots":1.0}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_deep_is_refused(rest: Served, body: bytes) -> None:
    answer = rest.client.post("/v1/leases", content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"malformed", "invalid_request"}


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_too_large_is_refused(rest: Served, chunked: bool) -> None:
    body = b'{"name":"' + b"a" * (1 << 20) + b'"}'
    content: Any = iter([body[:1000], body[1000:]]) if chunked else body
    answer = rest.client.post("/v1/limits", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_key_is_asked_for_where_keys_are() -> None:
    key = "0123456789abcdef-first"
    with served(keys=Keys([key])) as rest:
        for path in ("/v1/limits", "/v1/events", "/openapi.json"):
            answer = rest.client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authorized")
        assert rest.client.get("/readyz").status_code == 200
        assert rest.caller(key).get("/v1/limits").status_code == 200


def test_a_server_that_stops_is_not_ready_but_alive(rest: Served) -> None:
    assert rest.client.get("/readyz").json() == {"status": "ready"}
    rest.drain()
    answer = rest.client.get("/readyz")
    problem_of(answer, 503, "server_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert rest.client.get("/livez").json() == {"status": "alive"}
    problem_of(rest.client.get("/v1/events"), 503, "server_unavailable")


def test_while_the_store_is_out_of_reach_nothing_is_granted_and_everybody_told(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    with served(store=f"sqlite:///{path}", socket=False) as rest:
        rest.limit("db", 5)
        locker = run_python(LOCK, str(path))
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        answer = rest.client.post("/v1/leases", json={"limits": [{"name": "db"}]})
        problem_of(answer, 503, "store_unavailable")
        assert answer.headers["retry-after"] == "1"
        problem_of(rest.client.get("/readyz"), 503, "store_unavailable")
        assert rest.client.get("/livez").status_code == 200
        locker.communicate("", PATIENCE_SECONDS)
        wait_until(lambda: rest.client.get("/readyz").status_code == 200, "it did not come back")
        rest.acquire("db")


def test_a_defect_tells_nothing_of_the_inside(rest: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(question: object) -> object:
        raise RuntimeError(f"secret {question}")

    monkeypatch.setattr(rest.decider, "ask", fail)
    answer = rest.client.get("/v1/limits")
    problem = problem_of(answer, 500, "internal")
    assert "secret" not in answer.text
    assert set(problem) == {"type", "title", "status", "detail", "code"}


def test_every_error_that_a_server_can_say_has_a_status() -> None:
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.EbbgateError)
    }
    assert codes - set(STATUSES) - NEVER_SAID == set()


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(
    rest: Served, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(rest.url)
    head = "POST /v1/limits HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n"
    for _ in range(5):
        with socket.create_connection((parts.hostname, parts.port)) as leaving:
            leaving.sendall(head.encode() + b'{"name":')
            assert rest.client.get("/livez").status_code == 200
    rest.limit("other")
    assert caplog.records == []
