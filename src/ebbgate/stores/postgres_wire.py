"""Connections to PostgreSQL: how they are made, broken and listened on."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
from psycopg.adapt import Buffer, Loader

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.link import CONNECT_SECONDS
from ebbgate.stores.postgres_errors import unavailable
from ebbgate.stores.postgres_schema import Connection
from ebbgate.stores.postgres_url import PostgresPlace

PREPARE_SECONDS: Final = 60.0
"""How long it may take to bring a schema up, or to wait for another server that does."""


class _Bytes(Loader):
    """JSON as it is."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


class PostgresWire:
    """See `link.Wire`. Nothing here needs a session of its own, so a pooler may stand between, but for `LISTEN`."""

    errors: tuple[type[Exception], ...] = (psycopg.Error, OSError)

    def __init__(
        self, place: PostgresPlace, info: dict[str, Any], prepare: Callable[[Connection], Awaitable[None]]
    ) -> None:
        """Connect as `info` says; `prepare` looks at what is there before a connection is used."""
        self._place = place
        self._info = info
        self._prepare = prepare

    async def connect(self) -> Connection:
        """See `link.Wire`."""
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await psycopg.AsyncConnection.connect(
                **{**self._info, "client_encoding": "utf8"}, autocommit=True, prepare_threshold=None
            )
        late = asyncio.get_running_loop().call_later(PREPARE_SECONDS, self.cut, connection)
        try:
            connection.adapters.register_loader("json", _Bytes)
            await self._prepare(connection)
        except BaseException:
            self.cut(connection)
            await connection.close()
            raise
        finally:
            late.cancel()
        return connection

    def is_alive(self, connection: Connection) -> bool:
        """See `link.Wire`."""
        return (
            not connection.closed
            and connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        )

    def cut(self, connection: Connection) -> None:
        """See `link.Wire`. Cancelled, psycopg would wait for a server that may be gone: so end its socket."""
        if connection.closed:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    async def close(self, connection: Connection) -> None:
        """See `link.Wire`."""
        await connection.close()

    def unavailable(self, error: Exception | None, doing: str) -> StoreUnavailable:
        """See `link.Wire`."""
        return unavailable(error, self._place, doing)


async def is_pooled(connection: Connection) -> bool:
    """Tell whether a pooler stands between: the process that answers is not the one that took the connection.

    What is said to a pooler may be said by any of its connections, so a LISTEN would be heard by somebody else.
    """
    cursor = await connection.execute("SELECT pg_backend_pid()")
    row = await cursor.fetchone()
    return row is None or row[0] != connection.pgconn.backend_pid


async def heard(connection: Connection, seconds: float) -> list[str]:
    """Wait for notifications, `seconds` at most, and return what they say.

    psycopg's own way wakes up ten times a second, whether there is something to hear or not.

    Raises:
        psycopg.Error: the connection is lost.
    """
    if not (notes := _notes(connection)):
        loop = asyncio.get_running_loop()
        there = asyncio.Event()
        number = connection.fileno()
        loop.add_reader(number, there.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await there.wait()
        finally:
            loop.remove_reader(number)
        if there.is_set():
            connection.pgconn.consume_input()
            notes = _notes(connection)
    return notes


def _notes(connection: Connection) -> list[str]:
    notes: list[str] = []
    while (note := connection.pgconn.notifies()) is not None:
        notes.append(note.extra.decode())
    return notes
