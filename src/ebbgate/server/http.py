"""The HTTP side of a connection: uvicorn's protocol, with bounds on how much and how slowly may be sent.

An answer that is there as a whole, as nearly all are, is written as a whole, and no header is looked at twice.

Known limit: one read may bring more than `HEAD_BYTES_MAX`, up to what the loop reads at once (256 KiB).
"""

import asyncio
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ebbgate.server.refusals import FULL, HEAD_TOO_LARGE, HEADERS, UNREADABLE, Header, Refusal

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

HEAD_BYTES_MAX: Final = 65_536
REQUEST_SECONDS: Final = 30.0
"""How long a request may take to arrive, from its first byte, or from connecting, to its last."""

_LENGTH: Final = b"content-length"
_LINES_MAX: Final = 1_000
_PLAIN: Final = re.compile(rb"[a-z-]+:[\t\x20-\x7e]*")
_SPECIAL: Final = frozenset({b"connection", b"transfer-encoding"})  # uvicorn acts on them
_lines: Final[dict[Header, bytes]] = {}


def head_of(status: int, headers: Iterable[Header]) -> tuple[bytes, int] | None:
    """Return the head of an answer and the length of its body; None: it takes a closer look."""
    parts = [STATUS_LINE[status]]
    length = 0 if status == 204 else -1
    for header in headers:
        line = _lines.get(header)
        if line is None:
            line = _line_of(header)
            if not line:
                return None
        parts.append(line)
        if header[0] == _LENGTH:
            length = int(header[1])
    if length < 0:
        return None
    parts.append(b"\r\n")
    return b"".join(parts), length


def _line_of(header: Header) -> bytes:
    """Return a header as it is written, b"" if it is an unusual one; it is known from then on."""
    name, value = header
    line = b"%b: %b" % header
    if name in _SPECIAL or not _PLAIN.fullmatch(line) or (name == _LENGTH and not value.isdigit()):
        return b""
    if len(_lines) >= _LINES_MAX:
        _lines.clear()  # of old times and lengths, mostly
    line = _lines[header] = line + b"\r\n"
    return line


class Cycle(RequestResponseCycle):
    """One request and its answer, of which the head waits for the body if all of that comes at once."""

    _begun: "ASGISendEvent | None" = None
    _head = b""
    _length = 0

    async def send(self, message: "ASGISendEvent") -> None:
        """Send a part of the answer."""
        begun = self._begun
        if begun is not None:
            self._begun = None
            if self._ends(message):
                return
            await super().send(begun)
        elif message["type"] == "http.response.start" and not self.response_started:
            head = head_of(message["status"], [*self.default_headers, *message.get("headers", ())])
            if head is not None and self.scope["method"] != "HEAD":
                self._begun, (self._head, self._length) = message, head
                return
        await super().send(message)

    def _ends(self, message: "ASGISendEvent") -> bool:
        """Write head and body, if this is all of it and nothing is in the way; tell whether they were written."""
        if message["type"] != "http.response.body" or message.get("more_body") or not self.keep_alive:
            return False
        body = message.get("body", b"")
        if len(body) != self._length or self.disconnected or self.flow.write_paused:
            return False
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(self._head + body)
        self.message_event.set()
        self.on_response()
        return True


class HttpConfig(Config):
    """What uvicorn is told, and how many connections of any kind there may be."""

    sockets_max: int = 1 << 30
    request_seconds: float = REQUEST_SECONDS


class HttpSocket(HttpToolsProtocol):
    """One connection; it ends when a request is too large a head, or too slow."""

    _late: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_head = True  # or between requests
    _is_whole = True  # nothing of a request is missing
    _upgraded = False

    @property
    def is_arriving(self) -> bool:
        """Whether a part of a request is here, and a part is not."""
        return not self._is_whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        assert isinstance(self.config, HttpConfig), "given by `serving`"
        if len(self.connections) > self.config.sockets_max:
            self._refuse(FULL)
            return
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._expect_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in some bytes."""
        if self._is_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_whole or self._upgraded:
            self._expect_no_more()
        elif self._is_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(HEAD_TOO_LARGE)
        elif self._late is None and not self.transport.is_closing():
            self._expect()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        del msg
        self._refuse(UNREADABLE)

    def _refuse(self, refusal: Refusal) -> None:
        headers = [*self.server_state.default_headers, *refusal.headers, *HEADERS]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.status] + head + b"\r\n" + refusal.body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Note the begin of a request."""
        self._is_head, self._is_whole = True, False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that its head is here."""
        self._is_head, self._head_bytes = False, 0
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.__class__ = Cycle  # uvicorn names its own; it is not run before this returns

    def on_message_complete(self) -> None:
        """Note that all of it is here."""
        self._is_head = self._is_whole = True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket."""
        self._upgraded = True
        super().handle_websocket_upgrade()

    def _expect(self) -> None:
        assert isinstance(self.config, HttpConfig), "given by `serving`"
        self._late = self.loop.call_later(self.config.request_seconds, self._give_up)

    def _expect_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()
