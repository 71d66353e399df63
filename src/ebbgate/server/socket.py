"""The WebSocket of a stream, with uvicorn's protocol for the upgrade and everything else.

uvicorn hands every message through a queue to a task, which costs two turns of the loop and two system calls;
a stream takes its messages straight from the socket instead. And it must know how a connection ended: what the
client's kernel said (FIN or RST) is certain, a connection that fell silent is not.

What one client may cost the others is bounded: the work of one turn of the loop, and what is kept for it.
"""

import asyncio
import logging
import socket
import time
from typing import Any, Final, Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from ebbgate.server.crowd import Seat
from ebbgate.wire.frames import Cutter, text_frame

_log: Final = logging.getLogger("ebbgate.server")

UNREAD_MAX: Final = 8 << 20
"""How many bytes a client may leave unread before its connection is dropped."""

UNREAD_SECONDS: Final = 30.0
"""How long a client may leave unread what fills its buffers."""

SILENT_SECONDS: Final = 25
"""How long what was written may stay unconfirmed by the client's kernel; it asks by itself only when idle."""

LINGER_SECONDS: Final = 2.0
"""How long a client that is sent away may take to take notice, before its connection is cut."""

PIECE_BYTES: Final = 8_192
TURN_SECONDS: Final = 0.005
"""How long what has arrived from one client is looked at before others get their turn."""

FRAGMENTS_MAX: Final = 1_000

MESSAGE_SECONDS: Final = 30.0
"""How long a message may take to arrive, from its first byte to its last."""

TOO_BIG: Final = 1009
TOO_SLOW: Final = 1008
UNSUPPORTED: Final = 1003
DEFECT: Final = 1011

EXTENSION: Final = "ebbgate.socket"
"""The name under which a connection's scope leads to its socket."""


class Receiver(Protocol):
    """What takes in the messages of one connection."""

    @property
    def is_behind(self) -> bool:
        """Whether it has taken in more than it could see to: nothing more is read meanwhile."""

    def received(self, data: bytes) -> None:
        """Take in one message."""

    def relieved(self) -> None:
        """The client has read what was written."""


class StreamSocket(WebSocketsSansIOProtocol):
    """One WebSocket; `Any` is what uvicorn's own signatures say."""

    receiver: Receiver | None = None
    seat: Seat | None = None
    ended_certainly = False  # by the client's kernel, or by the client's own closing
    dropped = False  # by this server
    is_clogged = False  # the client does not read
    _is_paused = False  # nothing is read from the socket
    _is_deaf = False  # what still comes is no WebSocket any more
    _rest = b""  # what has arrived and was not looked at yet
    _is_planned = False  # somebody will look at it
    _unread_timer: asyncio.TimerHandle | None = None
    _cutter: Cutter | None = None  # since the upgrade
    _late: asyncio.TimerHandle | None = None  # set while a part of a message is here, and a part is not

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have the kernel notice a client that fell silent though something is under way to it."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
        if option is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, option, SILENT_SECONDS * 1000)

    def handle_connect(self, event: Any) -> None:  # noqa: ANN401 - as uvicorn has it
        """Offer this socket to whom the connection is for."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]  # ASGI leaves it to the server

    async def send(self, event: Any) -> None:  # noqa: ANN401 - as uvicorn has it
        """Send what the application says; who was refused with a reason has had the answer."""
        if self.seat is not None and event["type"] == "websocket.accept":
            self.seat.prove()
        await super().send(event)
        if self.close_sent:
            self.handshake_complete = True  # else uvicorn would call every refusal an error

    # --- up

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived; much of it in pieces, for it may be thousands of tiny frames."""
        if len(data) <= PIECE_BYTES and not (self._rest or self._is_deaf):
            self._read(data)
        elif not self._is_deaf:
            is_first = not self._rest
            self._rest += data
            if is_first:
                self._take_in()

    def _take_in(self) -> None:
        self._is_planned = False
        data, self._rest = self._rest, b""
        until = time.monotonic() + TURN_SECONDS
        for start in range(0, len(data), PIECE_BYTES):
            if self._is_deaf or self.disconnected:
                break
            if self._is_behind() or time.monotonic() > until:
                self._rest = data[start:]
                break
            self._read(data[start : start + PIECE_BYTES])
        self.adjust()

    def _read(self, data: bytes) -> None:
        cutter = self._cutter
        if cutter is None:  # what comes first is the request for the upgrade, whole
            self._cutter = Cutter(masked=True)
        else:
            if self.receiver is not None and not self.frames and self.conn.state is State.OPEN:
                text = cutter.text(data)
                if text is not None:
                    self._hand_over(self.receiver, text)
                    return
            cutter.pass_on(data)
        super().data_received(data)
        if cutter is not None:
            self._time_message(is_whole=cutter.is_between and not self.frames)

    def _time_message(self, *, is_whole: bool) -> None:
        """Start or stop the deadline of a message that arrives in parts."""
        if is_whole:
            self._stop_timing()
        elif self._late is None and not (self.close_sent or self.transport.is_closing()):
            self._late = self.loop.call_later(MESSAGE_SECONDS, self._give_up)

    def _stop_timing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        """End a connection whose message did not arrive in time, unless this server has stopped reading it."""
        self._late = None
        if self._is_paused:
            self._time_message(is_whole=False)
        else:
            self.end(TOO_SLOW, f"a message must arrive within {MESSAGE_SECONDS:g} seconds")

    def _is_behind(self) -> bool:
        return self.receiver is not None and self.receiver.is_behind and not self.close_sent

    def adjust(self) -> None:
        """Read no more from a client that does not read, or that has said more than could be seen to yet."""
        if self.receiver is None or self.disconnected or self.transport.is_closing():
            return
        behind = self._is_behind()
        pause = behind or bool(self._rest) or (self.is_clogged and not self.close_sent)
        if pause != self._is_paused:
            self._is_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        if self._rest and not (behind or self._is_planned):
            self._is_planned = True
            self.loop.call_soon(self._take_in)

    def handle_cont(self, event: Frame) -> None:
        """Take in a part of a message."""
        if len(self.frames) >= FRAGMENTS_MAX:
            self.end(TOO_BIG, f"a message has at most {FRAGMENTS_MAX} fragments")
            self.frames = []
        super().handle_cont(event)

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
        self._hand_over(self.receiver, data)

    def _hand_over(self, receiver: Receiver, text: bytes) -> None:
        try:
            receiver.received(text)
        except Exception:  # noqa: BLE001 - a defect must not end the loop's reading, only this connection
            _log.exception("a defect: a message could not be taken in")
            self.end(DEFECT, "a defect of the server")

    # --- down

    def write(self, data: bytes) -> None:
        """Send one text message; a client that does not read loses its connection."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.transport.write(text_frame(data, masked=False))
        if self.transport.get_write_buffer_size() > UNREAD_MAX:
            self._drop()

    def pause_writing(self) -> None:
        """Take no more commands from a client that does not read the answers."""
        super().pause_writing()
        self.is_clogged = True
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._drop)
        self.adjust()

    def resume_writing(self) -> None:
        """Go on with it."""
        super().resume_writing()
        self.is_clogged = False
        self._forget_unread()
        if self.receiver is not None:
            self.receiver.relieved()
        self.adjust()

    def _forget_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    # --- the end

    def end(self, code: int, reason: str) -> None:
        """Close the connection; the client is told why."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._linger()

    def handle_parser_exception(self) -> None:
        """End what broke the rules of WebSockets; it was told why."""
        self._is_deaf = True
        if self.close_sent or self.conn.close_sent is None:
            self.transport.close()
            return
        self.close_sent = True
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._linger()

    def _linger(self) -> None:
        """Let the client read its last words: closed with bytes unread, the kernel would take them back."""
        self.stop_keepalive()
        self._stop_timing()
        self._rest = b""
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self._drop)
        self.adjust()

    def _drop(self) -> None:
        self.dropped = True
        self.transport.abort()

    def keepalive_timeout(self) -> None:
        """Cut a connection that fell silent, whatever it has not read."""
        super().keepalive_timeout()
        self.loop.call_later(LINGER_SECONDS, self._drop)

    def shutdown(self) -> None:
        """Close it because the server stops, which says nothing about the client."""
        if not self.transport.is_closing():
            self.dropped = True
            super().shutdown()

    def handle_close(self, event: Frame) -> None:
        """Note that the client has ended the connection itself."""
        if not (self.close_sent or self.dropped):
            self.ended_certainly = True
        super().handle_close(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note whether the end is certain: closed or reset by the client, not timed out or closed by us."""
        if not (self.close_sent or self.dropped) and (
            exc is None or isinstance(exc, ConnectionResetError | BrokenPipeError)
        ):
            self.ended_certainly = True
        self._forget_unread()
        self._stop_timing()
        if self.seat is not None:
            self.seat.leave()
        self._rest = b""
        self.receiver = None
        super().connection_lost(exc)
