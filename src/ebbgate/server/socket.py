"""The WebSocket of a stream, with uvicorn's protocol for the upgrade and everything else.

uvicorn hands every message through a queue to a task, which costs two turns of the loop and two system calls;
a stream takes its messages straight from the socket instead. And it must know how a connection ended: what the
client's kernel said (FIN or RST) is certain, a connection that fell silent is not.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_log: Final = logging.getLogger("ebbgate.server")

UNREAD_MAX: Final = 8 << 20
"""How many bytes a client may leave unread before its connection is dropped."""

UNSUPPORTED: Final = 1003
DEFECT: Final = 1011

EXTENSION: Final = "ebbgate.socket"
"""The name under which a connection's scope leads to its socket."""


class StreamSocket(WebSocketsSansIOProtocol):
    """One WebSocket; `Any` is what uvicorn's own signatures say."""

    receiver: Callable[[bytes], None] | None = None
    ended_certainly = False  # by the client's kernel, or by the client's own closing
    dropped = False  # by this server

    def handle_connect(self, event: Any) -> None:  # noqa: ANN401 - as uvicorn has it
        """Offer this socket to whom the connection is for."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]  # ASGI leaves it to the server

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message to its receiver, at once."""
        if self.receiver is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self.end(UNSUPPORTED, "the stream takes text, not binary messages")
            return
        try:
            self.receiver(data)
        except Exception:  # noqa: BLE001 - a defect must not end the loop's reading, only this connection
            _log.exception("a defect: a message could not be taken in")
            self.end(DEFECT, "a defect of the server")

    def write(self, data: bytes) -> None:
        """Send one text message; a client that does not read loses its connection."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_text(data)
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.get_write_buffer_size() > UNREAD_MAX:
            self.dropped = True
            self.transport.abort()

    def end(self, code: int, reason: str) -> None:
        """Close the connection; the client is told why."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def shutdown(self) -> None:
        """Close it because the server stops, which says nothing about the client."""
        self.dropped = True
        super().shutdown()

    def pause_writing(self) -> None:
        """Take no more commands from a client that does not read the answers."""
        super().pause_writing()
        if self.receiver is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with it."""
        super().resume_writing()
        if self.receiver is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note whether the end is certain: closed or reset by the client, not timed out or closed by us."""
        ours = self.dropped or (self.close_sent and self.conn.close_rcvd is None)
        self.ended_certainly = not ours and (
            exc is None or isinstance(exc, ConnectionResetError | BrokenPipeError)
        )
        super().connection_lost(exc)
