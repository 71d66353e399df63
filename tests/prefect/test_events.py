"""Events are taken as Prefect's clients send them, and thrown away."""

import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.cli.support import PATIENCE_SECONDS
from tests.prefect.contract import LIMITS
from tests.prefect.support import Caller
from tests.server.processes import Served

PREFECT = [Subprotocol("prefect")]
WORKSPACE = "/api/accounts/a/workspaces/b"


def address(served: Served, path: str = "/api/events/in") -> str:
    return served.url.replace("http", "ws", 1) + path


@pytest.mark.parametrize("path", ["/api/events/in", f"{WORKSPACE}/events/in"])
def test_events_are_taken_after_a_greeting(served: Served, path: str) -> None:
    with connect(address(served, path), subprotocols=PREFECT) as socket:
        assert socket.subprotocol == "prefect"
        assert socket.ping().wait(PATIENCE_SECONDS)
        socket.send(json.dumps({"type": "auth", "token": None}))
        assert json.loads(socket.recv(PATIENCE_SECONDS)) == {"type": "auth_success"}
        for number in range(2_000):
            socket.send(json.dumps({"event": "prefect.something", "payload": {"number": number}}))
        assert socket.ping().wait(PATIENCE_SECONDS)
    assert Caller(served.url).ask("POST", f"{LIMITS}/filter").status == 200


def test_who_greets_otherwise_is_sent_away(served: Served) -> None:
    with connect(address(served), subprotocols=PREFECT) as socket:
        socket.send("{}")
        with pytest.raises(ConnectionClosed):
            socket.recv(PATIENCE_SECONDS)
        assert socket.close_code == 4001


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"type": ' + "1" * 4_301 + "}", "1" * 4_301, b"\xff", "{", ""],
    ids=["deep", "digits", "number", "no_utf8", "cut", "empty"],
)
def test_a_greeting_that_cannot_be_read_is_refused_without_a_traceback(
    served: Served, text: str | bytes
) -> None:
    with connect(address(served), subprotocols=PREFECT) as socket:
        socket.send(text)
        with pytest.raises(ConnectionClosed):
            socket.recv(PATIENCE_SECONDS)
        assert socket.close_code == 4001
    assert not [entry for entry in served.entries() if "traceback" in entry]


def test_a_client_from_before_the_greeting_may_just_send(served: Served) -> None:
    with connect(address(served)) as socket:
        socket.send("{}")
        assert socket.ping().wait(PATIENCE_SECONDS)


def test_there_is_no_other_socket(served: Served) -> None:
    with (
        pytest.raises((InvalidStatus, ConnectionClosed)),
        connect(address(served, "/api/events/out")) as socket,
    ):
        socket.recv(PATIENCE_SECONDS)
