"""What a route answers, as bytes: an ASGI application by itself, so that nothing stands between it and the socket."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal

import msgspec
from litestar.types import Receive, Scope, Send

from ebbgate.wire.shapes import LeaseInfo, LimitInfo

encode: Final = msgspec.json.Encoder().encode

Header = tuple[bytes, bytes]

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"

# What it says is true at one moment only.
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")


class Answer:
    """A whole answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, body: bytes = b"", headers: Iterable[Header] = (), media_type: bytes = JSON
    ) -> None:
        """Answer with `body`; without one there is no content type either."""
        self.status = status
        self.body = body
        self.headers: list[Header] = [_NO_STORE, *headers]
        if body:
            self.headers.append((b"content-type", media_type))
        if status != 204:
            self.headers.append((b"content-length", str(len(body)).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def json_answer(status: int, content: object, headers: Iterable[Header] = ()) -> Answer:
    """Return an answer in JSON."""
    return Answer(status, encode(content), headers)


class LeaseAnswer(LeaseInfo, frozen=True, kw_only=True):
    """A lease as its own client is told of it."""

    unknown: list[str] = msgspec.field(
        default_factory=list
    )  # asked names that no limit has: they protect nothing
    suggestion: str = ""  # the limit that was perhaps meant by the first of them
    retry_after_seconds: float | None = None  # when to ask again while it waits


class LimitPage(msgspec.Struct, frozen=True):
    """Some limits, by name; more of them with `cursor=next_cursor` unless that is null."""

    items: list[LimitInfo]
    next_cursor: str | None


class LeasePage(msgspec.Struct, frozen=True):
    """Some leases; more of them with `cursor=next_cursor` unless that is null."""

    items: list[LeaseInfo]
    next_cursor: str | None


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """What the renewal of one lease came to."""

    id: str
    result: Literal["held", "reacquired", "lost", "waiting", "refused"]
    fencing_token: int | None = None  # a new one if it was reacquired
    expires: datetime | None = None
    why: str = ""  # it is lost, or refused
    when: datetime | None = None  # it ended


class Renewals(msgspec.Struct, frozen=True):
    """What renewals came to, in the order in which they were asked for."""

    items: list[Renewal]


class Status(msgspec.Struct, frozen=True):
    """How a server is."""

    status: Literal["alive", "ready"]
