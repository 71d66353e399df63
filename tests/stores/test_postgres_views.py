"""What people see with psql, and what the page about it shows."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ebbgate.core.decay import spend, spent_slots, unspent
from ebbgate.core.model import SECOND, Lease, Limit, Meter, Session, Stored
from ebbgate.stores.base import EMPTY
from ebbgate.stores.codec import encode
from ebbgate.stores.postgres import PostgresStore
from ebbgate.stores.postgres_schema import migrations
from ebbgate.testing.stores import head, tag
from tests.docs.snippets import blocks
from tests.stores import servers
from tests.stores.opened import opened_as

NOON_US = 1_700_000_000_000_000
PAGE = "docs/how-to/look-with-psql.md"

DATABASE = Limit("limit-1", "database", 5, 0.0, True, "the \x00 database", NOON_US, NOON_US)
API = Limit("limit-2", "api", 100, 0.001, True, "", NOON_US, NOON_US, NOON_US + SECOND, "429")
SESSION = Session("s", 1, "node-1", 4711, {"app": "\x00"}, -1, "", "everything")
HELD = Lease(
    "held", "s", "hold", (("database", 2),), (("limit-1", 2),), (), False, 0, 60 * SECOND, {"job": "7"}, "", 1,
    NOON_US, state="held", at_us=NOON_US, expires_us=NOON_US + 60 * SECOND, token=9,
)  # fmt: skip
LOW = Lease(
    "low", "s", "hold", (("api", 1), ("database", 4)), (("limit-1", 4), ("limit-2", 1)), (), False, 0, 1, {}, "", 2,
    NOON_US,
)  # fmt: skip
HIGH = replace(LOW, id="high", priority=5)
ENDED = replace(HELD, id="ended", state="ended", why="released", ended_us=NOON_US + SECOND)


async def fill(url: str, *more: Stored) -> None:
    """Leave two limits, one holder and two waiters behind, and one lease that has ended."""
    changes = [Stored("limit", limit.id, limit) for limit in (DATABASE, API)]
    changes += [Stored("session", "s", SESSION)]
    changes += [Stored("lease", lease.id, lease) for lease in (HELD, LOW, HIGH, ENDED)]
    async with opened_as(PostgresStore, url) as store:
        await store.commit(EMPTY, tag(), head(1), encode([*changes, *more]))


@pytest.mark.asyncio
async def test_people_with_psql_see_limits_leases_and_waiters(postgres: servers.Postgres) -> None:
    name = servers.new_name()
    await fill(postgres.url(name))
    where = f"WHERE namespace = '{name}'"
    assert postgres.execute(
        'SELECT name, "limit", slot_decay_per_second, description, held_slots, spent_slots, waiting, cool_why, '
        f"cools_until = '2023-11-14T22:13:21Z' FROM ebbgate.limits {where} ORDER BY name"
    ) == [
        ("api", 100, 0.001, "", 0, 0, 2, "429", True),
        ("database", 5, 0.0, "the ? database", 2, 0, 2, None, None),
    ]
    assert postgres.execute(
        "SELECT id, host, pid, labels->>'job', token, granted_at = '2023-11-14T22:13:20Z', "
        f"expires_at = '2023-11-14T22:14:20Z' FROM ebbgate.leases {where} AND state = 'held'"
    ) == [("held", "node-1", 4711, "7", 9, True, True)]
    assert postgres.execute(f"SELECT id, host, asked::text FROM ebbgate.waiters {where}") == [
        ("high", "node-1", '[["api",1],["database",4]]'),
        ("low", "node-1", '[["api",1],["database",4]]'),
    ]
    assert postgres.execute(f"SELECT id, away_since FROM ebbgate.sessions {where}") == [("s", None)]
    assert postgres.execute(
        f'SELECT "limit", slots, state, lease FROM ebbgate.slots {where} ORDER BY "limit", priority DESC, lease'
    ) == [
        ("api", 1, "waiting", "high"),
        ("api", 1, "waiting", "low"),
        ("database", 4, "waiting", "high"),
        ("database", 2, "held", "held"),
        ("database", 4, "waiting", "low"),
    ]


@pytest.mark.asyncio
async def test_sessions_are_looked_up_by_their_index_however_new_the_table(
    postgres: servers.Postgres,
) -> None:
    """Otherwise 1,000 sessions are read for each of 2,000 leases, which takes seconds."""
    name = servers.new_name()
    await fill(postgres.url(name))
    plan = "\n".join(
        line
        for (line,) in postgres.execute(f"EXPLAIN SELECT * FROM ebbgate.slots WHERE namespace = '{name}'")
    )
    assert re.search(r"Index Cond: .*kind = 'session'::text\) AND \(id = ", plan), plan


@pytest.mark.asyncio
@pytest.mark.parametrize("decay", [1e-9, 0.001, 1 / 3600, 7.0])
async def test_psql_counts_spent_slots_as_the_book_does(postgres: servers.Postgres, decay: float) -> None:
    name, now_us = servers.new_name(), 0
    ((now_us,),) = postgres.execute("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
    meter: Meter = spend(unspent("limit-2", decay), 40, now_us=now_us)
    await fill(postgres.url(name), Stored("meter", meter.id, meter))
    ((before_us, spent, after_us),) = postgres.execute(
        "SELECT (extract(epoch FROM now()) * 1000000)::bigint, spent_slots, ebbgate.clock_us() "
        f"FROM ebbgate.limits WHERE namespace = '{name}' AND name = 'api'"
    )
    assert spent_slots(meter, after_us) <= spent <= spent_slots(meter, before_us)


@pytest.mark.asyncio
async def test_a_schema_of_the_first_step_is_brought_up_while_its_readers_keep_their_rights(
    postgres: servers.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of the first release goes on, too: nothing that it uses has changed."""
    schema, reader = f"s{servers.new_name()}", f"reader_{servers.new_name()}"
    url = postgres.url(schema=schema)
    known = migrations()
    # The code of this release plays the first one, so it needs the one column that it reads itself.
    first = known[0] + "ALTER TABLE namespace ADD COLUMN behind_us bigint NOT NULL DEFAULT 0;"
    with monkeypatch.context() as patched:
        patched.setattr("ebbgate.stores.postgres_schema.migrations", lambda: (first,))
        await fill(url)
        postgres.execute(f"CREATE ROLE {reader}")
        postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO {reader}")
        postgres.execute(f"GRANT SELECT ON {schema}.limits TO {reader}")
        async with opened_as(PostgresStore, url) as old:
            version = (await old.load()).version
            with monkeypatch.context() as newer:
                newer.setattr("ebbgate.stores.postgres_schema.migrations", lambda: known)
                async with opened_as(PostgresStore, url) as new:
                    assert (await new.load()).version == version
            assert (await old.commit(version, tag(), head(2), [])) == version
        async with opened_as(PostgresStore, url) as old:
            assert (await old.load()).version == version  # it may start anew, too
    assert postgres.execute(f"SELECT max(number) FROM {schema}.migration") == [(len(known),)]
    assert postgres.execute(f"SELECT has_table_privilege('{reader}', '{schema}.limits', 'SELECT')") == [
        (True,)
    ]
    postgres.execute(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def queries() -> Iterator[str]:
    """What the page shows, one statement each."""
    for block in blocks(PAGE):
        if block.language == "sql":
            yield from (part.strip() for part in block.body.split(";") if part.strip())


@pytest.mark.asyncio
async def test_every_query_of_the_page_finds_something(postgres: servers.Postgres) -> None:
    name = "default"  # as the page has it; in a database of its own
    database = servers.new_name()
    postgres.execute(f"CREATE DATABASE {database}")
    await fill(f"postgresql://postgres@/{database}?host={postgres.folder}&namespace={name}")
    shown = list(queries())
    assert shown
    try:
        for query in shown:
            found = postgres.execute(query, database)
            assert found or not query.lower().startswith(("select", "table")), query
    finally:
        postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")
        for (role,) in postgres.execute("SELECT rolname FROM pg_roles WHERE rolname = 'ebbgate_reader'"):
            postgres.execute(f"DROP ROLE {role}")
