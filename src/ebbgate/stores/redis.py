"""The store in Redis or Valkey, one primary: fast, and as safe as its append-only file.

A commit is one script, hence one round trip and all or nothing. The log is a stream, and another one, of one entry,
wakes who watches. With `appendfsync everysec` a crash may lose the last second of commits, a failover more; who had
built on them notices by the tag of the version and says so.

Known limits: what was granted in commits that are lost is not known any more, so until its holder renews, hears that
its lease is lost and stops, more may be held than is allowed. PostgreSQL does not lose them.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from redis import exceptions
from redis.asyncio.connection import Connection

from ebbgate.core.model import Head
from ebbgate.stores.base import EMPTY, Conflict, Delta, LostTail, Past, Row, Snapshot, TooOld, Version
from ebbgate.stores.history import LOG_MAX, EndedLeases
from ebbgate.stores.link import CALL_SECONDS, Link
from ebbgate.stores.linked import LOOK_SECONDS, PAUSE_SECONDS, LinkedStore
from ebbgate.stores.logged import DELTA_MAX, PAGE, Entry, columns_of, decode_rows, delta_of
from ebbgate.stores.network_clock import NetworkClock
from ebbgate.stores.redis_url import KINDS, RedisPlace
from ebbgate.stores.redis_wire import Command, RedisWire, ask

_log: Final = logging.getLogger("ebbgate.stores")


TURN_MS: Final = 50
"""Whoever loses a race has the next turn: how long others wait for it at most, for it may have died meanwhile."""

_WAIT: Final = 2
_SCRIPT: Final = (Path(__file__).parent / "schema" / "redis" / "commit.lua").read_bytes()
_SHA: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()
_HEAD: Final = ("version", "tag", "instant_us", "token", "arrival")
_BEHIND: Final = "behind_us"


class RedisStore(LinkedStore[Connection]):
    """The truth of one namespace in a Redis or Valkey server; see `NetworkStore`."""

    def __init__(
        self,
        place: RedisPlace,
        *,
        keep: int = LOG_MAX,
        call_seconds: float = CALL_SECONDS,
        elapsed_us: Callable[[], int] | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            place: where it is.
            keep: how many commits the log keeps.
            call_seconds: how long one call may take before the store counts as out of reach.
            elapsed_us: this machine's own clock, unless a test says otherwise.
        """
        self.place = place
        self._keep = keep
        self._clock = NetworkClock(elapsed_us) if elapsed_us else NetworkClock()
        self._newest = EMPTY
        self._link: Link[Connection] = Link(RedisWire(place), call_seconds=call_seconds)
        self._ear: Link[Connection] = Link(RedisWire(place), call_seconds=call_seconds + LOOK_SECONDS)
        self._head, self._log, self._news = (place.key(what) for what in ("head", "log", "news"))
        self._me = os.urandom(8).hex()
        self._lost = False  # the last race, so that it may be this one's turn
        self._records = [place.key(kind) for kind in KINDS]
        self._keys: Command = (
            4 + len(KINDS), self._head, self._log, self._news, place.key("turn"), *self._records,
        )  # fmt: skip

    # --- the contract

    async def load(self) -> Snapshot:
        """See `Store.load`."""
        return await self._link.run(self._load, again=True)

    async def commit(self, base: Version, tag: str, head: Head, rows: Sequence[Row]) -> Version:
        """See `NetworkStore.commit`."""
        if not rows:
            give_back = ("", self._me) if self._lost else ()  # there is nothing to commit any more
            return await self._link.run(
                lambda connection: self._commit(connection, base, base, give_back), again=True
            )
        words: list[str | bytes | int] = [
            tag, *head, self._keep, self._me, TURN_MS, len(rows), columns_of(rows),
        ]  # fmt: skip
        for kind, record_id, body, keep in rows:
            words += (KINDS.index(kind) + 1, int(keep), record_id, body or b"")
        made = Version(base.number + 1, tag)
        return await self._link.run(lambda connection: self._commit(connection, base, made, words))

    async def recent(self, limit: int) -> list[Past]:
        """See `EmbeddedStore.recent`."""
        ended = EndedLeases(limit)
        before = "+"
        while True:
            command = ("XREVRANGE", self._log, before, "-", "COUNT", PAGE)
            (page,) = await self._ask(command)
            entries = [_entry(entry) for entry in page]
            if not all(ended.look(decode_rows(entry.rows)) for entry in entries) or len(entries) < PAGE:
                return ended.found
            before = f"({entries[-1].number}-0"

    # --- one round trip each

    async def _ask(self, *commands: Command) -> list[Any]:
        return await self._link.run(lambda connection: ask(connection, *commands), again=True)

    async def _run(
        self, connection: Connection, base: Version, words: Sequence[str | bytes | int]
    ) -> list[Any]:
        """Run the script; a server that was started since does not know it yet."""
        asked_us = self._clock.elapsed_us()
        rest: Command = (*self._keys, *base, DELTA_MAX + 1, *words)
        try:
            (answer,) = await ask(connection, ("EVALSHA", _SHA, *rest))
        except exceptions.NoScriptError:
            asked_us = self._clock.elapsed_us()
            (answer,) = await ask(connection, ("EVAL", _SCRIPT, *rest))
        self._clock.measured(asked_us, _instant_us(answer[1:3]))
        return list(answer)

    async def _commit(
        self, connection: Connection, base: Version, made: Version, words: Sequence[str | bytes | int]
    ) -> Version:
        answer = await self._run(connection, base, words)
        while answer[0] == _WAIT:
            await asyncio.sleep(PAUSE_SECONDS)
            answer = await self._run(connection, base, words)
        if not answer[0]:
            self._lost = self._lost or made != base
            raise Conflict(self._delta(base, answer))
        self._lost = False
        self._newest = made
        await self._record(connection)
        return made

    async def _changes_since(self, connection: Connection, version: Version) -> Delta:
        answer = await self._run(connection, version, ())
        if answer[0]:
            (said,) = await ask(connection, ("HMGET", self._head, *_HEAD))
            now, head = _head(said)
            if now == version:
                return Delta(version, head, [])
            answer = await self._run(connection, version, ())  # it moved in between
        delta = self._delta(version, answer)
        if delta is not None:
            await self._record(connection)
            return delta
        said, oldest = await ask(
            connection, ("HMGET", self._head, *_HEAD), ("XRANGE", self._log, "-", "+", "COUNT", 1)
        )
        newest, _ = _head(said)
        if version.number > newest.number or not oldest or version.number >= _entry(oldest[0]).number:
            _log.warning(
                "the store %s lost commits: it stands at version %s and does not know %s, which it had confirmed",
                self.place, newest.number, version.number,
            )  # fmt: skip
            raise LostTail
        raise TooOld

    def _delta(self, base: Version, answer: Sequence[Any]) -> Delta | None:
        """Return what the log has after `base`; None if it does not have all of it."""
        entries = [_entry(entry) for entry in answer[4]] if answer[3] else []
        if not entries or entries[0].number != base.number + 1:
            return None
        delta = delta_of(base, entries[0].head, entries)
        self._took_in(delta.version, delta.head)
        return delta

    async def _load(self, connection: Connection) -> Snapshot:
        asked_us = self._clock.elapsed_us()
        *_, answers = await ask(
            connection,
            ("MULTI",),
            ("TIME",),
            ("HMGET", self._head, *_HEAD, _BEHIND),
            *(("HGETALL", records) for records in self._records),
            ("EXEC",),
        )
        self._clock.measured(asked_us, _instant_us(answers[0]))
        *said, behind = answers[1]
        self._clock.recorded(int(behind or 0))
        version, head = _head(said)
        self._took_in(version, head)
        rows = [
            Row(kind, flat[at].decode(), flat[at + 1])
            for kind, flat in zip(KINDS, answers[2:], strict=True)
            for at in range(0, len(flat), 2)
        ]
        return Snapshot(version, head, rows)

    def _took_in(self, version: Version, head: Head) -> None:
        self._newest = version
        self._clock.committed(head.instant_us)

    async def _write_behind(self, connection: Connection, behind_us: int) -> None:
        await ask(connection, ("HSET", self._head, _BEHIND, behind_us))

    async def _find(self, connection: Connection, tag: str, base: Version) -> Version | None:
        made = Version(base.number + 1, tag)
        at = f"{made.number}-0"
        *_, (there, oldest, number) = await ask(
            connection,
            ("MULTI",),
            ("XRANGE", self._log, at, at),
            ("XRANGE", self._log, "-", "+", "COUNT", 1),
            ("HGET", self._head, "version"),
            ("EXEC",),
        )
        if there:
            return made if _entry(there[0]).tag == tag else None
        if int(number or 0) >= made.number and (not oldest or _entry(oldest[0]).number > made.number):
            raise TooOld
        return None

    async def _hear(self, connection: Connection) -> bool:
        """Wait for news, and return whether there are any that this process does not know."""
        after = f"{self._newest.number}-0"
        (news,) = await ask(
            connection, ("XREAD", "BLOCK", int(LOOK_SECONDS * 1000), "STREAMS", self._news, after)
        )
        if news:
            return True
        asked_us = self._clock.elapsed_us()
        now, (*said, behind) = await ask(connection, ("TIME",), ("HMGET", self._head, *_HEAD, _BEHIND))
        self._clock.measured(asked_us, _instant_us(now))
        self._clock.recorded(int(behind or 0))
        await self._record(connection)
        return _head(said)[0] != self._newest


def _instant_us(said: Sequence[bytes]) -> int:
    return int(said[0]) * 1_000_000 + int(said[1])


def _head(said: Sequence[bytes | None]) -> tuple[Version, Head]:
    if said[0] is None:
        return EMPTY, Head()
    number, tag, *head = (value or b"" for value in said)
    return Version(int(number), tag.decode()), Head(*map(int, head))


def _entry(said: Sequence[Any]) -> Entry:
    """Return an entry of the stream; its fields stand in the order in which the script writes them."""
    number, values = said[0].split(b"-")[0], said[1][1::2]
    return Entry(int(number), values[0].decode(), Head(*map(int, values[1:4])), values[4])
