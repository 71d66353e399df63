"""History in PostgreSQL: tables in the store's own schema, over a connection of its own.

Each write is one transaction in which blocks are taken in order, so that servers wait for each other and never for a
decision, which uses other tables.
"""

from collections.abc import Sequence

from ebbgate.stores.link import Link
from ebbgate.stores.postgres_schema import Connection, prepare
from ebbgate.stores.postgres_url import PostgresPlace
from ebbgate.stores.postgres_wire import PostgresWire
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


class PostgresHistory:
    """The history of one namespace in a PostgreSQL database."""

    def __init__(self, place: PostgresPlace, *, upgrade: bool = True) -> None:
        """Connect to nothing yet."""
        self.place = place
        self._upgrade = upgrade
        self._namespace = 0
        self._link: Link[Connection] = Link(
            PostgresWire(place, place.conninfo, self._prepare), call_seconds=CALL_SECONDS
        )
        schema = place.quoted_schema
        self._block, self._span = f"{schema}.history_block", f"{schema}.history_span"

    async def _prepare(self, connection: Connection) -> None:
        self._namespace = await prepare(connection, self.place, upgrade=self._upgrade)

    async def write(self, parts: Sequence[Part], span: Span) -> None:
        """See `HistoryStore.write`."""
        columns = [
            list(column) for column in zip(*((*place, text) for place, text in sorted(parts)), strict=True)
        ]

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                await connection.execute(
                    f"INSERT INTO {self._span} VALUES (%s, %s, %s, %s) ON CONFLICT (namespace, writer) "  # noqa: S608
                    "DO UPDATE SET began_us = excluded.began_us, ended_us = excluded.ended_us",
                    (self._namespace, *span),
                )
                if columns:
                    await connection.execute(
                        f"INSERT INTO {self._block} AS b "  # noqa: S608
                        "SELECT %s, * FROM unnest(%s::smallint[], %s::bigint[], %s::text[], %s::text[]) "
                        "ON CONFLICT (namespace, resolution, number, limit_id) "
                        "DO UPDATE SET text = b.text || excluded.text",
                        (self._namespace, *columns),
                    )

        await self._link.run(work)

    async def read(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `HistoryStore.read`."""
        if not places:
            return {}
        columns = [list(column) for column in zip(*places, strict=True)]

        async def work(connection: Connection) -> dict[Place, str]:
            cursor = await connection.execute(
                "SELECT b.resolution, b.number, b.limit_id, b.text "  # noqa: S608
                "FROM unnest(%s::smallint[], %s::bigint[], %s::text[]) a (resolution, number, limit_id) "
                f"JOIN {self._block} b USING (resolution, number, limit_id) WHERE b.namespace = %s",
                (*columns, self._namespace),
            )
            return {Place(*row[:3]): row[3] for row in await cursor.fetchall()}

        return await self._link.run(work, again=True)

    async def spans(self, since_us: int) -> list[Span]:
        """See `HistoryStore.spans`."""

        async def work(connection: Connection) -> list[Span]:
            cursor = await connection.execute(
                f"SELECT writer, began_us, ended_us FROM {self._span} "  # noqa: S608
                "WHERE namespace = %s AND ended_us >= %s",
                (self._namespace, since_us),
            )
            return [Span(*row) for row in await cursor.fetchall()]

        return await self._link.run(work, again=True)

    async def forget(self, limit_ids: Sequence[str]) -> None:
        """See `HistoryStore.forget`."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                f"DELETE FROM {self._block} WHERE namespace = %s AND limit_id = ANY(%s)",  # noqa: S608
                (self._namespace, list(limit_ids)),
            )

        await self._link.run(work, again=True)

    async def prune(self, now_us: int, bytes_max: int = BYTES_MAX) -> None:
        """See `HistoryStore.prune`."""

        async def work(connection: Connection) -> None:
            mine = (self._namespace,)
            for resolution, oldest in enumerate(oldest_blocks(now_us)):
                await connection.execute(
                    f"DELETE FROM {self._block} WHERE namespace = %s AND resolution = %s AND number < %s",  # noqa: S608
                    (*mine, resolution, oldest),
                )
            await connection.execute(
                f"DELETE FROM {self._span} WHERE namespace = %s AND ended_us < %s",  # noqa: S608
                (*mine, oldest_span_us(now_us)),
            )
            cursor = await connection.execute(
                f"SELECT resolution, number, sum(octet_length(text))::bigint FROM {self._block} "  # noqa: S608
                "WHERE namespace = %s GROUP BY resolution, number",
                mine,
            )
            sizes = {(resolution, number): size for resolution, number, size in await cursor.fetchall()}
            for at in beyond(sizes, bytes_max):
                await connection.execute(
                    f"DELETE FROM {self._block} WHERE namespace = %s AND resolution = %s AND number = %s",  # noqa: S608
                    (*mine, *at),
                )

        await self._link.run(work, again=True)

    async def close(self) -> None:
        """See `HistoryStore.close`."""
        await self._link.close()
