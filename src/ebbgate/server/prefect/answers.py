"""What the Prefect API says: status, body and headers as its clients read them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]

_JSON: Final = (b"content-type", b"application/json")

encode: Final = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """An answer, ready to be sent."""

    status: int
    body: bytes = b""
    headers: Headers = ()


class AnsweredError(Exception):
    """The request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        """Keep the answer."""
        super().__init__(answer.status)
        self.answer = answer


def answer(status: int, content: object, *headers: tuple[bytes, bytes]) -> Answer:
    """Return an answer with `content` as JSON."""
    return Answer(status, encode(content), (_JSON, *headers))


def detail(status: int, text: str, **more: object) -> Answer:
    """Return an answer in the shape of an HTTP error; clients ignore fields that they do not know."""
    return answer(status, {"detail": text, **more})


def invalid(complaints: list[dict[str, object]], body: object) -> Answer:
    """Return the answer to a request that makes no sense; clients show the first complaint's `msg`."""
    return answer(
        422,
        {
            "exception_message": "Invalid request received.",
            "exception_detail": complaints,
            "request_body": body,
        },
    )


def complaint(
    kind: str, where: tuple[str | int, ...], msg: str, got: object, **ctx: object
) -> dict[str, object]:
    """Return what is wrong with one value."""
    told: dict[str, object] = {"type": kind, "loc": where, "msg": msg, "input": got}
    return {**told, "ctx": ctx} if ctx else told


def locked(retry_after_seconds: float, more: Mapping[str, object]) -> Answer:
    """Return the answer to an acquisition that must come back later: when, and for whom it waits."""
    content = {"detail": "Locked", "retry_after_seconds": retry_after_seconds, **more}
    return answer(423, content, (b"retry-after", f"{retry_after_seconds:.3f}".encode()))


def unavailable(retry_after_seconds: float) -> Answer:
    """Return the answer of a server that cannot tell now; the client asks again for as long as it takes."""
    return answer(
        503,
        {"exception_message": "Service Unavailable"},
        (b"retry-after", f"{retry_after_seconds:g}".encode()),
        (b"prefect-maintenance", b"true"),
    )


NO_CONTENT: Final = Answer(204)
NOT_FOUND: Final = detail(404, "Not Found")
NOT_ALLOWED: Final = detail(405, "Method Not Allowed")
NO_SUCH_LIMIT: Final = detail(404, "Concurrency Limit not found")
CONFLICT: Final = detail(
    409,
    "Data integrity conflict. This usually means a unique or foreign key constraint was violated. "
    "See server logs for details.",
)
TOO_MANY: Final = detail(422, "Slots requested is greater than the limit")
