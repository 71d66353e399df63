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


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What happened at a limit from `at` on, for the length of one step. Where nobody looked there is no point."""

    at: datetime
    seen_seconds: float  # of the step in which a server ran; means and rates are over these
    slots: int  # the size of the limit at the end
    held_slots_mean: float
    held_slots_max: int
    spent_slots_mean: float
    spent_slots_max: float
    waiting_mean: float  # leases in the queue
    waiting_max: int
    grants: int  # acquisitions that got in
    grants_per_second: float
    left: int  # leases that left the queue without having got in
    denied: int  # acquisitions that did not want to wait, and found no slot free
    wait_mean_seconds: float | None  # of those who got in; None: nobody did
    wait_p50_seconds: float | None  # so long or shorter waited half of them, as far as the buckets tell
    wait_p90_seconds: float | None
    wait_p99_seconds: float | None


class HistoryInfo(msgspec.Struct, frozen=True):
    """The history of one limit within a window, oldest first."""

    id: str
    name: str
    start: datetime
    end: datetime
    step_seconds: float
    points: list[HistoryPoint]


class RecentInfo(msgspec.Struct, frozen=True):
    """What happened at a limit just now, one value a step; null: nobody looked."""

    id: str
    in_use_mean: list[float | None]  # slots: held and spent
    waiting_max: list[int | None]  # leases


class RecentPage(msgspec.Struct, frozen=True):
    """The same for several limits; those that do not exist are left out."""

    start: datetime
    step_seconds: float
    items: list[RecentInfo]


class Status(msgspec.Struct, frozen=True):
    """How a server is."""

    status: Literal["alive", "ready"]
