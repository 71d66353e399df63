"""A store in this process's memory, for tests and for limits that one process alone needs.

It keeps encoded rows and never the records of its callers, so that nothing is shared by accident.

Known limits: everything is gone with the process; a forked child has none of it.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple

from ebbgate.core.model import Head
from ebbgate.stores.base import EMPTY, PATIENCE_US, Conflict, Delta, Past, Row, Snapshot, TooOld, Version
from ebbgate.stores.history import LOG_MAX, ended_leases


class _Commit(NamedTuple):
    version: Version
    head: Head
    rows: tuple[Row, ...]


class MemoryStore:
    """The truth of one namespace in memory; any number of threads may use it at once."""

    def __init__(self, *, keep: int = LOG_MAX, clock_us: Callable[[], int] | None = None) -> None:
        """Start empty.

        Args:
            keep: how many commits `changes_since` knows.
            clock_us: microseconds since 1970; by default a clock that never steps.
        """
        self._mutex = Lock()
        self._turn = Lock()
        self._version = EMPTY
        self._head = Head()
        self._rows: dict[tuple[str, str], Row] = {}
        self._log: deque[_Commit] = deque([_Commit(EMPTY, Head(), ())], keep + 1)
        started_us = time.time_ns() // 1_000 - time.monotonic_ns() // 1_000
        self._clock = clock_us or (lambda: started_us + time.monotonic_ns() // 1_000)

    def load(self, *, patience_us: int = PATIENCE_US) -> Snapshot:  # noqa: ARG002 - nobody is waited for
        """See `Store.load`."""
        with self._mutex:
            return Snapshot(self._version, self._head, list(self._rows.values()))

    def commit(
        self,
        base: Version,
        tag: str,
        head: Head,
        rows: Sequence[Row],
        *,
        patience_us: int = PATIENCE_US,  # noqa: ARG002 - nobody is waited for
    ) -> Version:
        """See `Store.commit`."""
        with self._mutex:
            if base != self._version:
                raise Conflict
            if not rows:
                return base
            made = _Commit(Version(base.number + 1, tag), head, tuple(rows))
            for row in rows:
                if row.keep:
                    self._rows[row.kind, row.id] = row
                else:
                    self._rows.pop((row.kind, row.id), None)
            self._log.append(made)
            self._version, self._head = made.version, head
            return made.version

    def changes_since(self, version: Version, *, patience_us: int = PATIENCE_US) -> Delta:  # noqa: ARG002
        """See `Store.changes_since`."""
        with self._mutex:
            place = self._place(version)
            if place is None:
                raise TooOld
            rows = [row for number in range(place + 1, len(self._log)) for row in self._log[number].rows]
            return Delta(self._version, self._head, rows)

    def find(self, tag: str, base: Version, *, patience_us: int = PATIENCE_US) -> Version | None:  # noqa: ARG002
        """See `Store.find`."""
        made = Version(base.number + 1, tag)
        with self._mutex:
            if self._place(made) is not None:
                return made
            if made.number < self._log[0].version.number:
                raise TooOld
            return None

    def _place(self, version: Version) -> int | None:
        """Where the log has this version; versions in it have no gaps."""
        place = version.number - self._log[0].version.number
        known = 0 <= place < len(self._log) and self._log[place].version == version
        return place if known else None

    def clock(self) -> int:
        """See `Store.clock`."""
        return self._clock()

    def moved(self, version: Version) -> bool:
        """See `EmbeddedStore.moved`."""
        return version != self._version

    def recent(self, limit: int) -> list[Past]:
        """See `EmbeddedStore.recent`."""
        with self._mutex:
            log = [commit.rows for commit in self._log]
        return ended_leases(reversed(log), limit)

    def misplaced(self) -> None:
        """See `EmbeddedStore.misplaced`: there is no file."""

    def try_lock(self) -> bool:
        """See `EmbeddedStore.try_lock`."""
        return self._turn.acquire(blocking=False)

    def lock(self, timeout_us: int) -> bool:
        """See `EmbeddedStore.lock`."""
        return self._turn.acquire(timeout=timeout_us / 1e6)

    def unlock(self) -> None:
        """See `EmbeddedStore.unlock`."""
        if self._turn.locked():
            self._turn.release()

    def close(self) -> None:
        """See `Store.close`: the memory goes when nobody refers to it."""
