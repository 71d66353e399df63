"""The Prefect API as one ASGI application: everything under `/api`.

Plain ASGI and a table of routes: the contract fixes every status, error and header, most of them unlike those
of the rest of the server, and a framework would have to be talked out of its own at each of them.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

from ebbgate.errors import StoreUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.front import Receive, Scope, Send
from ebbgate.server.prefect import about, events
from ebbgate.server.prefect.answers import NOT_ALLOWED, NOT_FOUND, Answer, AnsweredError, unavailable
from ebbgate.server.prefect.leases import Leases
from ebbgate.server.prefect.limits import Limits
from ebbgate.server.prefect.places import GoneError, Places
from ebbgate.server.prefect.request import Request
from ebbgate.server.refusals import NO_WEBSOCKET, refuse

PREFIX: Final = "/api/"
LIMITS: Final = "/v2/concurrency_limits"
EVENTS: Final = "/events/in"
WAIT_SECONDS: Final = 10.0
"""How long an acquisition is held open before its client is asked to come back."""

COME_BACK_SECONDS: Final = 1.0

_WORKSPACE: Final = re.compile(r"/accounts/[^/]+/workspaces/[^/]+(?=/)")
_RENEW: Final = re.compile(LIMITS + r"/leases/([^/]+)/renew")

_log: Final = logging.getLogger("ebbgate.server")

Route = Callable[[Request], Awaitable[Answer]]


class PrefectApi:
    """What unmodified clients of Prefect talk to."""

    def __init__(self, decider: Decider, *, wait_seconds: float = WAIT_SECONDS) -> None:
        """Serve what `decider` decides.

        Args:
            decider: of the server.
            wait_seconds: how long an acquisition is held open at most.
        """
        self._places = Places(decider, wait_seconds)
        self._leases = leases = Leases(decider, self._places)
        self._limits = limits = Limits(decider)
        self._decider = decider
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", f"{LIMITS}/increment-with-lease"): leases.increment_with_lease,
            ("POST", f"{LIMITS}/decrement-with-lease"): leases.decrement_with_lease,
            ("POST", f"{LIMITS}/increment"): leases.increment,
            ("POST", f"{LIMITS}/decrement"): leases.decrement,
            ("POST", f"{LIMITS}/filter"): limits.filter,
            ("POST", f"{LIMITS}/"): limits.create,
            ("GET", "/csrf-token"): about.csrf_token,
            ("GET", "/admin/version"): about.admin_version,
            ("GET", "/admin/settings"): about.admin_settings,
            ("GET", "/version"): about.version,
            ("GET", "/health"): about.health,
            ("GET", "/hello"): about.hello,
            ("GET", "/ready"): self._ready,
        }
        self._by_name = {"GET": limits.read, "PATCH": limits.update, "DELETE": limits.delete}
        self._paths = {path for _, path in self._routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        path = scope["path"][len(PREFIX) - 1 :]
        if path.startswith("/accounts/"):
            path = _WORKSPACE.sub("", path, count=1)
        if scope["type"] == "websocket":
            if path == EVENTS:
                await events.swallow(scope, receive, send)
            else:
                await refuse(scope, send, NO_WEBSOCKET)
            return
        body = await _body(receive)
        if body is None:
            return
        request = Request(scope, receive, body)
        try:
            answer = await self._answer(request, path)
        except GoneError:
            return
        finally:
            request.close()
        headers = [*answer.headers]
        if answer.status != 204:
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, request: Request, path: str) -> Answer:
        try:
            about.check_version(request)
            return await self._route(request, path)
        except AnsweredError as known:
            return known.answer
        except StoreUnavailable:
            return unavailable(COME_BACK_SECONDS)

    async def _route(self, request: Request, path: str) -> Answer:
        method = request.scope["method"]
        route = self._routes.get((method, path))
        if route is not None:
            return await route(request)
        renewed = _RENEW.fullmatch(path)
        if renewed is not None:
            return await self._leases.renew(request, renewed[1]) if method == "POST" else NOT_ALLOWED
        head, _, name = path.rpartition("/")
        if head == LIMITS and name:
            by_name = self._by_name.get(method)
            return await by_name(request, name) if by_name is not None else NOT_ALLOWED
        if path in self._paths:
            return NOT_ALLOWED
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        if other in self._paths or (not name and head.rpartition("/")[0] == LIMITS):
            location = request.scope["path"].removesuffix(path) + other
            return Answer(307, b"", ((b"location", quote(location).encode()),))
        return NOT_FOUND

    async def _ready(self, _request: Request) -> Answer:
        return about.ready if self._decider.why_not_ready is None else about.not_ready

    def drain(self) -> None:
        """Have everybody who waits come back when the server runs again; their places stay theirs."""
        self._places.drain()


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if its client has gone before it was here."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
    return b"".join(parts)
