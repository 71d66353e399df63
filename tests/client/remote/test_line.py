"""One connection without I/O, against the server's half of the same library."""

import ssl
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ebbgate.client.remote.addresses import Address
from ebbgate.client.remote.line import RECEIVED_MAX, Broken, Line, Message
from ebbgate.errors import InternalError, InvalidRequest, NotAuthorized, ServerUnavailable
from ebbgate.wire.stream import (
    MESSAGE_BYTES_MAX,
    DoneItem,
    GoodbyeItem,
    HurryItem,
    PutItem,
    ReleaseItem,
    Up,
    decode_up,
    encode_down,
)
from tests.server.certificates import make_certificates

HOST = Address("host.example", 4220)


class Peer:
    """The other half."""

    def __init__(self) -> None:
        self.protocol = ServerProtocol(max_size=None)
        self.request: Request | None = None
        self.frames: list[Frame] = []

    def take(self, data: bytes) -> None:
        """Take in bytes; the upgrade is accepted."""
        if not data:
            return
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.request = event
                self.protocol.send_response(self.protocol.accept(event))
            else:
                assert isinstance(event, Frame)
                self.frames.append(event)

    def give(self) -> bytes:
        """Return what it sends."""
        return b"".join(self.protocol.data_to_send())

    def items(self) -> list[list[Up]]:
        """Return the messages that came."""
        return [decode_up(bytes(frame.data)) for frame in self.frames if frame.opcode is Opcode.TEXT]


def opened(api_key: str | None = None) -> tuple[Line, Peer]:
    line, peer = Line(HOST, api_key, None), Peer()
    peer.take(line.to_send())
    assert line.receive(peer.give()) == []
    assert line.is_open
    return line, peer


def test_the_upgrade_names_the_stream_and_carries_the_api_key() -> None:
    _, peer = opened("secret")
    assert peer.request is not None
    assert peer.request.path == "/v1/stream"
    assert peer.request.headers["Host"] == "host.example:4220"
    assert peer.request.headers["Authorization"] == "Bearer secret"
    assert "Sec-WebSocket-Extensions" not in peer.request.headers
    _, peer = opened(None)
    assert peer.request is not None
    assert "Authorization" not in peer.request.headers


def test_items_go_up_in_one_text_message_and_messages_come_down() -> None:
    line, peer = opened()
    items = [ReleaseItem(number, f"lease {number}", "s") for number in range(3)]
    line.say(items)
    peer.take(line.to_send())
    assert peer.items() == [items]
    message = encode_down(7, [DoneItem(1, "x"), HurryItem()])
    peer.protocol.send_text(message)
    peer.protocol.send_text(encode_down(8, [GoodbyeItem(0.5)]))
    assert line.receive(peer.give()) == [(7, [DoneItem(1, "x"), HurryItem()]), (8, [GoodbyeItem(0.5)])]


def test_messages_arrive_whole_however_the_bytes_are_cut() -> None:
    line, peer = opened()
    for number in range(5):
        peer.protocol.send_text(encode_down(number, [DoneItem(number, "x" * 300)]))
    received: list[Message] = []
    for byte in peer.give():
        received += line.receive(bytes([byte]))
    assert [store_us for store_us, _ in received] == list(range(5))


def test_a_message_in_several_frames_is_one_message() -> None:
    line, peer = opened()
    message = encode_down(7, [DoneItem(1, "x")])
    peer.protocol.send_text(message[:5], fin=False)
    peer.protocol.send_ping(b"between")
    peer.protocol.send_continuation(message[5:9], fin=False)
    peer.protocol.send_continuation(message[9:], fin=True)
    assert line.receive(peer.give()) == [(7, [DoneItem(1, "x")])]
    assert line.has_output
    peer.take(line.to_send())
    assert [frame.opcode for frame in peer.frames] == [Opcode.PONG]


def test_many_items_go_in_messages_of_which_none_is_too_long() -> None:
    line, peer = opened()
    items = [ReleaseItem(number, "x" * 900, "s") for number in range(3_000)]
    line.say(items)
    peer.take(line.to_send())
    assert [item for message in peer.items() for item in message] == items
    assert all(len(frame.data) <= MESSAGE_BYTES_MAX for frame in peer.frames)


def test_an_item_that_no_message_could_carry_is_refused_and_nothing_is_sent() -> None:
    line, _ = opened()
    with pytest.raises(InvalidRequest, match="too much"):
        line.say([ReleaseItem(1, "x", "s"), PutItem(2, "r", "create", "x" * MESSAGE_BYTES_MAX)])
    assert not line.has_output


@pytest.mark.parametrize(
    "data", [b"nonsense", b"{}", b"[1]", b'[1,[["what",1]]]', b'[1,[["done","x","y"]]]', b"\xff"]
)
def test_what_is_no_message_ends_the_connection(data: bytes) -> None:
    line, peer = opened()
    peer.protocol.send_binary(data)
    with pytest.raises(Broken):
        line.receive(peer.give())


def test_a_message_without_end_ends_the_connection() -> None:
    line, peer = opened()
    peer.protocol.send_text(b"x" * (RECEIVED_MAX + 1))
    with pytest.raises(Broken):
        line.receive(peer.give())


def test_the_end_of_a_connection_is_told_with_what_the_server_says() -> None:
    line, peer = opened()
    peer.protocol.send_close(CloseCode.SERVICE_RESTART, "come back")
    with pytest.raises(Broken, match="come back"):
        line.receive(peer.give())
    line, _ = opened()
    with pytest.raises(Broken):
        line.receive(b"")


def test_a_server_that_cannot_read_what_was_said_is_not_told_it_again() -> None:
    line, peer = opened()
    peer.protocol.send_close(4400, "not a message")
    with pytest.raises(InternalError, match="not a message"):
        line.receive(peer.give())


@pytest.mark.parametrize(
    ("status", "error", "transient"),
    [
        (401, NotAuthorized, None),
        (403, NotAuthorized, None),
        (404, ServerUnavailable, False),
        (421, ServerUnavailable, False),
        (429, ServerUnavailable, True),
        (500, ServerUnavailable, True),
        (503, ServerUnavailable, True),
    ],
)
def test_a_refused_upgrade_says_why_and_whether_it_may_pass(
    status: int, error: type[Exception], transient: bool | None
) -> None:
    line = Line(HOST, None, None)
    line.to_send()
    body = msgspec.json.encode({"title": "No", "detail": "the reason"})
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with pytest.raises(error, match="the reason") as caught:
        line.receive(answer)
    if transient is not None:
        assert getattr(caught.value, "transient", None) is transient


@pytest.mark.parametrize("answer", [b"220 mail.example ESMTP\r\n", b"\x15\x03\x01\x00\x02\x02\x16" * 9000])
def test_something_else_that_answers_is_no_server(answer: bytes) -> None:
    line = Line(HOST, None, None)
    line.to_send()
    with pytest.raises((ServerUnavailable, Broken)):
        line.receive(answer)
        line.receive(b"")


def test_a_server_that_closes_before_it_answers_is_tried_again() -> None:
    line = Line(HOST, None, None)
    line.to_send()
    with pytest.raises(ServerUnavailable) as caught:
        line.receive(b"")
    assert caught.value.transient


class Ends(NamedTuple):
    """Both ends of a connection with TLS."""

    line: Line
    peer: Peer
    server: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO


def encrypted(folder: Path, trusted: Path) -> Ends:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "one.pem", folder / "one.key")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    line = Line(Address("localhost", 443, secure=True), None, ssl.create_default_context(cafile=trusted))
    return Ends(line, Peer(), server, incoming, outgoing)


def exchange(ends: Ends) -> list[Message]:
    """Carry bytes both ways until nobody has any."""
    line, peer, server, incoming, outgoing = ends
    received: list[Message] = []
    while True:
        data = line.to_send()
        incoming.write(data)
        try:
            server.do_handshake()
            while True:
                peer.take(server.read(1 << 16))
        except ssl.SSLWantReadError:
            pass
        answer = peer.give()
        if answer:
            server.write(answer)
        answer = outgoing.read()
        if not answer and not data:
            return received
        if answer:
            received += line.receive(answer)


def test_tls_carries_the_same_messages(tmp_path: Path) -> None:
    folder = make_certificates(tmp_path)
    ends = encrypted(folder, folder / "one.pem")
    line, peer = ends.line, ends.peer
    exchange(ends)
    assert line.is_open
    line.say([ReleaseItem(1, "x", "s")])
    peer.protocol.send_text(encode_down(7, [DoneItem(1, "x" * 100_000)]))
    received = exchange(ends)
    assert peer.items() == [[ReleaseItem(1, "x", "s")]]
    assert received == [(7, [DoneItem(1, "x" * 100_000)])]


def test_a_certificate_that_nobody_trusts_is_refused_for_good(tmp_path: Path) -> None:
    folder = make_certificates(tmp_path)
    with pytest.raises(ServerUnavailable, match="EBBGATE_CA_FILE") as caught:
        exchange(encrypted(folder, folder / "two.pem"))
    assert not caught.value.transient
