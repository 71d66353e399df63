"""One connection to a store behind a network: made when it is needed, one call at a time, never waited for long.

What a store of one kind has to tell about its connections is a `Wire`; what to do with them is here, once.

Known limit: a caller that is cancelled in its call loses the connection with it, for nobody would read the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from ebbgate.errors import StoreUnavailable

C = TypeVar("C")
T = TypeVar("T")

CONNECT_SECONDS: Final = 5.0
"""How long it may take to reach the store and to look at what is there; bringing a schema up takes longer."""

CALL_SECONDS: Final = 10.0
"""How long one call may take; a store that is slower counts as out of reach."""


class Wire(Protocol[C]):
    """How connections of one kind are made, broken and understood."""

    errors: tuple[type[Exception], ...]
    """What its connections raise."""

    async def connect(self) -> C:
        """Make a connection that may be used; whoever cancels this leaves nothing open."""

    def is_alive(self, connection: C) -> bool:
        """Tell whether a connection can be used again after what it raised."""

    def cut(self, connection: C) -> None:
        """Break a connection: whoever waits for it fails at once."""

    async def close(self, connection: C) -> None:
        """Close a connection, whatever its state."""

    def unavailable(self, error: Exception | None, doing: str) -> StoreUnavailable:
        """Return what to raise from `error`, or from too long a wait (None) for `doing`."""


class Link(Generic[C]):
    """The connection of one store for one purpose."""

    def __init__(self, wire: Wire[C], *, call_seconds: float = CALL_SECONDS) -> None:
        """Connect to nothing yet."""
        self._wire = wire
        self._seconds = call_seconds
        self._turn = asyncio.Lock()
        self._connection: C | None = None
        self._late = False
        self._closed = False
        self._at_work: asyncio.Task[object] | None = None  # whose turn it is
        self._running: set[asyncio.Task[object]] = set()

    async def run(self, work: Callable[[C], Awaitable[T]], *, again: bool = False) -> T:
        """Do `work` with the connection.

        Args:
            work: may raise what it likes.
            again: it changes nothing, so when the connection turns out to be dead it is done with a new one.

        Raises:
            StoreUnavailable: the store is out of reach or said no; whether something happened is unknown.
        """
        task = asyncio.ensure_future(self._run(work, again))
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._at_work is task:
                self.cut()
            else:
                task.cancel()  # it waits for its turn; the connection is somebody else's now
            raise

    def _ended(self, task: "asyncio.Task[object]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to hear it

    async def _run(self, work: Callable[[C], Awaitable[T]], again: bool) -> T:
        wire = self._wire
        async with self._turn:
            self._at_work = asyncio.current_task()
            while True:
                is_new = self._connection is None
                connection = await self._connect() if self._connection is None else self._connection
                self._late = False
                timer = asyncio.get_running_loop().call_later(self._seconds, self._cut_late)
                try:
                    return await work(connection)
                except wire.errors as error:
                    if not wire.is_alive(connection):
                        await self._drop()
                        if again and not is_new and not self._late and not self._closed:
                            continue
                    raise wire.unavailable(None if self._late else error, "an answer") from error
                finally:
                    timer.cancel()

    async def _connect(self) -> C:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            self._connection = await self._wire.connect()
        except self._wire.errors as error:
            raise self._wire.unavailable(error, "a connection") from error
        except TimeoutError:
            raise self._wire.unavailable(None, "a connection") from None
        return self._connection

    def _cut_late(self) -> None:
        self._late = True
        self.cut()

    def cut(self) -> None:
        """Break the connection, if there is one; the next call makes a new one."""
        if self._connection is not None:
            self._wire.cut(self._connection)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._wire.close(connection)

    async def close(self) -> None:
        """Close the connection for good; who waits for an answer gets none."""
        self._closed = True
        if self._running:
            self.cut()
            await asyncio.wait(self._running, timeout=CONNECT_SECONDS)
        async with self._turn:
            await self._drop()
