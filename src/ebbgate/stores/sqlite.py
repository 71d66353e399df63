"""The store of one machine: one SQLite file that any number of processes decide on.

A commit is one short write transaction whose first statement checks the version it builds on. Nothing is ever
checkpointed inside a caller's commit.

Known limits: the file must lie on a local disk; with `durability="normal"` a power cut (not a crash of a
process) may take back the last commits, never half of one.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import apsw
import msgspec

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import (
    EMPTY,
    PATIENCE_US,
    Busy,
    Conflict,
    Delta,
    Past,
    Row,
    Snapshot,
    TooOld,
    Version,
)
from ebbgate.stores.history import LOG_MAX, ended_leases
from ebbgate.stores.sqlite_checkpoint import Checkpointer
from ebbgate.stores.sqlite_clock import Anchor, Clocks, read_anchor, superseded
from ebbgate.stores.sqlite_guard import Guard
from ebbgate.stores.sqlite_lock import FileLock
from ebbgate.stores.sqlite_place import Place, check_place
from ebbgate.stores.sqlite_schema import beside, check_library, open_file

Durability = Literal["normal", "full"]

LOOK_US: Final = 250_000
"""How often commits look whether the file is still at its path."""

PRUNE_EVERY: Final = 256
"""Every so many commits the log is cut back to its length."""

_LoggedRow = tuple[str, str, bool, msgspec.Raw]
_NULL: Final = msgspec.Raw(b"null")
_NO_ROWS: Final = "[]"
_encode_rows: Final = msgspec.json.Encoder().encode
_decode_rows: Final = msgspec.json.Decoder(list[_LoggedRow]).decode

_LOG: Final = (
    "INSERT INTO log (version, tag, instant_us, token, arrival, rows) "
    "SELECT version + 1, ?, ?, ?, ?, ? FROM log WHERE version = ? AND tag = ?"
)
_KEEP: Final = (
    "INSERT INTO record (kind, id, version, body) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, body = excluded.body"
)
_REMOVE: Final = "DELETE FROM record WHERE kind = ? AND id = ?"
_NEWEST: Final = "SELECT version, tag, instant_us, token, arrival FROM log ORDER BY version DESC LIMIT 1"
_DELTA_MAX: Final = 64  # commits: some 0.5 ms to take in, during which an event loop may have to wait
_SINCE: Final = (
    "SELECT version, tag, instant_us, token, arrival, rows FROM log "
    "WHERE version >= ? ORDER BY version LIMIT ?"
)


class Facts(NamedTuple):
    """What the file says of itself."""

    sqlite: str  # version of the library
    schema: int
    boot: str  # id of the machine's present boot
    boots: int  # how many this file has seen
    commits: int


class SqliteStore:
    """The truth of one namespace in one file; any number of threads and processes may use it at once."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "normal",
        keep: int = LOG_MAX,
        clocks: Clocks | None = None,
        patience_us: int = PATIENCE_US,
        allow_empty: bool = False,
    ) -> None:
        """Open the file, made if missing.

        Args:
            path: of the file; its folder is made for this user alone if missing.
            durability: "full" has each commit on the disk before it is answered; "normal" may lose the last
                ones in a power cut, in none of which a rule is broken.
            keep: how many commits the log keeps.
            clocks: what the machine offers, unless a test says otherwise.
            patience_us: how long to wait for others to let the file be opened.
            allow_empty: whether an empty file is opened though files that belong to the store show that it lost
                its content.

        Raises:
            StoreUnavailable: it cannot be opened; the error says what to do.
        """
        check_library(apsw.sqlite_lib_version())
        self.path = path.resolve()
        check_place(self.path, allow_empty=allow_empty)
        self._keep = keep
        self._clocks = clocks or Clocks()
        self._newest = EMPTY
        self._data_version = -1
        self._seen: int | None = None  # what SQLite said last, not looked into yet
        self._guard = Guard(self.path, partial(open_file, synchronous=durability.upper()), patience_us)
        self._run = self._guard.run
        try:
            self._turn = FileLock(beside(self.path, "lock"))
            self._checkpointer = Checkpointer(self.path)
            self._anchor = self._run(patience_us, self._start)
        except BaseException:
            self._guard.close()
            raise
        self._monotonic_us = self._clocks.monotonic_us
        self._ahead_us = self._anchor.ahead_us
        self._place = Place(self.path)
        self._look_us = 0  # when to look for the file again, by the monotonic clock

    def _start(self, cursor: apsw.Cursor) -> Anchor:
        self._anchor = read_anchor(cursor, self._clocks, self.path)
        self._newest_of(cursor)
        cursor.connection.set_wal_hook(self._checkpointer.grew)
        return self._anchor

    # --- the contract

    def load(self, *, patience_us: int = PATIENCE_US) -> Snapshot:
        """See `Store.load`."""
        return self._run(patience_us, self._load)

    def commit(
        self, base: Version, tag: str, head: Head, rows: Sequence[Row], *, patience_us: int = PATIENCE_US
    ) -> Version:
        """See `Store.commit`."""
        if self._monotonic_us() >= self._look_us:
            self._look_for_file()
        if rows:
            return self._run(patience_us, self._commit, base, tag, head, rows)
        return self._run(patience_us, self._check, base)

    def changes_since(self, version: Version, *, patience_us: int = PATIENCE_US) -> Delta:
        """See `Store.changes_since`."""
        return self._run(patience_us, self._changes_since, version)

    def find(self, tag: str, base: Version, *, patience_us: int = PATIENCE_US) -> Version | None:
        """See `Store.find`."""
        return self._run(patience_us, self._find, tag, base)

    def moved(self, version: Version) -> bool:
        """See `EmbeddedStore.moved`."""
        try:
            return self._run(0, self._moved, version)
        except Busy:
            return True

    def misplaced(self) -> StoreUnavailable | None:
        """See `EmbeddedStore.misplaced`."""
        return self._place.misplaced()

    def _look_for_file(self) -> None:
        if (misplaced := self._place.misplaced()) is not None:
            raise misplaced
        self._look_us = self._monotonic_us() + LOOK_US

    def facts(self) -> Facts:
        """Return what people may want to know of the file, by the store's own connection.

        Whoever opens and closes the file besides drops the locks on it.
        """
        return self._run(PATIENCE_US, self._facts)

    @staticmethod
    def _facts(cursor: apsw.Cursor) -> Facts:
        schema = cursor.execute("PRAGMA user_version").get
        boot, boots = next(cursor.execute("SELECT id, max(number) FROM boot"))
        return Facts(
            apsw.sqlite_lib_version(), schema, boot, boots, cursor.execute("SELECT max(version) FROM log").get
        )

    def recent(self, limit: int) -> list[Past]:
        """See `EmbeddedStore.recent`."""
        return self._run(PATIENCE_US, self._recent, limit)

    def clock(self) -> int:
        """See `Store.clock`."""
        return self._ahead_us + self._monotonic_us()

    def try_lock(self) -> bool:
        """See `EmbeddedStore.try_lock`."""
        return self._turn.try_lock()

    def lock(self, timeout_us: int) -> bool:
        """See `EmbeddedStore.lock`."""
        return self._turn.lock(timeout_us)

    def unlock(self) -> None:
        """See `EmbeddedStore.unlock`."""
        self._turn.unlock()

    def close(self) -> None:
        """See `Store.close`."""
        if self._guard.is_inherited:
            self._guard.abandon()
            self._turn.close()
            return
        self._checkpointer.close()
        self._guard.close()
        self._turn.close()

    # --- one transaction each, on a cursor that nobody else uses meanwhile

    def _commit(
        self, cursor: apsw.Cursor, base: Version, tag: str, head: Head, rows: Sequence[Row]
    ) -> Version:
        execute = cursor.execute
        number = base.number + 1
        logged = _encode_rows(
            [
                (kind, id_, keep, _NULL if body is None else msgspec.Raw(body))
                for kind, id_, body, keep in rows
            ]
        ).decode()
        try:
            execute("BEGIN IMMEDIATE")
            try:
                execute(_LOG, (tag, head.instant_us, head.token, head.arrival, logged, base.number, base.tag))
            except apsw.ConstraintError:  # the number is taken
                raise Conflict from None
            if not cursor.connection.changes():  # the base is not there
                raise Conflict
            for kind, record_id, body, keep in rows:
                if keep:
                    assert body is not None, "a row that is kept has a body"
                    execute(_KEEP, (kind, record_id, number, body.decode()))
                else:
                    execute(_REMOVE, (kind, record_id))
            if not number % PRUNE_EVERY:
                execute("DELETE FROM log WHERE version < ?", (number - self._keep,))
            execute("COMMIT")
        except BaseException:
            if cursor.connection.in_transaction:
                execute("ROLLBACK")
            raise
        if self._checkpointer.due:
            self._checkpointer.wake()
        self._newest = made = Version(number, tag)
        return made

    def _check(self, cursor: apsw.Cursor, base: Version) -> Version:
        if self._moved(cursor, base) and self._newest_of(cursor) != base:
            raise Conflict
        return base

    def _moved(self, cursor: apsw.Cursor, version: Version) -> bool:
        if version != self._newest:
            return True
        self._seen = seen = cursor.execute("PRAGMA data_version").get  # what follows need not ask again
        return bool(seen != self._data_version)

    def _newest_of(self, cursor: apsw.Cursor) -> Version:
        seen = cursor.execute("PRAGMA data_version").get
        newest: Any = _row(cursor.execute(_NEWEST))
        if newest is None:
            raise self._corrupt("its log is empty")
        self._look(cursor, seen, newest)
        return self._newest

    def _load(self, cursor: apsw.Cursor) -> Snapshot:
        with cursor.connection:  # one transaction: version and rows are of one instant
            version = self._newest_of(cursor)
            newest: Any = _row(cursor.execute(_NEWEST))
            rows = [
                Row(kind, record_id, body.encode())
                for kind, record_id, body in cursor.execute("SELECT kind, id, body FROM record")
            ]
        return Snapshot(version, Head(*newest[2:5]), rows)

    def _changes_since(self, cursor: apsw.Cursor, version: Version) -> Delta:
        seen, self._seen = self._seen, None
        if seen is None:
            seen = cursor.execute("PRAGMA data_version").get
        log: list[Any] = cursor.execute(_SINCE, (version.number, _DELTA_MAX + 1)).fetchall()
        if not log or log[0][1] != version.tag or log[0][0] != version.number:
            raise TooOld
        rows = [row for entry in log[1:] for row in self._rows_of(entry[5])]
        newest = log[-1]
        if any(entry[5] == _NO_ROWS for entry in log[1:]):  # only a new boot commits nothing
            self._look(cursor, seen, newest)
        self._newest = Version(*newest[:2])
        more = len(log) > _DELTA_MAX
        if not more:
            self._data_version = seen
        return Delta(self._newest, Head(*newest[2:5]), rows, more)

    def _look(self, cursor: apsw.Cursor, data_version: int, newest: Sequence[Any]) -> None:
        """Remember what was newest when SQLite said `data_version`, or later."""
        if data_version != self._data_version:
            if cursor.execute("SELECT max(number) FROM boot").get != self._anchor.number:
                raise superseded(self.path)
            self._data_version = data_version
        self._newest = Version(*newest[:2])

    def _rows_of(self, logged: str) -> list[Row]:
        try:
            entries = _decode_rows(logged)
        except msgspec.MsgspecError as error:
            raise self._corrupt(f"its log cannot be read ({error})") from error
        return [
            Row(kind, record_id, None if body == _NULL else bytes(body), keep)
            for kind, record_id, keep, body in entries
        ]

    def _corrupt(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self.path} is corrupt: {why}; restore a backup, or start anew")

    def _find(self, cursor: apsw.Cursor, tag: str, base: Version) -> Version | None:
        made = Version(base.number + 1, tag)
        row = _row(
            cursor.execute(
                "SELECT (SELECT min(version) FROM log), EXISTS (SELECT 1 FROM log WHERE version = ? AND tag = ?)",
                made,
            )
        )
        oldest, found = row
        if found:
            return made
        if oldest > made.number:
            raise TooOld
        return None

    def _recent(self, cursor: apsw.Cursor, limit: int) -> list[Past]:
        log = cursor.connection.cursor()
        try:
            log.execute("SELECT rows FROM log ORDER BY version DESC")
            return ended_leases((self._rows_of(rows) for (rows,) in log), limit)
        finally:
            log.close()


def _row(cursor: apsw.Cursor) -> Any:  # noqa: ANN401 - SQLite's values; what they are is known where they are used
    """Return the first row, and leave no statement open: that would hold the next read at this one's snapshot."""
    rows: list[Any] = cursor.fetchall()
    return rows[0] if rows else None
