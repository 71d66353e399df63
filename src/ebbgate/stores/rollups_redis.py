"""History in Redis or Valkey: one hash a block of time, by limit, in the store's own namespace.

Known limits: it takes memory like everything else there, `BYTES_MAX` of text at most; how much is counted when it is
written, so a limit that is forgotten counts until its blocks age out.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis import exceptions
from redis.asyncio.connection import Connection

from ebbgate.stores.link import Link
from ebbgate.stores.redis_url import RedisPlace
from ebbgate.stores.redis_wire import Command, RedisWire, ask
from ebbgate.stores.rollups import (
    BYTES_MAX,
    CALL_SECONDS,
    Part,
    Place,
    Span,
    beyond,
    oldest_blocks,
    oldest_span_us,
)

PARTS_MAX: Final = 200
"""How many parts one run of the script writes: some 1 ms, in which the server serves nobody else."""

_SCRIPT: Final = (Path(__file__).parent / "schema" / "redis" / "history.lua").read_bytes()
_SHA: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()


class RedisHistory:
    """The history of one namespace in a Redis or Valkey server. Only a part of a write is one step."""

    def __init__(self, place: RedisPlace) -> None:
        """Connect to nothing yet."""
        self._place = place
        self._link: Link[Connection] = Link(RedisWire(place), call_seconds=CALL_SECONDS)
        self._spans, self._sizes = place.key("history:spans"), place.key("history:sizes")

    def _block(self, at: str) -> str:
        return self._place.key(f"history:{at}")

    async def write(self, parts: Sequence[Part], span: Span) -> None:
        """See `HistoryStore.write`."""
        said = f"{span.began_us}-{span.ended_us}"
        groups = [parts[at : at + PARTS_MAX] for at in range(0, len(parts), PARTS_MAX)] or [()]

        async def work(connection: Connection) -> None:
            for group in groups:
                names = sorted({_name(place) for place, _ in group})
                words: list[str | bytes | int] = [2 + len(names), self._spans, self._sizes]
                words += [*map(self._block, names), span.writer, said]
                for place, text in group:
                    name = _name(place)
                    words += [names.index(name) + 3, name, place.limit_id, text]
                try:
                    await ask(connection, ("EVALSHA", _SHA, *words))
                except exceptions.NoScriptError:
                    await ask(connection, ("EVAL", _SCRIPT, *words))

        await self._link.run(work)

    async def read(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `HistoryStore.read`."""
        wanted: dict[str, list[Place]] = {}
        for place in places:
            wanted.setdefault(_name(place), []).append(place)
        if not wanted:
            return {}
        commands: list[Command] = [
            ("HMGET", self._block(name), *(place.limit_id for place in those))
            for name, those in wanted.items()
        ]
        answers = await self._ask(*commands)
        return {
            place: text.decode()
            for those, texts in zip(wanted.values(), answers, strict=True)
            for place, text in zip(those, texts, strict=True)
            if text
        }

    async def spans(self, since_us: int) -> list[Span]:
        """See `HistoryStore.spans`."""
        return [span for span in await self._all_spans() if span.ended_us >= since_us]

    async def _all_spans(self) -> list[Span]:
        (flat,) = await self._ask(("HGETALL", self._spans))
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return [Span(writer.decode(), *map(int, said.split(b"-"))) for writer, said in pairs]

    async def forget(self, limit_ids: Sequence[str]) -> None:
        """See `HistoryStore.forget`."""
        (names,) = await self._ask(("HKEYS", self._sizes))
        if names and limit_ids:
            await self._ask(*(("HDEL", self._block(name.decode()), *limit_ids) for name in names))

    async def prune(self, now_us: int, bytes_max: int = BYTES_MAX) -> None:
        """See `HistoryStore.prune`."""
        (flat,) = await self._ask(("HGETALL", self._sizes))
        sizes = {_at(name): int(size) for name, size in zip(flat[::2], flat[1::2], strict=True)}
        oldest = oldest_blocks(now_us)
        gone = [at for at in sizes if at[1] < oldest[at[0]]]
        gone += beyond({at: size for at, size in sizes.items() if at not in gone}, bytes_max)
        since_us = oldest_span_us(now_us)
        commands: list[Command] = []
        for resolution, number in gone:
            name = f"{resolution}:{number}"
            commands += [("UNLINK", self._block(name)), ("HDEL", self._sizes, name)]
        commands += [
            ("HDEL", self._spans, span.writer) for span in await self._all_spans() if span.ended_us < since_us
        ]
        if commands:
            await self._ask(*commands)

    async def close(self) -> None:
        """See `HistoryStore.close`."""
        await self._link.close()

    async def _ask(self, *commands: Command) -> list[Any]:
        return await self._link.run(lambda connection: ask(connection, *commands), again=True)


def _name(place: Place) -> str:
    return f"{place.resolution}:{place.block}"


def _at(name: bytes) -> tuple[int, int]:
    resolution, number = name.split(b":")
    return int(resolution), int(number)
