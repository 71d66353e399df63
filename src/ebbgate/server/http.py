"""The HTTP side of a connection: uvicorn's protocol, with bounds on how much and how slowly may be sent.

Known limit: one read may bring more than `HEAD_BYTES_MAX`, up to what the loop reads at once (256 KiB).
"""

import asyncio
from typing import Final

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX: Final = 65_536
REQUEST_SECONDS: Final = 30.0
"""How long a request may take to arrive, from its first byte, or from connecting, to its last."""

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 5\r\nconnection: close\r\n\r\n"
)


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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        assert isinstance(self.config, HttpConfig), "given by `serving`"
        if len(self.connections) > self.config.sockets_max:
            transport.write(_FULL)
            transport.close()
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
            self.send_400_response("The head of the request is too large.")
        elif self._late is None and not self.transport.is_closing():
            self._expect()

    def on_message_begin(self) -> None:
        """Note the begin of a request."""
        self._is_head, self._is_whole = True, False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that its head is here."""
        self._is_head, self._head_bytes = False, 0
        super().on_headers_complete()

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
