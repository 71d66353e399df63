"""History in a file of its own beside the store's: only servers write it, and nothing rests on it.

In the same file every flush would hold the lock that decisions wait for, wake every process that uses the file,
and fill the log that is finished while writers are kept out; decision 14 has the numbers.

Known limit: a file that is damaged, or of a newer release, is put aside, and history begins anew.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.rollups import (
    BYTES_MAX,
    RESOLUTIONS,
    Part,
    Place,
    Span,
    beyond,
    oldest_blocks,
    oldest_span_us,
)
from ebbgate.stores.sqlite_errors import no_access, unavailable
from ebbgate.stores.sqlite_schema import FILE_MODE, beside

T = TypeVar("T")

APPLICATION_ID: Final = int.from_bytes(b"ebbh")
PAGE_SIZE: Final = 4096
FORMAT: Final = 1
BUSY_MS: Final = 2_000

_log: Final = logging.getLogger("ebbgate.stores")

# What is of one time lies together: a flush touches few pages, and what is old goes at once.
_SCHEMA: Final = f"""
CREATE TABLE block (
    resolution INTEGER NOT NULL,  -- 0: steps of 10 seconds, 1: of a minute
    number     INTEGER NOT NULL,  -- microseconds since 1970, divided by the length of a block
    limit_id   TEXT    NOT NULL,
    text       TEXT    NOT NULL,  -- JSON arrays, each followed by a comma: see server/history/points.py
    PRIMARY KEY (resolution, number, limit_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE span (
    writer   TEXT    PRIMARY KEY,
    began_us INTEGER NOT NULL,
    ended_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
PRAGMA application_id = {APPLICATION_ID};
"""
_APPEND: Final = (
    "INSERT INTO block VALUES (?, ?, ?, ?) "
    "ON CONFLICT (resolution, number, limit_id) DO UPDATE SET text = text || excluded.text"
)
_SPAN: Final = (
    "INSERT INTO span VALUES (?, ?, ?) "
    "ON CONFLICT (writer) DO UPDATE SET began_us = excluded.began_us, ended_us = excluded.ended_us"
)
_READ: Final = "SELECT text FROM block WHERE resolution = ? AND number = ? AND limit_id = ?"
_FORGET: Final = "DELETE FROM block WHERE resolution = ? AND number = ? AND limit_id = ?"
# The next block after one: each is found by one step down the tree, however many limits a block has.
_NEXT: Final = "SELECT min(number) FROM block WHERE resolution = ? AND number > ?"


class SqliteHistory:
    """The history beside the store at a path; all work is done in one thread of its own."""

    def __init__(self, path: Path) -> None:
        """Open the file beside `path`, made if missing.

        Raises:
            StoreUnavailable: it cannot be opened.
        """
        self.path = beside(path, "history")
        self._connection: apsw.Connection | None = None
        try:
            self._connection = _opened(self.path)
        except (apsw.NotADBError, apsw.CorruptError, _Foreign) as error:
            aside = beside(self.path, "aside")
            _log.warning("the history %s cannot be used (%s): it is now %s", self.path, error, aside)
            _put_aside(self.path, aside)
            self._connection = self._asked(partial(_opened, self.path))
        except apsw.Error as error:
            raise unavailable(error, self.path) from error
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ebbgate-history")

    async def write(self, parts: Sequence[Part], span: Span) -> None:
        """See `HistoryStore.write`."""
        await self._run(self._write, parts, span)

    async def read(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `HistoryStore.read`."""
        return await self._run(self._read, places)

    async def spans(self, since_us: int) -> list[Span]:
        """See `HistoryStore.spans`."""
        return await self._run(self._spans, since_us)

    async def forget(self, limit_ids: Sequence[str]) -> None:
        """See `HistoryStore.forget`."""
        await self._run(self._forget, limit_ids)

    async def prune(self, now_us: int, bytes_max: int = BYTES_MAX) -> None:
        """See `HistoryStore.prune`."""
        await self._run(self._prune, now_us, bytes_max)

    async def close(self) -> None:
        """See `HistoryStore.close`."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """The same, for who has no loop."""
        self._worker.shutdown()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(apsw.Error):
                connection.close()

    # --- in the thread

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - as `work` takes them
        if self._connection is None:
            raise StoreUnavailable(f"the history {self.path} was closed")
        doing = self._worker.submit(self._asked, partial(work, *arguments))
        return await asyncio.wrap_future(doing)

    def _asked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except apsw.Error as error:
            raise unavailable(error, self.path) from error

    def _open(self) -> apsw.Connection:
        assert self._connection is not None, "closed only when nobody works any more"
        return self._connection

    def _write(self, parts: Sequence[Part], span: Span) -> None:
        with self._open() as connection:
            connection.executemany(_APPEND, ((*place, text) for place, text in parts))
            connection.execute(_SPAN, span)

    def _read(self, places: Sequence[Place]) -> dict[Place, str]:
        connection = self._open()
        found = ((place, connection.execute(_READ, place).get) for place in places)
        return {place: text for place, text in found if text}

    def _spans(self, since_us: int) -> list[Span]:
        rows = self._open().execute(
            "SELECT writer, began_us, ended_us FROM span WHERE ended_us >= ?", (since_us,)
        )
        return [Span(*row) for row in rows]

    def _forget(self, limit_ids: Sequence[str]) -> None:
        with self._open() as connection:
            for at in self._blocks(connection):
                connection.executemany(_FORGET, ((*at, limit_id) for limit_id in limit_ids))

    @staticmethod
    def _blocks(connection: apsw.Connection) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for resolution in range(len(RESOLUTIONS)):
            number = -1
            while (number := connection.execute(_NEXT, (resolution, number)).get) is not None:
                found.append((resolution, number))
        return found

    def _prune(self, now_us: int, bytes_max: int) -> None:
        with self._open() as connection:
            for resolution, oldest in enumerate(oldest_blocks(now_us)):
                connection.execute(
                    "DELETE FROM block WHERE resolution = ? AND number < ?", (resolution, oldest)
                )
            connection.execute("DELETE FROM span WHERE ended_us < ?", (oldest_span_us(now_us),))
            pages = (
                connection.execute("PRAGMA page_count").get - connection.execute("PRAGMA freelist_count").get
            )
            if pages * PAGE_SIZE > bytes_max:  # else there is no need to look at all of it
                sizes = connection.execute(
                    "SELECT resolution, number, sum(length(text)) FROM block GROUP BY resolution, number"
                )
                for at in beyond({(one, two): size for one, two, size in sizes}, bytes_max):
                    connection.execute("DELETE FROM block WHERE resolution = ? AND number = ?", at)


class _Foreign(Exception):  # noqa: N818 - not an error: it is put aside
    """The file is not one of this release's."""


def _opened(path: Path) -> apsw.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    except OSError as error:
        raise no_access(error, path) from error
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(BUSY_MS)
        connection.execute(
            f"PRAGMA page_size = {PAGE_SIZE}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"
        )
        if not connection.execute("SELECT count(*) FROM sqlite_schema").get:
            connection.execute(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT")
        found = (
            connection.execute("PRAGMA application_id").get,
            connection.execute("PRAGMA user_version").get,
        )
        if found != (APPLICATION_ID, FORMAT):
            raise _Foreign(f"format {found[1]}, known here: {FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


def _put_aside(path: Path, aside: Path) -> None:
    path.replace(aside)
    for what in ("wal", "shm"):
        beside(path, what).unlink(missing_ok=True)
