"""Every error as a problem document (RFC 9457): one place that knows codes, statuses and titles."""

import logging
import re
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from ebbgate.core.commands import Refused
from ebbgate.core.limits import near_miss
from ebbgate.errors import EbbgateError, InternalError, InvalidRequest, NoSlotFree
from ebbgate.server.rest.answers import PROBLEM, Answer, Header, encode
from ebbgate.server.rest.describing import Asked
from ebbgate.wire.problems import error_from

_log: Final = logging.getLogger("ebbgate.server")

STATUSES: Final = {
    "invalid_request": (HTTPStatus.UNPROCESSABLE_ENTITY, "An argument is wrong"),
    "invalid_use": (HTTPStatus.UNPROCESSABLE_ENTITY, "An object is used in a way that is not supported"),
    "invalid_limit": (HTTPStatus.UNPROCESSABLE_ENTITY, "A limit cannot be so"),
    "limit_not_found": (HTTPStatus.NOT_FOUND, "No such limit"),
    "limit_exists": (HTTPStatus.CONFLICT, "The name is taken"),
    "limit_in_use": (HTTPStatus.CONFLICT, "The limit is in use"),
    "never_fits": (HTTPStatus.UNPROCESSABLE_ENTITY, "More slots than the limit has"),
    "no_slot_decay": (HTTPStatus.UNPROCESSABLE_ENTITY, "The limit has no slot decay"),
    "no_slot_free": (HTTPStatus.CONFLICT, "No slot is free"),
    "id_reused": (HTTPStatus.CONFLICT, "The lease id was used before"),
    "waiter_removed": (HTTPStatus.CONFLICT, "The waiter was taken out of the queue"),
    "lease_not_found": (HTTPStatus.NOT_FOUND, "No such lease"),
    "not_authorized": (HTTPStatus.FORBIDDEN, "Not allowed"),
    "store_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The store is out of reach"),
    "server_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The server takes nothing more"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "A defect of the server"),
    "malformed": (HTTPStatus.BAD_REQUEST, "The request cannot be read"),
    "route_not_found": (HTTPStatus.NOT_FOUND, "No such address"),
    "method_not_allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "Not at this address"),
    "too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large"),
    "unsupported_media_type": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Not JSON"),
}
"""By code: the status, and what all problems of this kind have in common."""

RETRY_AFTER_SECONDS: Final = 1

_UNKNOWN_FIELD: Final = re.compile(r"unknown field `(.*?)`", re.DOTALL)


class Malformed(InvalidRequest):
    """What was sent cannot even be read."""

    code = "malformed"


class UnsupportedMediaType(InvalidRequest):
    """A body is in another format than JSON."""

    code = "unsupported_media_type"


class TooLarge(InvalidRequest):
    """A body has more than 1 MiB."""

    code = "too_large"


class Problem(msgspec.Struct, frozen=True):
    """What went wrong (RFC 9457). Further members are the arguments of the error, by name."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def problem(error: EbbgateError) -> Answer:
    """Return the answer that tells of an error."""
    detail = str(error)
    if isinstance(error, NoSlotFree):
        listed = ", ".join(repr(name) for name in error.names)
        detail = f"no slot is free on {listed} now; to wait for one, leave out queue=false"
    retry: tuple[Header, ...] = ()
    if STATUSES.get(error.code, (None,))[0] is HTTPStatus.SERVICE_UNAVAILABLE:
        retry = ((b"retry-after", str(RETRY_AFTER_SECONDS).encode()),)
    arguments = {name: value for name, value in vars(error).items() if name != "max_retries"}
    return _answer(error.code, detail, arguments, retry)


def refusal(refused: Refused) -> Answer:
    """Return the answer that tells of a refusal."""
    if refused.code == InternalError.code:
        return _answer(InternalError.code, "a defect of this server; its log tells more", {})
    return problem(error_from(refused))


def _answer(code: str, detail: str, arguments: dict[str, Any], headers: tuple[Header, ...] = ()) -> Answer:
    status, title = STATUSES.get(code, STATUSES["internal"])
    document = {
        "type": f"urn:ebbgate:problem:{code}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "code": code,
        **arguments,
    }
    return Answer(int(status), encode(document), headers, PROBLEM)


# --- what is raised


class Gone(Exception):  # noqa: N818 - not an error: nobody is there any more
    """The client left before its request was whole."""


def answer_of(request: Asked, error: Exception) -> Answer:
    """Return the answer to a request on which something of ours failed; of a defect the log tells more."""
    if isinstance(error, EbbgateError):
        return problem(error)
    if isinstance(error, Gone):
        return Answer(400)  # to nobody
    _log.error("a request failed: %s %s", request.scope["method"], request.scope["path"], exc_info=error)
    return refusal(Refused(InternalError.code, {"message": ""}))


def tell(request: Asked, error: Exception) -> Response[bytes]:
    """Give that answer by the framework."""
    return _response(answer_of(request, error))


def tell_http_error(request: Asked, error: HTTPException) -> Response[bytes]:
    """Answer a request that the framework refused."""
    path, method = request.scope["path"], request.scope["method"]
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            answer = _answer("route_not_found", f"nothing is at {path}; see /openapi.json", {})
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("allow", "")
            names = ", ".join(sorted(name.strip() for name in allowed.split(",")))
            answer = _answer(
                "method_not_allowed",
                f"{method} is not possible at {path}; possible are {names}",
                {},
                ((b"allow", names.encode()),),
            )
        case status if 400 <= status < 500:
            answer = _answer("malformed", error.detail, {})
        case _:
            return tell(request, error)
    return _response(answer)


def _response(answer: Answer) -> Response[bytes]:
    headers = {
        name.decode(): value.decode()
        for name, value in answer.headers
        if name not in {b"content-type", b"content-length"}
    }
    return Response(answer.body, status_code=answer.status, media_type=PROBLEM.decode(), headers=headers)


def unreadable(error: Exception, fields: frozenset[str]) -> InvalidRequest:
    """Return the error that says what is wrong with a body.

    Args:
        error: what decoding it raised.
        fields: what could stand in it.
    """
    if not isinstance(error, msgspec.ValidationError):
        return Malformed(f"the body is not JSON: {error}")
    text = str(error)
    unknown = _UNKNOWN_FIELD.search(text)
    if unknown is not None and unknown[1] in fields:  # known, but not where it stands
        place = "at the top level of the body" if " - at " in text else "in each entry of a list of the body"
        return InvalidRequest(f"field {unknown[1]!r} is in the wrong place: it belongs {place}")
    if unknown is not None:
        return InvalidRequest(unknown_name("field", unknown[1], fields))
    return InvalidRequest(f"the body is wrong: {text}")


def unknown_name(kind: str, name: str, known: frozenset[str]) -> str:
    """Return what to say of a name that means nothing here."""
    meant = near_miss(name, sorted(known))
    hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(sorted(known))}"
    return (
        f"unknown {kind} {name[:100]!r}; {hint}" if known else f"unknown {kind} {name[:100]!r}; there is none"
    )
