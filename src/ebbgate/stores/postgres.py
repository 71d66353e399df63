"""The store in PostgreSQL: any number of servers, on any number of machines, decide on one namespace of it.

A commit is one call of a function, hence one round trip and one transaction: it checks the version, writes all
rows, adds to the log and notifies. What it promises is what the database promises: with `synchronous_commit=on`
nothing that was answered is lost.

Known limits: a namespace has one line of commits, so its speed is that of one; spread limits over namespaces. A
transaction-mode pooler may stand between, but not before the connection that listens: name the server itself with
`listen=host:port`, or news of other servers comes once a second only, which is logged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import psycopg

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import EMPTY, Conflict, Delta, LostTail, Past, Row, Snapshot, TooOld, Version
from ebbgate.stores.history import LOG_MAX, EndedLeases
from ebbgate.stores.link import CALL_SECONDS, Link
from ebbgate.stores.linked import LOOK_SECONDS, LinkedStore
from ebbgate.stores.logged import DELTA_MAX, PAGE, Entry, decode_rows, delta_of, encode_rows
from ebbgate.stores.network_clock import NetworkClock
from ebbgate.stores.postgres_schema import Connection, prepare
from ebbgate.stores.postgres_url import PostgresPlace
from ebbgate.stores.postgres_wire import PostgresWire, heard, is_pooled

LOST_MAX: Final = 2
"""After so many lost races in a row a server keeps the lock until its next commit."""

TURN_SECONDS: Final = 0.2
"""How long it keeps it when it has nothing more to commit."""

TURN_MS: Final = 500
"""How long the database lets it keep it: it may have been stopped."""

_log: Final = logging.getLogger("ebbgate.stores")


class PostgresStore(LinkedStore[Connection]):
    """The truth of one namespace in a PostgreSQL database; see `NetworkStore`."""

    def __init__(
        self,
        place: PostgresPlace,
        *,
        keep: int = LOG_MAX,
        upgrade: bool = True,
        call_seconds: float = CALL_SECONDS,
        elapsed_us: Callable[[], int] | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            place: where it is.
            keep: how many commits the log keeps.
            upgrade: whether an older schema may be brought up; otherwise it is refused.
            call_seconds: how long one call may take before the store counts as out of reach.
            elapsed_us: this machine's own clock, unless a test says otherwise.
        """
        self.place = place
        self._keep = keep
        self._upgrade = upgrade
        self._clock = NetworkClock(elapsed_us) if elapsed_us else NetworkClock()
        self._namespace = 0
        self._newest = EMPTY
        self._lost = 0  # races in a row
        self._has_turn = False
        self._turn_ends: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.Task[None] | None = None
        wire = PostgresWire(place, place.conninfo, self._prepare)
        ear = PostgresWire(place, place.listen, self._listen)
        self._link: Link[Connection] = Link(wire, call_seconds=call_seconds)
        self._ear: Link[Connection] = Link(ear, call_seconds=call_seconds + LOOK_SECONDS)
        self._is_deaf = True  # it was not listened until now, so it has to be looked
        self._warned = False  # of a pooler
        schema = place.quoted_schema
        values = ", ".join(["%s"] * 11)
        self._sql_commit = f"SELECT * FROM {schema}.write_commit({values}, {DELTA_MAX + 1})"  # noqa: S608
        self._sql_changes = f"SELECT * FROM {schema}.read_changes(%s, %s, %s, {DELTA_MAX + 1})"  # noqa: S608
        self._sql_behind = f"(SELECT behind_us FROM {schema}.namespace WHERE id = l.namespace)"  # noqa: S608
        self._sql_newest = (
            f"SELECT {schema}.clock_us(), version, tag, {self._sql_behind} FROM {schema}.log l "  # noqa: S608
            "WHERE namespace = %s ORDER BY version DESC LIMIT 1"
        )

    # --- the contract

    async def load(self) -> Snapshot:
        """See `Store.load`."""
        return await self._link.run(self._load, again=True)

    async def commit(self, base: Version, tag: str, head: Head, rows: Sequence[Row]) -> Version:
        """See `NetworkStore.commit`."""
        if not rows:
            return await self._link.run(lambda connection: self._check(connection, base), again=True)
        logged = encode_rows(rows)
        return await self._link.run(lambda connection: self._commit(connection, base, tag, head, logged))

    async def recent(self, limit: int) -> list[Past]:
        """See `EmbeddedStore.recent`."""
        ended = EndedLeases(limit)
        before = 1 << 62
        while True:
            page = await self._link.run(partial(self._page, before=before), again=True)
            if not all(ended.look(decode_rows(rows)) for _, rows in page) or len(page) < PAGE:
                return ended.found
            before = page[-1][0]

    # --- connections

    async def _prepare(self, connection: Connection) -> None:
        self._has_turn = False
        self._namespace = await prepare(connection, self.place, upgrade=self._upgrade)

    async def _listen(self, connection: Connection) -> None:
        if self.place.listens_apart or not await is_pooled(connection):
            await connection.execute(f"LISTEN {self.place.channel}")
        elif not self._warned:
            self._warned = True
            _log.warning(
                "the store %s is reached through a pooler, which news of other servers do not come through: they are "
                "looked for once a second; name the database server itself in the URL: listen=host:5432", self.place,
            )  # fmt: skip
        self._is_deaf = True

    async def _hear(self, connection: Connection) -> bool:
        """Wait for news, and return whether there are any that this process does not know."""
        if not self._is_deaf and (notes := await heard(connection, LOOK_SECONDS)):
            # What is no number was said by somebody else, and is no reason to stop listening.
            return any(not note.isdecimal() or int(note) > self._newest.number for note in notes)
        asked_us = self._clock.elapsed_us()
        row = await self._row(connection, self._sql_newest, (self._namespace,))
        if row is None:
            return True  # nothing was loaded yet, or the namespace is gone
        self._clock.measured(asked_us, row[0])
        self._clock.recorded(row[3])
        await self._record(connection)
        self._is_deaf = False
        return Version(row[1], row[2]) != self._newest

    # --- one statement each

    async def _commit(
        self, connection: Connection, base: Version, tag: str, head: Head, logged: bytes
    ) -> Version:
        place = self.place
        values = (
            self._namespace, place.lock, *base, tag, *head, logged.decode(), self._keep, place.channel,
        )  # fmt: skip
        asked_us = self._clock.elapsed_us()
        try:
            entries = await self._write(connection, values)
        except (psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation):
            await self._end_turn(connection)
            raise Conflict from None  # where the database isolates more than is asked of it
        if entries and entries[0][0]:
            self._clock.measured(asked_us, entries[0][1])
            self._newest = Version(base.number + 1, tag)
            self._lost = 0
            await self._record(connection)
            return self._newest
        self._lost += 1
        raise Conflict(self._delta(asked_us, base, [entry[1:] for entry in entries]))

    async def _write(self, connection: Connection, values: Sequence[object]) -> list[Any]:
        """Commit, alone or as part of a turn: a transaction that keeps the lock from a lost race to the next commit."""
        if self._turn_ends is not None:
            self._turn_ends.cancel()
        if self._has_turn:
            async with connection.pipeline():
                cursor = await connection.execute(self._sql_commit, values)
                await connection.execute("COMMIT")
            self._has_turn = False
            return await cursor.fetchall()
        if self._lost < LOST_MAX:
            return await (await connection.execute(self._sql_commit, values)).fetchall()
        # Not in a pipeline: there PostgreSQL 18 was seen to forget this timeout.
        await connection.execute(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
            f"SET LOCAL idle_in_transaction_session_timeout = {TURN_MS}"
        )
        entries = await (await connection.execute(self._sql_commit, values)).fetchall()
        self._has_turn = not (entries and entries[0][0])
        if self._has_turn:
            self._turn_ends = asyncio.get_running_loop().call_later(TURN_SECONDS, self._give_up_turn)
        else:
            await connection.execute("COMMIT")
        return entries

    def _give_up_turn(self) -> None:
        async def give_up() -> None:
            with contextlib.suppress(StoreUnavailable):
                await self._link.run(self._end_turn)

        if self._has_turn and not self._closed:
            self._giving_up = asyncio.ensure_future(give_up())

    async def _end_turn(self, connection: Connection) -> None:
        if self._has_turn or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._has_turn = False
            await connection.execute("ROLLBACK")

    async def _check(self, connection: Connection, base: Version) -> Version:
        await self._end_turn(connection)
        delta = await self._read_changes(connection, base)
        if delta is None or delta.version != base:
            raise Conflict(delta)
        return base

    async def _changes_since(self, connection: Connection, version: Version) -> Delta:
        await self._end_turn(connection)
        delta = await self._read_changes(connection, version)
        if delta is not None:
            await self._record(connection)
            return delta
        row = await self._row(
            connection,
            f"SELECT min(version), max(version) FROM {self.place.quoted_schema}.log WHERE namespace = %s",  # noqa: S608
            (self._namespace,),
        )
        oldest, newest = row or (None, None)
        if oldest is None or version.number >= oldest:
            _log.warning(
                "the store %s lost commits: it stands at version %s and does not know %s, which it had confirmed",
                self.place, newest, version.number,
            )  # fmt: skip
            raise LostTail
        raise TooOld

    async def _read_changes(self, connection: Connection, base: Version) -> Delta | None:
        asked_us = self._clock.elapsed_us()
        cursor = await connection.execute(self._sql_changes, (self._namespace, *base))
        return self._delta(asked_us, base, await cursor.fetchall())

    def _delta(self, asked_us: int, base: Version, entries: Sequence[Sequence[Any]]) -> Delta | None:
        """Return what the log has after `base`, which is its first entry; None if it is not there."""
        if not entries:
            return None
        self._clock.measured(asked_us, entries[0][0])
        commits = [Entry(number, tag, Head(*head), rows) for _, number, tag, *head, rows in entries]
        delta = delta_of(base, commits[0].head, commits[1:])
        self._took_in(delta.version, delta.head)
        return delta

    async def _load(self, connection: Connection) -> Snapshot:
        await self._end_turn(connection)
        schema = self.place.quoted_schema
        asked_us = self._clock.elapsed_us()
        cursor = await connection.execute(  # one statement: version and rows are of one instant
            f"(SELECT ''::text, tag, NULL::json, {schema}.clock_us(), {self._sql_behind}, version, instant_us, "  # noqa: S608
            f"token, arrival FROM {schema}.log l WHERE namespace = %s ORDER BY version DESC LIMIT 1) "
            f"UNION ALL SELECT kind, id, body, 0, 0, 0, 0, 0, 0 FROM {schema}.record WHERE namespace = %s",
            (self._namespace, self._namespace),
        )
        first, *records = await cursor.fetchall() or [("nothing",)]
        if first[0]:
            raise StoreUnavailable(
                f"the store {self.place} is corrupt: its log is empty; restore a backup, or take another namespace"
            )
        self._clock.measured(asked_us, first[3])
        self._clock.recorded(first[4])
        version, head = Version(first[5], first[1]), Head(*first[6:])
        self._took_in(version, head)
        return Snapshot(version, head, [Row(kind, id_, body) for kind, id_, body, *_ in records])

    def _took_in(self, version: Version, head: Head) -> None:
        self._newest = version
        self._clock.committed(head.instant_us)

    async def _write_behind(self, connection: Connection, behind_us: int) -> None:
        await connection.execute(
            f"UPDATE {self.place.quoted_schema}.namespace SET behind_us = %s WHERE id = %s",  # noqa: S608
            (behind_us, self._namespace),
        )

    async def _find(self, connection: Connection, tag: str, base: Version) -> Version | None:
        await self._end_turn(connection)
        made = Version(base.number + 1, tag)
        log = f"{self.place.quoted_schema}.log WHERE namespace = %s"
        row = await self._row(
            connection,
            f"SELECT (SELECT min(version) FROM {log}), "  # noqa: S608
            f"EXISTS (SELECT FROM {log} AND version = %s AND tag = %s)",
            (self._namespace, self._namespace, *made),
        )
        oldest, found = row or (None, False)
        if found:
            return made
        if oldest is None or oldest > made.number:
            raise TooOld
        return None

    async def _page(self, connection: Connection, *, before: int) -> list[tuple[int, bytes]]:
        cursor = await connection.execute(
            f"SELECT version, rows FROM {self.place.quoted_schema}.log "  # noqa: S608
            f"WHERE namespace = %s AND version < %s ORDER BY version DESC LIMIT {PAGE}",
            (self._namespace, before),
        )
        return [(version, rows) for version, rows in await cursor.fetchall()]

    @staticmethod
    async def _row(connection: Connection, sql: str, values: Sequence[object]) -> Sequence[Any] | None:
        return await (await connection.execute(sql, values)).fetchone()
