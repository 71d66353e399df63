"""One connection to a server without any I/O: bytes in, messages out; items in, bytes out.

Below the messages lies a WebSocket, and below that, if the address says so, TLS, which is kept away from the
socket: whoever drops a connection just closes its descriptor, and a forked child says nothing over it.

Known limit: no compression; messages are small, and their text is the client's own.
"""

import contextlib
import ssl
from collections.abc import Sequence
from typing import Final

import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, PayloadTooBig, ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI

from ebbgate.client.remote.addresses import Address
from ebbgate.errors import EbbgateError, InternalError, InvalidRequest, NotAuthorized, ServerUnavailable
from ebbgate.wire.frames import Cutter, text_frame
from ebbgate.wire.stream import ITEMS_MAX, MESSAGE_BYTES_MAX, PATH, Down, Up, decode_down, encode_up

RECEIVED_MAX: Final = 16 << 20
"""The longest message that a client takes in, in bytes: a page of many leases with long labels."""

PIECE_BYTES: Final = 1 << 16
"""How much is decrypted at once; see `dialling.READ_BYTES`."""

TOGETHER_MAX: Final = min(1_000, ITEMS_MAX)
"""How many items one message up holds."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_MALFORMED: Final = (ProtocolError, PayloadTooBig, UnicodeDecodeError, EOFError)

Message = tuple[int, list[Down]]
"""The store's time when it was sent, and its items."""

BAD_MESSAGE: Final = 4400
"""The code with which a server closes a connection that it cannot read; the same would happen again."""

_NO_STREAM: Final = frozenset({200, 301, 302, 303, 307, 308, 400, 404, 405, 426, 501})
"""Answers of servers that know no stream."""

_PASSING: Final = frozenset({408, 425, 429})
"""Answers to the upgrade that may be others in a moment, beside all from 500 on."""


class Broken(Exception):  # noqa: N818 - it is a state, not a mistake
    """The connection is over; whatever was not answered has to be asked again over another one."""


class Line:
    """One connection. Not safe for use by several threads at once."""

    def __init__(self, address: Address, api_key: str | None, tls: ssl.SSLContext | None) -> None:
        """Prepare the upgrade; `to_send` holds the first bytes.

        Args:
            address: where the server is.
            api_key: is sent along; None: none.
            tls: for a secure address.

        Raises:
            NotAuthorized: nothing could be a key like that.
        """
        self._address = address
        host = address.host or "localhost"
        uri = WebSocketURI(address.secure, host, address.port or 80, address.prefix + PATH, "")
        self._protocol = ClientProtocol(uri, max_size=RECEIVED_MAX)
        request = self._protocol.connect()
        request.headers["User-Agent"] = "ebbgate-python"
        if api_key is not None:
            if not (api_key.isascii() and api_key.isprintable()):
                raise NotAuthorized(
                    "the API key holds characters that no key has, perhaps a line break; correct EBBGATE_API_KEY"
                )
            request.headers["Authorization"] = f"Bearer {api_key}"
        self._protocol.send_request(request)
        self._cutter: Cutter | None = None  # where it is known that a frame has ended
        self._parts: list[bytes] = []  # of a message that came in several frames
        self._tls: ssl.SSLObject | None = None
        if tls is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
            self._shaken = False

    @property
    def is_open(self) -> bool:
        """Tell whether messages can be said."""
        return self._protocol.state is State.OPEN

    @property
    def has_output(self) -> bool:
        """Tell whether there is something `to_send`."""
        return bool(self._protocol.writes) or (self._tls is not None and self._outgoing.pending > 0)

    # --- up

    def say(self, items: Sequence[Up]) -> None:
        """Have items sent, in as few messages as may be.

        Raises:
            InvalidRequest: one is too long for any message; nothing is sent.
        """
        protocol = self._protocol
        for message in _messages(items):
            if protocol.state is State.OPEN:
                protocol.writes.append(text_frame(message, masked=True))
            else:
                protocol.send_text(message)  # which says what is wrong

    def ping(self) -> None:
        """Have the server say that it is there."""
        self._protocol.send_ping(b"")

    def end(self) -> None:
        """Close the WebSocket in order."""
        if self.is_open:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)

    def to_send(self) -> bytes:
        """Return the bytes that are to be sent now.

        Raises:
            ServerUnavailable: the server's certificate is not trusted, or it speaks no TLS.
        """
        if self._tls is None:
            written = self._protocol.data_to_send()
            return written[0] if len(written) == 1 else b"".join(written)
        if self._shake_hands():
            for data in self._protocol.data_to_send():
                if data:
                    self._tls.write(data)
        return self._outgoing.read()

    def _shake_hands(self) -> bool:
        assert self._tls is not None, "asked only where there is TLS"
        if not self._shaken:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLCertVerificationError as error:
                raise ServerUnavailable(
                    f"the server's certificate is not trusted ({error.verify_message}); "
                    "set EBBGATE_CA_FILE to the certificate of who signed it",
                    transient=False,
                ) from error
            except ssl.SSLError as error:
                plain = self._address._replace(secure=False)
                raise ServerUnavailable(
                    f"no TLS with the server at {self._address} ({error.reason or error}); if it is served without, "
                    f"export EBBGATE_URL={plain}"
                ) from error
            self._shaken = True
        return True

    # --- down

    def receive(self, data: bytes) -> list[Message]:
        """Take in bytes and return the messages that they complete; there may be something `to_send` then.

        Args:
            data: what was read; b"": the other end closed the connection.

        Raises:
            Broken: the connection is over.
            NotAuthorized: the server refused the API key.
            InternalError: it could not read what this client said.
            ServerUnavailable: no such server is there.
        """
        if not data:
            self._protocol.receive_eof()
            self._explain()
            raise Broken("the server closed the connection")
        if self._tls is not None:
            data = self._decrypted(data)
            if not data:
                return []
        protocol = self._protocol
        messages: list[Message] = []
        cutter = self._cutter
        if cutter is not None:
            if protocol.state is State.OPEN and not self._parts:
                text = cutter.text(data)
                if text is not None:
                    messages.append(_read(text))
                    return messages
            cutter.pass_on(data)
        elif protocol.state is State.CONNECTING and data.endswith(_END_OF_HEAD):
            self._cutter = Cutter(masked=False)
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._take(event, messages)
        if protocol.state is not State.OPEN:
            self._explain()
        return messages

    def _decrypted(self, data: bytes) -> bytes:
        assert self._tls is not None, "asked only where there is TLS"
        self._incoming.write(data)
        if not self._shake_hands():
            return b""
        parts: list[bytes] = []
        try:
            while True:
                part = self._tls.read(PIECE_BYTES)
                if not part:
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise Broken(f"TLS failed: {error.reason or error}") from error
        if not parts and self._incoming.eof:
            raise Broken("the server closed the connection")
        return b"".join(parts)

    def _take(self, frame: Frame, messages: list[Message]) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY or opcode is Opcode.CONT:
            payload = frame.data
            if not frame.fin or self._parts:
                self._parts.append(bytes(payload))
                if not frame.fin:
                    return
                payload = b"".join(self._parts)
                self._parts.clear()
            messages.append(_read(payload))

    def _explain(self) -> None:
        """Raise what the end of the connection means; nothing if it has not begun yet."""
        protocol = self._protocol
        refusal = protocol.handshake_exc
        if refusal is not None:
            raise _refused(refusal, self._address) from refusal
        if protocol.state is State.CONNECTING:
            return
        closing = protocol.close_rcvd
        if closing is not None and closing.code == BAD_MESSAGE:
            raise InternalError(f"the server does not understand this client: {closing.reason}")
        failure = protocol.parser_exc
        if failure is not None and not isinstance(failure, _MALFORMED):
            raise failure  # from outside, as from a signal handler
        why = f"the server closed the connection: {closing}" if closing else "the connection failed"
        raise Broken(why) from failure


def _read(text: bytes | bytearray | memoryview) -> Message:
    try:
        return decode_down(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Broken(f"the server sent what this client does not understand: {error}") from error


def _messages(items: Sequence[Up]) -> list[bytes]:
    """Return as few messages as can carry these items in their order."""
    if len(items) <= TOGETHER_MAX:
        message = encode_up(items)
        if len(message) <= MESSAGE_BYTES_MAX:
            return [message]
        if len(items) == 1:
            raise InvalidRequest(
                f"{len(message):,} bytes are too much for one command; at most {MESSAGE_BYTES_MAX:,} can be sent"
            )
    half = min((len(items) + 1) // 2, TOGETHER_MAX)
    return [*_messages(items[:half]), *_messages(items[half:])]


def _refused(refusal: Exception, address: Address) -> EbbgateError:
    """Return what it means that a server did not accept the upgrade."""
    if isinstance(refusal, InvalidStatus):
        response = refusal.response
        status, said = response.status_code, _detail(response)
        if status in {401, 403}:
            return NotAuthorized(
                said
                or f"what answers at {address} refuses this client (HTTP {status}); set EBBGATE_API_KEY, "
                "or correct host, port and path in EBBGATE_URL"
            )
        if status in _NO_STREAM and not said:
            return ServerUnavailable(
                f"what answers at {address} is no ebbgate server (HTTP {status}); "
                "correct host, port and path in EBBGATE_URL, then see: ebbgate doctor",
                transient=False,
            )
        return ServerUnavailable(
            f"the server refused the connection: {said or status}",
            transient=status >= 500 or status in _PASSING,
        )
    if isinstance(refusal, InvalidHandshake) and not isinstance(refusal.__cause__, EOFError):
        return ServerUnavailable(
            f"what answers at {address} is no ebbgate server ({refusal}); "
            "correct host, port and path in EBBGATE_URL, then see: ebbgate doctor"
        )
    hint = (
        ""
        if address.secure or address.path
        else (f"; if it is served over TLS, export EBBGATE_URL={address._replace(secure=True)}")
    )
    return ServerUnavailable(f"the server at {address} closed the connection before it answered{hint}")


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


def _detail(response: Response) -> str:
    problem = _Problem()
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        problem = msgspec.json.decode(bytes(response.body or b""), type=_Problem)
    return problem.detail or problem.title
