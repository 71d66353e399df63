"""What is said where something is not let through: problem documents (RFC 9457), made once."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from ebbgate.errors import InternalError, InvalidRequest, NotAuthorized, ServerUnavailable
from ebbgate.server.keys import KEY_LENGTH_MIN
from ebbgate.server.options import BODY_BYTES_MAX

assert BODY_BYTES_MAX == 1 << 20, "as said below"


Header = tuple[bytes, bytes]

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
"""What every answer tells a browser."""


class Refusal(NamedTuple):
    """An answer that is always the same."""

    status: int
    code: str
    title: str
    headers: tuple[Header, ...]
    body: bytes


async def refuse(
    scope: MutableMapping[str, Any],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    refusal: Refusal,
    more: Iterable[Header] = (),
) -> None:
    """Answer a request, or somebody who wants to open a WebSocket."""
    if scope["type"] == "http":
        kind = "http.response"
    elif "websocket.http.response" in (scope.get("extensions") or ()):
        kind = "websocket.http.response"
    else:
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [*refusal.headers, *more]
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": refusal.body})


def _refusal(status: HTTPStatus, code: str, detail: str, *more: Header, **members: str) -> Refusal:
    problem = {
        "type": f"urn:ebbgate:problem:{code}",
        "title": status.phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        **members,
    }
    body = msgspec.json.encode(problem)
    headers = (
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        *more,
    )
    return Refusal(int(status), code, status.phrase, headers, body)


_CLOSE: Final = (b"connection", b"close")
_BEARER: Final = (b"www-authenticate", b'Bearer realm="ebbgate"')
_BASIC: Final = (b"www-authenticate", b'Basic realm="ebbgate", charset="UTF-8"')

BAD_REQUEST: Final = _refusal(
    HTTPStatus.BAD_REQUEST,
    InvalidRequest.code,
    "a request needs one Host header, and no header twice that decides who may do what",
)
MISDIRECTED: Final = _refusal(
    HTTPStatus.MISDIRECTED_REQUEST,
    "host_not_allowed",
    "this server is not known by the name in the Host header; name it: ebbgate serve --allowed-host NAME",
)
FOREIGN: Final = _refusal(
    HTTPStatus.FORBIDDEN,
    "origin_not_allowed",
    "this request comes from a page of another origin; if a proxy stands before this server, name it: "
    "ebbgate serve --trusted-proxy ADDRESS",
)
PLAIN: Final = _refusal(
    HTTPStatus.FORBIDDEN,
    "plain_http",
    "this server answers other machines over TLS, or through a proxy that is named: "
    "ebbgate serve --trusted-proxy ADDRESS",
)
_MISSING: Final = (
    "this server needs an API key that it knows; set EBBGATE_API_KEY, or send Authorization: Bearer KEY "
    f"({KEY_LENGTH_MIN} characters or more)"
)
NO_KEY: Final = _refusal(HTTPStatus.UNAUTHORIZED, NotAuthorized.code, _MISSING, _BEARER)
NO_KEY_BASIC: Final = _refusal(
    HTTPStatus.UNAUTHORIZED,
    NotAuthorized.code,
    _MISSING,
    _BEARER,
    _BASIC,
    exception_message="Unauthorized",  # what Prefect's clients look for
)
TOO_LARGE: Final = _refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too_large",
    "a request's body may have up to 1 MiB; ask for less at a time",
    _CLOSE,
)
FULL: Final = _refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    ServerUnavailable.code,
    "this server has as many connections as it may; come back later, or raise it: ebbgate serve --connections-max N",
    (b"retry-after", b"5"),
    _CLOSE,
)
_DEFECT: Final = "a defect of this server; its log tells more"
INTERNAL: Final = _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, InternalError.code, _DEFECT)
INTERNAL_BASIC: Final = _refusal(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    InternalError.code,
    _DEFECT,
    exception_message="Internal Server Error",  # as Prefect's server says it
)
UNREADABLE: Final = _refusal(
    HTTPStatus.BAD_REQUEST, "malformed", "this is no HTTP/1.1 request that can be read", _CLOSE
)
HEAD_TOO_LARGE: Final = _refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "a request's head may have up to 64 KiB", _CLOSE
)
NO_WEBSOCKET: Final = _refusal(
    HTTPStatus.NOT_FOUND,
    "route_not_found",
    "no WebSocket is at this path, the stream is at /v1/stream; correct the path in EBBGATE_URL, or have the proxy "
    "take its own part off",
)
NO_UPGRADE: Final = _refusal(
    HTTPStatus.UPGRADE_REQUIRED,
    "upgrade_required",
    "the stream is a WebSocket; a proxy before this server must pass on the headers Upgrade and Connection",
    (b"upgrade", b"websocket"),
)

ANYWHERE: Final = (
    BAD_REQUEST, MISDIRECTED, FOREIGN, PLAIN, NO_KEY, TOO_LARGE, FULL, INTERNAL, UNREADABLE, HEAD_TOO_LARGE,
)  # fmt: skip
"""What every request may be answered, wherever it leads."""
