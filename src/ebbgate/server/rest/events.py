"""Server-sent events: first how everything is, then what happens, until the viewer leaves or the server stops.

Known limit: a connection whose other end does not read is given up, but its last bytes stay with the kernel
until that end closes.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from ebbgate.core.commands import Refused
from ebbgate.errors import ServerUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.front import WAITS
from ebbgate.server.hearing import Hearing
from ebbgate.server.rest.answers import encode
from ebbgate.server.rest.describing import Asked
from ebbgate.server.rest.problems import refusal
from ebbgate.server.rest.requests import parameters
from ebbgate.server.rest.watching import Change, Viewer, Watching, narrowed
from ebbgate.wire.questions import ListLimits, ReadLimit
from ebbgate.wire.shapes import LimitInfo
from ebbgate.wire.showing import instant

VIEWERS_MAX: Final = 500
HEARTBEAT_SECONDS: Final = 15.0
UNREAD_SECONDS: Final = 20.0
"""How long a viewer may take to read before it is given up."""

COME_BACK_MS: Final = 500
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
            self._change, self._written = change, _event("change", change.version, change)
        return self._written


class EventRoutes:
    """Watching what happens."""

    def __init__(self, decider: Decider, hearing: Hearing) -> None:
        """Watch one decider."""
        self._decider = decider
        self._hearing = hearing
        self._watching = Watching(decider)
        self._press = Press()

    async def events(self, request: Asked) -> ASGIApp:
        """Begin to tell what happens."""
        found = parameters(request.scope, "limit")
        if self._hearing.draining.is_set():
            raise ServerUnavailable("the server is stopping")
        if len(self._watching) >= VIEWERS_MAX:
            raise ServerUnavailable(f"{VIEWERS_MAX} viewers watch already")
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


class Telling:
    """The answer to one viewer, which goes on and on."""

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
        self._decider = decider
        self._watching = watching
        self._press = press
        self._hearing = hearing
        self._viewer = Viewer(limit_id)
        self._last_version = last_version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell until the viewer leaves, does not read, or the server stops."""
        scope[WAITS] = True  # type: ignore[typeddict-unknown-key]  # a key of the front's
        viewer = self._viewer
        leaving = [
            asyncio.create_task(_disconnected(receive)),
            asyncio.create_task(self._hearing.draining.wait()),
        ]
        for task in leaving:
            task.add_done_callback(lambda _: viewer.news.set())
        knows = self._watching.enter(viewer, self._last_version)
        if not knows:
            viewer.waiting.append(None)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._write(send, b"retry: %d\n\n" % COME_BACK_MS)
            await self._tell(send, leaving)
        except TimeoutError:
            pass  # it does not read
        finally:
            self._watching.leave(viewer)
            for task in leaving:
                task.cancel()

    async def _tell(self, send: Send, leaving: Sequence[asyncio.Task[bool]]) -> None:
        viewer = self._viewer
        gone, stops = leaving
        while not (gone.done() or viewer.lost):
            if stops.done():
                await self._write(
                    send, _event("goodbye", self._watching.version, Goodbye(COME_BACK_MS / 1000))
                )
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            if not viewer.waiting:
                viewer.news.clear()
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await viewer.news.wait()
                except TimeoutError:
                    await self._write(send, b": still here\n\n")
                continue
            change = viewer.waiting.popleft()
            if change is None:
                await self._tell_everything(send)
            else:
                await self._tell_change(send, change)

    async def _tell_change(self, send: Send, change: Change) -> None:
        limit_id = self._viewer.limit_id
        if limit_id is None:
            await self._write(send, self._press.written(change))
            return
        live = self._decider.book.lives.get(limit_id)
        part = narrowed(change, limit_id, live.limit.name if live else "")
        if part is not None:
            await self._write(send, _event("change", part.version, part))

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
            await self._write(send, _event("snapshot", version, snapshot))
            after = limits[-1].name if limits else ""

    async def _write(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(UNREAD_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnected(receive: Receive) -> bool:
    while (await receive())["type"] != "http.disconnect":
        pass
    return True


def _event(name: str, version: int, data: object) -> bytes:
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), version, encode(data))
