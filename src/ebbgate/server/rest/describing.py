"""What a route says of itself: everything that the OpenAPI document holds stands beside the route."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Method

from ebbgate.server.refusals import ANYWHERE
from ebbgate.server.rest.answers import Answer

Asked = Request[Any, Any, Any]
"""A request, as the framework has it."""

OPERATION: Final = "operation"
"""The name under which a route's handler carries its description."""

FRONT_PROBLEMS: Final = frozenset(refusal.status for refusal in ANYWHERE)
"""The statuses that every operation may have."""


class Parameter(msgspec.Struct, frozen=True):
    """A part of an address."""

    name: str
    where: str  # "path" or "query"
    schema: Mapping[str, object]
    description: str
    example: object = None
    required: bool = False  # parts of the path always are


class Reply(msgspec.Struct, frozen=True):
    """What a route answers when it does what it is for."""

    description: str
    content: object = None  # a type, None: no body
    example: object = None
    headers: tuple[str, ...] = ()  # by name, see `openapi.HEADERS`
    links: tuple[str, ...] = ()  # by name, see `openapi.LINKS`
    media_type: str = "application/json"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one address."""

    id: str
    summary: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: object = None  # a type
    body_example: object = None
    media_types: tuple[str, ...] = ("application/json",)
    replies: Mapping[int, Reply]
    problems: tuple[int, ...] = ()  # statuses, besides those of the front
    is_open: bool = False  # no key is needed


def options_route(path: str, handlers: Sequence[HTTPRouteHandler]) -> HTTPRouteHandler:
    """Return the route that tells which methods an address has; the framework's own names only some."""
    methods = {"OPTIONS", *(method for handler in handlers for method in handler.http_methods)}
    answer = Answer(204, headers=((b"allow", ", ".join(sorted(methods)).encode()),))

    async def options() -> ASGIApp:
        """Return the methods of this address."""
        return answer

    return HTTPRouteHandler(path, http_method="OPTIONS", status_code=200)(options)


def route(method: Method, path: str, handler: Callable[..., Any], operation: Operation) -> HTTPRouteHandler:
    """Return a route and what it says of itself; whatever can be read can be asked for without its body."""
    streams = any(reply.media_type == "text/event-stream" for reply in operation.replies.values())
    methods: Sequence[Method] = ("GET", "HEAD") if method == "GET" and not streams else (method,)
    return HTTPRouteHandler(path, http_method=methods, status_code=200, opt={OPERATION: operation})(handler)
