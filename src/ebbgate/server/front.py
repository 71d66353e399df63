"""What stands before every route and before the stream: who may talk to the server, and how.

One pass over the headers, no I/O, some microseconds. Everything that is not allowed is refused here, before
any other code sees it; nothing here opens the server to pages of other origins, so there is no CORS header.

Known limit: a request line in absolute form is judged by its Host header alone.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final

from ebbgate.server.crowd import Seat
from ebbgate.server.http import HEALTH_PATHS, SEAT
from ebbgate.server.options import BODY_BYTES_MAX, Options
from ebbgate.server.peers import Peers, is_served_name
from ebbgate.server.refusals import (
    BAD_REQUEST,
    FOREIGN,
    FULL,
    HEADERS,
    INTERNAL,
    INTERNAL_BASIC,
    MISDIRECTED,
    NO_KEY,
    NO_KEY_BASIC,
    PLAIN,
    TOO_LARGE,
    Refusal,
    refuse,
)
from ebbgate.server.socket import EXTENSION, StreamSocket
from ebbgate.server.ui.files import SITE
from ebbgate.server.ui.logins import LOGINS, SESSION_PATH, Logins

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY: Final = "ebbgate.key"
"""Where in a scope the id of the API key stands; "" when none is needed."""

WAITS: Final = "ebbgate.waits"
"""Set in a scope by a route whose answer takes as long as its caller wants."""

UI_PATHS: Final = SITE.paths | {SESSION_PATH}
"""What a browser loads before anybody can have given it a key. Nothing in there may be secret."""

REVOKED: Final = 4403
"""Close code of a stream whose API key was revoked."""

SLOW_SECONDS: Final = 1.0

_OPEN_PATHS: Final = HEALTH_PATHS | UI_PATHS
_READING: Final = frozenset({"GET", "HEAD"})
_BASIC_PREFIX: Final = "/api/"
_LOOKED_AT: Final = frozenset({
    b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"authorization",
    b"content-length", b"transfer-encoding", b"cookie",
})  # fmt: skip
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_ORIGINS: Final = {"http": b"http://", "ws": b"http://", "https": b"https://", "wss": b"https://"}
_HOSTS_KEPT: Final = 1_000
_DIGITS_MAX: Final = 12

_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")

_log: Final = logging.getLogger("ebbgate.server")


class Front:
    """An ASGI application before another one."""

    def __init__(self, app: App, options: Options, *, trusted: bool = False) -> None:
        """Stand before `app`.

        Args:
            app: gets only what is let through.
            options: of the server.
            trusted: for a socket that only the server's own user can open: no key is needed there.
        """
        self._app = app
        self._keys = None if trusted or not options.keys else options.keys
        self._logins = None if self._keys is None else Logins(self._keys)
        self._names = options.host_names
        self._hosts: set[bytes] = set()  # that were found to be served, as written
        self._peers = None if trusted else Peers.of(options)
        self._headers = (*HEADERS, _HSTS) if options.is_tls and not trusted else HEADERS
        self._connections_max = options.connections_max
        self._connections = 0
        self._served: dict[
            int, Scope
        ] = {}  # requests and streams with a key, by the identity of their scopes
        self._untold = 0  # refusals since one was logged
        self._told_at = -1e9

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request or a connection through, or refuse it."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        found: dict[bytes, bytes] = {}
        refusal = self._judge(scope, found)
        if refusal is not None:
            self._tell(scope, refusal)
            await refuse(scope, send, refusal, self._headers)
            return
        if kind == "http" and scope["path"] not in _OPEN_PATHS:
            seat: Seat | None = scope.get(SEAT)
            if seat is not None:
                seat.prove()
        if scope[KEY]:
            self._served[id(scope)] = scope
        try:
            await self._serve(scope, receive, send, found)
        finally:
            self._served.pop(id(scope), None)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, found: dict[bytes, bytes]) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        elif b"transfer-encoding" in found:
            await self._collect(scope, receive, send)
        else:
            await self._respond(scope, receive, send)

    def revoke(self, key_ids: Collection[str]) -> None:
        """End the log-ins, streams and requests of keys that are no longer accepted."""
        if self._logins is not None:
            self._logins.end_all_of(key_ids)
        for scope in list(self._served.values()):
            if scope[KEY] not in key_ids:
                continue
            socket = scope.get("extensions", {}).get(EXTENSION)
            seat: Seat | None = scope.get(SEAT)
            if isinstance(socket, StreamSocket):
                socket.end(REVOKED, "the API key of this connection was revoked")
            elif seat is not None:
                seat.abort()

    # --- who may

    def _judge(self, scope: Scope, found: dict[bytes, bytes]) -> Refusal | None:
        """Return why a request is refused, None if it is not; fill `found` with the headers that count."""
        pairs = [pair for pair in scope["headers"] if pair[0] in _LOOKED_AT]
        found.update(pairs)
        host = found.get(b"host")
        if host is None or len(found) != len(pairs):  # two of one are read differently by different programs
            return BAD_REQUEST
        peers = self._peers
        if peers is not None:
            client = scope["client"]
            peer = peers.kind_of(client[0] if client else "")
            if peer == "proxy":
                host = peers.believe(scope, host)
            elif peer == "foreign" and peers.is_plain:
                return PLAIN
        if host not in self._hosts and not self._serves(host):
            return MISDIRECTED
        origin = found.get(b"origin")
        if origin is not None and origin.lower() != _ORIGINS.get(scope["scheme"], b"") + host.lower():
            return FOREIGN
        site = found.get(b"sec-fetch-site")
        if site is not None and site not in _OWN_SITES and not _is_harmless(scope, found):
            return FOREIGN
        refusal = self._ask_for_key(scope, found)
        if refusal is None and b"content-length" in found and _is_too_long(found[b"content-length"]):
            return TOO_LARGE
        return refusal

    def _serves(self, host: bytes) -> bool:
        if not is_served_name(host, self._names):
            return False
        if len(self._hosts) < _HOSTS_KEPT:
            self._hosts.add(host)
        return True

    def _ask_for_key(self, scope: Scope, found: dict[bytes, bytes]) -> Refusal | None:
        scope[KEY] = ""
        path, logins = scope["path"], self._logins
        scope[LOGINS] = logins
        if self._keys is None or path == SESSION_PATH:
            return None
        if path in _OPEN_PATHS and scope.get("method") in _READING:
            return None
        basic = path.startswith(_BASIC_PREFIX)
        key_id = self._keys.id_of(found.get(b"authorization", b""), basic=basic)
        if key_id is None and logins is not None and not basic and _is_of_a_page(scope, found):
            key_id = logins.id_of(scope, found[b"cookie"])
        if key_id is None:
            return NO_KEY_BASIC if basic else NO_KEY
        scope[KEY] = key_id
        return None

    # --- what comes of it

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0
        headers = self._headers

        def answer(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            return send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, answer)
        except Exception:
            _log.exception("a request failed", extra={"fields": _fields(scope, INTERNAL.status, started)})
            if status:
                raise  # half an answer: the connection must end
            basic = scope["path"].startswith(_BASIC_PREFIX)
            await refuse(scope, send, INTERNAL_BASIC if basic else INTERNAL, self._headers)
            return
        if status >= 500:
            _log.warning("a request failed", extra={"fields": _fields(scope, status, started)})
        elif time.perf_counter() - started > SLOW_SECONDS and WAITS not in scope:
            _log.info("a slow request", extra={"fields": _fields(scope, status, started)})

    async def _collect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a body of unknown length before anybody sees it: it ends in time, or is refused."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > BODY_BYTES_MAX:
                self._tell(scope, TOO_LARGE)
                await refuse(scope, send, TOO_LARGE, self._headers)
                return
        read = False

        def again() -> Awaitable[Message]:
            nonlocal read
            if read:
                return receive()
            read = True
            return _now({"type": "http.request", "body": bytes(body), "more_body": False})

        await self._respond(scope, again, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._connections >= self._connections_max:
            self._tell(scope, FULL)
            await refuse(scope, send, FULL, self._headers)
            return
        self._connections += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._connections -= 1

    def _tell(self, scope: Scope, refusal: Refusal) -> None:
        """Log a refusal; one a second, so that nobody can fill the log."""
        now = time.monotonic()
        if now - self._told_at < 1.0:
            self._untold += 1
            return
        client = scope["client"]
        fields = {"status": refusal.status, "code": refusal.code, "path": scope["path"]}
        fields |= {"client": client[0] if client else "", "more": self._untold}
        self._told_at, self._untold = now, 0
        _log.warning("refused: %s", refusal.title, extra={"fields": fields})


def _is_harmless(scope: Scope, found: dict[bytes, bytes]) -> bool:
    """Tell whether a foreign page merely leads a browser to a page of ours."""
    return (
        scope.get("method") == "GET"
        and found.get(b"sec-fetch-mode") == b"navigate"
        and found.get(b"sec-fetch-dest") == b"document"
        and scope["path"] in _OPEN_PATHS
    )


def _is_of_a_page(scope: Scope, found: dict[bytes, bytes]) -> bool:
    """Tell whether a cookie may stand for a key: what changes something must say that it comes from our page."""
    return (
        b"cookie" in found
        and b"authorization" not in found
        and scope["type"] == "http"
        and (scope["method"] in _READING or b"origin" in found or b"sec-fetch-site" in found)
    )


def _is_too_long(length: bytes) -> bool:
    return not length.isdigit() or len(length) > _DIGITS_MAX or int(length) > BODY_BYTES_MAX


def _fields(scope: Scope, status: int, started: float) -> dict[str, object]:
    return {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "seconds": round(time.perf_counter() - started, 3),
        "key": scope[KEY],
    }


async def _now(message: Message) -> Message:
    return message
