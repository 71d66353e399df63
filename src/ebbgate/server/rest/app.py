"""The REST routes as one ASGI application.

The framework routes and catches, but for what is asked most (`direct`); bodies are read and answers written by
msgspec alone, since with the framework's own signatures and responses every request would cost twice as much.
"""

from typing import Final

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from ebbgate.server.decider import Decider
from ebbgate.server.hearing import Hearing
from ebbgate.server.history.history import History
from ebbgate.server.rest import operations, operations_history
from ebbgate.server.rest.answers import Answer, json_answer
from ebbgate.server.rest.describing import Asked, options_route, route
from ebbgate.server.rest.direct import LEASES, RENEW, SPENDS, Direct
from ebbgate.server.rest.events import EventRoutes
from ebbgate.server.rest.health import HealthRoutes
from ebbgate.server.rest.history import HistoryRoutes
from ebbgate.server.rest.leases import LeaseRoutes
from ebbgate.server.rest.limits import LimitRoutes
from ebbgate.server.rest.openapi import document
from ebbgate.server.rest.problems import tell, tell_http_error

LIMITS: Final = "/v1/limits"
LIMIT: Final = "/v1/limits/{name_or_id:str}"
LEASE: Final = "/v1/leases/{id:str}"


def rest_app(decider: Decider, hearing: Hearing, history: History) -> ASGIApp:
    """Return the application that serves every route but the stream.

    Args:
        decider: decides.
        hearing: knows who waits with a request open, and whether the server stops.
        history: knows what has been.
    """
    app: Litestar
    described: list[Answer] = []

    async def openapi(request: Asked) -> ASGIApp:
        """Return the document that describes all routes."""
        del request
        if not described:
            described.append(json_answer(200, document(app.routes, decider.book.settings)))
        return described[0]

    leases = LeaseRoutes(decider, hearing)
    past = HistoryRoutes(decider, history)
    routes = [
        *_routes(decider, hearing, leases),
        *_past_routes(past),
        route("GET", "/openapi.json", openapi, operations.OPENAPI),
    ]
    by_path: dict[str, list[HTTPRouteHandler]] = {}
    for handler in routes:
        by_path.setdefault(min(handler.paths), []).append(handler)
    app = Litestar(
        # First, or the framework adds its own.
        [*(options_route(path, handlers) for path, handlers in by_path.items()), *routes],
        openapi_config=None,
        logging_config=None,
        exception_handlers={
            HTTPException: tell_http_error,
            Exception: tell,
        },
    )
    return Direct(app, leases)


def _past_routes(past: HistoryRoutes) -> list[HTTPRouteHandler]:
    return [
        route("GET", f"{LIMIT}/history", past.of_limit, operations_history.READ_HISTORY),
        route("GET", "/v1/history", past.recent, operations_history.READ_RECENT),
    ]


def _routes(decider: Decider, hearing: Hearing, leases: LeaseRoutes) -> list[HTTPRouteHandler]:
    limits = LimitRoutes(decider)
    health = HealthRoutes(decider, hearing)
    return [
        route("GET", LIMITS, limits.list, operations.LIST_LIMITS),
        route("POST", LIMITS, limits.create, operations.CREATE_LIMIT),
        route("GET", LIMIT, limits.read, operations.READ_LIMIT),
        route("PUT", LIMIT, limits.replace, operations.REPLACE_LIMIT),
        route("PATCH", LIMIT, limits.change, operations.CHANGE_LIMIT),
        route("DELETE", LIMIT, limits.delete, operations.DELETE_LIMIT),
        route("POST", f"{LIMIT}/cool-down", limits.cool_down, operations.COOL_DOWN),
        route("POST", LEASES, leases.acquire, operations.ACQUIRE),
        route("GET", LEASES, leases.list, operations.LIST_LEASES),
        route("POST", RENEW, leases.renew, operations.RENEW),
        route("GET", LEASE, leases.read, operations.READ_LEASE),
        route("DELETE", LEASE, leases.release, operations.RELEASE),
        route("POST", f"{LEASE}/revoke", leases.revoke, operations.REVOKE),
        route("POST", SPENDS, leases.spend, operations.SPEND),
        route("GET", "/v1/events", EventRoutes(decider, hearing).events, operations.EVENTS),
        route("GET", "/livez", health.livez, operations.LIVEZ),
        route("GET", "/readyz", health.readyz, operations.READYZ),
    ]
