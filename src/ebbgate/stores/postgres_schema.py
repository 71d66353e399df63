"""Bringing a schema to what this release knows, or refusing it.

The files `schema/postgres/NNNN_*.sql` bring a schema forward one step each, under an advisory lock, and are never
changed once released. Each says from which step on a release can work with what it leaves behind, so that servers
of two releases may share a schema during an upgrade.

Known limit: there is no way back to an older schema; keep a backup before an upgrade.
"""

from functools import cache
from pathlib import Path
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.postgres_url import PostgresPlace
from ebbgate.version import requirement

Connection = AsyncConnection[TupleRow]

SERVER_MIN: Final = 14
_LOCK: Final = int.from_bytes(b"ebbgate")  # one migration at a time in a database
_SCHEMA: Final = Path(__file__).parent / "schema" / "postgres"


@cache
def migrations() -> tuple[str, ...]:
    """Return the steps from nothing to the newest schema."""
    files = sorted(_SCHEMA.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1)), "numbered without gaps"
    return tuple(file.read_text(encoding="utf-8") for file in files)


async def check_server(connection: Connection, place: PostgresPlace) -> bool:
    """Refuse a server that cannot carry a store; return whether the schema is there.

    Raises:
        StoreUnavailable: it is too old, does not speak UTF-8, or is read-only.
    """
    cursor = await connection.execute(
        "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'), "
        "pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', "
        "EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = 'migration')",
        (place.schema,),
    )
    row = await cursor.fetchone()
    assert row is not None, "one row"
    version, encoding, read_only, is_there = row
    if version < SERVER_MIN * 10_000:
        raise StoreUnavailable(
            f"the store {place} is PostgreSQL {version // 10_000}; {SERVER_MIN} or newer is needed"
        )
    if encoding != "UTF8":
        raise StoreUnavailable(
            f"the store {place} keeps text as {encoding}; make a database with ENCODING 'UTF8'"
        )
    if read_only:
        raise StoreUnavailable(
            f"the store {place} is read-only; is this a standby? Name the primary, or several hosts and "
            "target_session_attrs=read-write"
        )
    return bool(is_there)


async def prepare(connection: Connection, place: PostgresPlace, *, upgrade: bool) -> int:
    """Bring the schema to the newest step and return the id of the namespace, made if missing.

    Raises:
        StoreUnavailable: the server cannot carry a store, or a newer release has taken the schema over, or it
            has to be upgraded and `upgrade` says no.
    """
    is_there = await check_server(connection, place)
    done = await _check_schema(connection, place) if is_there else 0
    if done < len(migrations()):
        if not upgrade:
            has = f"schema {done}" if done else "no tables of ebbgate yet"
            raise StoreUnavailable(
                f"the store {place} has {has}, this release needs schema {len(migrations())}: "
                "run `ebbgate store upgrade`"
            )
        await _migrate(connection, place)
    return await _namespace(connection, place)


async def _check_schema(connection: Connection, place: PostgresPlace) -> int:
    """Return how many steps the schema has seen."""
    cursor = await connection.execute(
        f"SELECT number, works_from FROM {place.quoted_schema}.migration ORDER BY number DESC LIMIT 1"  # noqa: S608
    )
    row = await cursor.fetchone()
    number, works_from = row or (0, 0)
    known = len(migrations())
    if works_from > known:
        raise StoreUnavailable(
            f"the store {place} was taken over by a newer ebbgate (schema {number}, known here: {known}); "
            f"upgrade ebbgate: pip install --upgrade {requirement('postgres')}"
        )
    return int(number)


async def _migrate(connection: Connection, place: PostgresPlace) -> None:
    schema = place.quoted_schema
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        done = 0
        if await check_server(connection, place):  # another server may have been faster
            done = await _check_schema(connection, place)
        else:
            await _make_schema(connection, place)
        await connection.execute(f"SET LOCAL search_path = {schema}")
        for script in migrations()[done:]:
            await connection.execute(script)


async def _make_schema(connection: Connection, place: PostgresPlace) -> None:
    """Make the schema unless somebody with more rights did."""
    there = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s"
    if await (await connection.execute(there, (place.schema,))).fetchone() is None:
        await connection.execute(f"CREATE SCHEMA {place.quoted_schema}")


async def _namespace(connection: Connection, place: PostgresPlace) -> int:
    schema = place.quoted_schema
    found = f"SELECT id FROM {schema}.namespace WHERE name = %s"  # noqa: S608 - a schema's name is checked
    row = await (await connection.execute(found, (place.namespace,))).fetchone()
    if row is None:
        async with connection.transaction():
            await connection.execute(
                f"INSERT INTO {schema}.namespace (name) VALUES (%s) ON CONFLICT DO NOTHING",  # noqa: S608
                (place.namespace,),
            )
            row = await (await connection.execute(found, (place.namespace,))).fetchone()
            assert row is not None, "inserted a moment ago"
            await connection.execute(
                f"INSERT INTO {schema}.log (namespace, version, tag, instant_us, token, arrival, rows) "  # noqa: S608
                "VALUES (%s, 0, '', 0, 0, 0, '[[],[],[],[]]') ON CONFLICT DO NOTHING",
                row,
            )
    return int(row[0])
