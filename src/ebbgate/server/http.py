"""The HTTP side of a connection: uvicorn's protocol, with bounds on how much and how slowly may be sent.

An answer that is there as a whole, as nearly all are, is written as a whole, and no header is looked at twice.

Known limit: one read may bring more than `HEAD_BYTES_MAX`, up to what the loop reads at once (256 KiB).
"""

import asyncio
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ebbgate.server.crowd import SPARE_SECONDS, Crowd, Seat
from ebbgate.server.refusals import FULL, HEAD_TOO_LARGE, HEADERS, UNREADABLE, Header, Refusal
from ebbgate.server.socket import StreamSocket

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

HEALTH_PATHS: Final = frozenset({"/livez", "/readyz", "/api/health", "/api/ready"})
"""What tells whether the server is well; of these Prefect's clients know the last two."""

SEAT: Final = "ebbgate.seat"
"""Where a scope has the slot of its connection."""

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
    """What uvicorn is told, and the slots of all connections."""

    crowd: Crowd
    trusted: bool = False
    request_seconds: float = REQUEST_SECONDS
    spare_seconds: float = SPARE_SECONDS


class HttpSocket(HttpToolsProtocol):
    """One connection; it ends when a request is too large a head, or too slow."""

    seat: Seat | None = None
    _late: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_head = True  # or between requests
    _is_whole = True  # nothing of a request is missing
    _upgraded = False
    _had_request = False
    _is_unserved = False  # in a spare slot, and asks for something else than health

    @property
    def is_arriving(self) -> bool:
        """Whether a part of a request is here, and a part is not."""
        return not self._is_whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin a connection; without a free slot it serves health only."""
        super().connection_made(transport)
        assert isinstance(self.config, HttpConfig), "given by `serving`"
        if self.seat is None:
            address = self.client[0] if self.client else ""
            self.seat = self.config.crowd.arrive(address, transport.abort, trusted=self.config.trusted)
        else:
            self.seat.abort = transport.abort
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._expect_no_more()
        if self.seat is not None:
            self.seat.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in some bytes."""
        if self._is_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._upgraded or (self._is_whole and not self._is_spare):
            self._expect_no_more()
        elif self._is_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(HEAD_TOO_LARGE)
        elif self._late is None and not self.transport.is_closing():
            self._expect()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        del msg
        self._refuse(FULL if self._is_unserved else UNREADABLE)

    def _refuse(self, refusal: Refusal) -> None:
        headers = [*self.server_state.default_headers, *refusal.headers, *HEADERS]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.status] + head + b"\r\n" + refusal.body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Note the begin of a request."""
        self._is_head, self._is_whole = True, False
        super().on_message_begin()
        self.scope[SEAT] = self.seat  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """Note that its head is here."""
        self._is_head, self._head_bytes = False, 0
        before = self.cycle
        if self._is_spare and (self._had_request or not self._asks_for_health()):
            self._is_unserved = True
            raise httptools.HttpParserError("no free slot")  # ends the parsing; see `send_400_response`
        self._had_request = True
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.__class__ = Cycle  # uvicorn names its own; it is not run before this returns
            if self._is_spare:
                self.cycle.keep_alive = False

    @property
    def _is_spare(self) -> bool:
        return self.seat is not None and self.seat.is_spare

    def _asks_for_health(self) -> bool:
        path = self.url.partition(b"?")[0].decode("latin-1")
        reads = self.parser.get_method() in {b"GET", b"HEAD"}
        return reads and path in HEALTH_PATHS and not self.parser.should_upgrade()

    def on_message_complete(self) -> None:
        """Note that all of it is here."""
        self._is_head = self._is_whole = True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket."""
        self._upgraded = True
        super().handle_websocket_upgrade()
        successor = self.transport.get_protocol()
        if isinstance(successor, StreamSocket):
            successor.seat = self.seat

    def _expect(self) -> None:
        assert isinstance(self.config, HttpConfig), "given by `serving`"
        seconds = self.config.spare_seconds if self._is_spare else self.config.request_seconds
        self._late = self.loop.call_later(seconds, self._give_up)

    def _expect_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()
