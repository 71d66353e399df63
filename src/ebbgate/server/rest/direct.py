"""The routes that are asked thousands of times a second, past the framework: its way to them costs 20 us.

They lead to the same functions as the framework's own routes, by which they are described, and which answer
every other method, and every other way to write these addresses.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from litestar import Request
from litestar.types import ASGIApp, Receive, Scope, Send

from ebbgate.server.rest.describing import Asked
from ebbgate.server.rest.leases import LeaseRoutes
from ebbgate.server.rest.problems import answer_of

LEASES: Final = "/v1/leases"
RENEW: Final = f"{LEASES}/renew"
SPENDS: Final = "/v1/spends"

_LEASE: Final = f"{LEASES}/"

Handler = Callable[[Asked], Awaitable[ASGIApp]]


class Direct:
    """An ASGI application before the framework's."""

    def __init__(self, app: ASGIApp, leases: LeaseRoutes) -> None:
        """Hand everything but a few routes of `leases` on to `app`."""
        self._app = app
        self._posts: dict[str, Handler] = {
            LEASES: leases.acquire,
            RENEW: leases.renew,
            SPENDS: leases.spend,
        }
        self._release: Handler = leases.release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        handler = self._handler_of(scope)
        if handler is None:
            await self._app(scope, receive, send)
            return
        request: Asked = Request(scope, receive, send)
        try:
            answer = await handler(request)
            await answer(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - as with the framework, every one is answered
            await answer_of(request, error)(scope, receive, send)

    def _handler_of(self, scope: Scope) -> Handler | None:
        method, path = scope["method"], scope["path"]  # type: ignore[typeddict-item]  # as above
        if method == "POST":
            return self._posts.get(path)
        if method == "DELETE" and path.startswith(_LEASE) and path not in self._posts:
            lease_id = path[len(_LEASE) :]
            if lease_id and "/" not in lease_id:
                scope["path_params"] = {"id": lease_id}
                return self._release
        return None
