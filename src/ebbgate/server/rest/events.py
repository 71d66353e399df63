"""Server-sent events: first how everything is, then what happens, until the viewer leaves or the server stops.

Known limit: a connection whose other end does not read is given up, but its last bytes stay with the kernel
until that end closes.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from ebbgate.core.commands import Refused
from ebbgate.errors import InvalidRequest, ServerUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.front import WAITS
from ebbgate.server.hearing import Hearing
from ebbgate.server.rest.board import Board, Looker
from ebbgate.server.rest.describing import Asked
from ebbgate.server.rest.happening import Change, event_bytes, narrowed
from ebbgate.server.rest.problems import refusal
from ebbgate.server.rest.requests import parameters
from ebbgate.server.rest.sights import views_of
from ebbgate.server.rest.watching import Viewer, Watching
from ebbgate.wire.questions import ListLimits, ReadLimit
from ebbgate.wire.shapes import LimitInfo
from ebbgate.wire.showing import instant

VIEWERS_MAX: Final = 500
HEARTBEAT_SECONDS: Final = 15.0
UNREAD_SECONDS: Final = 20.0
"""How long a viewer may take to read before it is given up."""

COME_BACK_MS: Final = 500
APART_SECONDS: Final = 0.24
"""A page is sent nothing more for so long; a little less than the time between two changes."""

SNAPSHOT_LIMITS: Final = 500

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How the limits are; a long list comes in several, of which all but the last have `more`."""

    version: int
    now: datetime  # by the store's clock
    limits: list[LimitInfo]
    more: bool


class Goodbye(msgspec.Struct, frozen=True):
    """The server stops: come back, here or at another one."""

    after_seconds: float


class Press:
    """Writes what is told; what all are told, once."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._change: Change | None = None
        self._written = b""

    def written(self, change: Change) -> bytes:
        """Return a change as it is sent."""
        if change is not self._change:
            self._change, self._written = change, event_bytes("change", change.version, change)
        return self._written


class EventRoutes:
    """Watching what happens."""

    def __init__(self, decider: Decider, hearing: Hearing) -> None:
        """Watch one decider."""
        self._decider = decider
        self._hearing = hearing
        self._watching = Watching(decider)
        self._board = Board(decider, self._watching)
        self._press = Press()

    async def events(self, request: Asked) -> ASGIApp:
        """Begin to tell what happens."""
        found = parameters(request.scope, "limit", "views")
        if self._hearing.draining.is_set():
            raise ServerUnavailable("the server is stopping")
        if len(self._watching) + len(self._board) >= VIEWERS_MAX:
            raise ServerUnavailable(f"{VIEWERS_MAX} viewers watch already")
        if "views" in found:
            if "limit" in found:
                raise InvalidRequest("views and limit do not go together: a view may be of one limit")
            looker = Looker(views_of(found["views"]))
            return Showing(self._hearing, self._watching, self._board, looker)
        limit_id = None
        if "limit" in found:
            limit = await self._decider.ask(ReadLimit(found["limit"]))
            if isinstance(limit, Refused):
                return refusal(limit)
            assert isinstance(limit, LimitInfo), "as the question promises"
            limit_id = limit.id
        last = request.headers.get("last-event-id", "")
        version = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else None
        return Telling(self._decider, self._watching, self._press, self._hearing, limit_id, version)


class Stream(ABC):
    """An answer to one viewer, which goes on and on."""

    def __init__(self, hearing: Hearing, watching: Watching, news: asyncio.Event) -> None:
        """Tell whenever there is `news`, until the server drains."""
        self._hearing = hearing
        self._watching = watching
        self._news = news

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell until the viewer leaves, does not read, or the server stops."""
        scope[WAITS] = True  # type: ignore[typeddict-unknown-key]  # a key of the front's
        leaving = [
            asyncio.create_task(_disconnected(receive)),
            asyncio.create_task(self._hearing.draining.wait()),
        ]
        for task in leaving:
            task.add_done_callback(lambda _: self._news.set())
        await self._watching.rest()
        self.enter()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self.write(send, b"retry: %d\n\n" % COME_BACK_MS)
            await self._tell(send, leaving)
        except TimeoutError:
            pass  # it does not read
        finally:
            self.leave()
            for task in leaving:
                task.cancel()

    async def _tell(self, send: Send, leaving: Sequence[asyncio.Task[bool]]) -> None:
        gone, stops = leaving
        while not (gone.done() or self.is_lost()):
            if stops.done():
                goodbye = event_bytes("goodbye", self._watching.version, Goodbye(COME_BACK_MS / 1000))
                await self.write(send, goodbye)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            self._news.clear()
            if await self.tell_next(send):
                continue
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                await self.write(send, b": still here\n\n")

    async def write(self, send: Send, data: bytes) -> None:
        """Send something; who does not read it in time is given up."""
        async with asyncio.timeout(UNREAD_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": True})

    @abstractmethod
    def enter(self) -> None:
        """Begin to watch."""

    @abstractmethod
    def leave(self) -> None:
        """Watch no more."""

    @abstractmethod
    def is_lost(self) -> bool:
        """Tell whether the viewer does not read."""

    @abstractmethod
    async def tell_next(self, send: Send) -> bool:
        """Tell what comes next; False: there is nothing."""


class Showing(Stream):
    """The answer to a page, which is shown some views."""

    def __init__(self, hearing: Hearing, watching: Watching, board: Board, looker: Looker) -> None:
        """Show what the board has for one who looks."""
        super().__init__(hearing, watching, looker.news)
        self._board = board
        self._looker = looker
        self._next = 0.0  # when more may be sent, by the loop's clock

    def enter(self) -> None:
        """See `Stream`."""
        self._board.enter(self._looker)

    def leave(self) -> None:
        """See `Stream`."""
        self._board.leave(self._looker)

    def is_lost(self) -> bool:
        """See `Stream`."""
        return self._looker.lost

    async def tell_next(self, send: Send) -> bool:
        """See `Stream`."""
        loop = asyncio.get_running_loop()
        if self._next > loop.time():
            await asyncio.sleep(self._next - loop.time())
        events = self._looker.taken()
        if events:
            self._next = loop.time() + APART_SECONDS
            await self.write(send, events)
        return bool(events)


class Telling(Stream):
    """The answer to who is told of everything, or of one limit."""

    def __init__(
        self,
        decider: Decider,
        watching: Watching,
        press: Press,
        hearing: Hearing,
        limit_id: str | None,
        last_version: int | None,
    ) -> None:
        """Tell of one limit, or of all; `last_version` is up to which the viewer knows everything."""
        self._viewer = Viewer(limit_id)
        super().__init__(hearing, watching, self._viewer.news)
        self._decider = decider
        self._press = press
        self._last_version = last_version

    def enter(self) -> None:
        """See `Stream`."""
        if not self._watching.enter(self._viewer, self._last_version):
            self._viewer.waiting.append(None)

    def leave(self) -> None:
        """See `Stream`."""
        self._watching.leave(self._viewer)

    def is_lost(self) -> bool:
        """See `Stream`."""
        return self._viewer.lost

    async def tell_next(self, send: Send) -> bool:
        """See `Stream`."""
        if not self._viewer.waiting:
            return False
        change = self._viewer.waiting.popleft()
        if change is None:
            await self._tell_everything(send)
        else:
            await self._tell_change(send, change)
        return True

    async def _tell_change(self, send: Send, change: Change) -> None:
        limit_id = self._viewer.limit_id
        if limit_id is None:
            await self.write(send, self._press.written(change))
            return
        live = self._decider.book.lives.get(limit_id)
        part = narrowed(change, limit_id, live.limit.name if live else "")
        if part is not None:
            await self.write(send, event_bytes("change", part.version, part))

    async def _tell_everything(self, send: Send) -> None:
        limit_id = self._viewer.limit_id
        version = self._watching.version  # what comes meanwhile is told afterwards, and has later ones
        after, more = "", True
        while more:
            if limit_id is None:
                page = await self._decider.ask(ListLimits("", after, SNAPSHOT_LIMITS))
                found: Sequence[object] = page if isinstance(page, list) else []
            else:
                found = [await self._decider.ask(ReadLimit(limit_id))]
            limits = [entry for entry in found if isinstance(entry, LimitInfo)]
            more = len(limits) == SNAPSHOT_LIMITS
            now = instant(self._decider.store.clock())
            snapshot = Snapshot(version=version, now=now, limits=limits, more=more)
            await self.write(send, event_bytes("snapshot", version, snapshot))
            await asyncio.sleep(0)  # a page is worked out in some milliseconds: others get their turn
            after = limits[-1].name if limits else ""


async def _disconnected(receive: Receive) -> bool:
    while (await receive())["type"] != "http.disconnect":
        pass
    return True
