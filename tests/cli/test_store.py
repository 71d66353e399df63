"""`ebbgate store check` and `ebbgate store upgrade`: what is found, and what is said when a store cannot be used."""

import asyncio
import contextlib
from pathlib import Path

import psycopg
import pytest

from ebbgate.cli.store import StoreFacts
from ebbgate.client.client import Client
from ebbgate.stores import open_network_store
from ebbgate.stores.postgres_schema import migrations
from tests.cli.support import Cli, Result
from tests.server.processes import started
from tests.serving import served
from tests.stores import servers

BOTH = pytest.mark.parametrize("kind", ["postgres", "valkey"])


@pytest.fixture
def store(kind: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of a new namespace."""
    server: servers.Postgres | servers.Redis = request.getfixturevalue(kind)
    return server.url()


def told(result: Result, *words: str) -> None:
    """See that it failed with 1, in one line that has all these words and no password."""
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result
    for word in words:
        assert word in result.err, result.err
    assert "hunter2" not in result.err


# --- all well


@BOTH
def test_a_new_store_is_well_and_empty(cli: Cli, store: str) -> None:
    if store.startswith("postgres"):
        assert cli("store", "upgrade", "--store", store).code == 0
    facts = cli("store", "check", "--store", store, "-o", "json").parsed(StoreFacts)
    assert (facts.store, facts.version, facts.limits, facts.leases, facts.servers) == (store, 0, 0, 0, 0)
    assert 0 < facts.round_trip_ms < 5_000


@BOTH
def test_what_lives_in_a_store_is_counted(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(store) as one, served(store), Client(one.url) as client:
        client.create_limit("db", 2)
        client.create_limit("api", 2)
        with client.concurrency("db"):
            facts = cli("store", "check", "--store", store, "-o", "json").parsed(StoreFacts)
            monkeypatch.setenv("EBBGATE_STORE", store)
            shown = cli("store check")
    assert (facts.limits, facts.leases, facts.servers) == (2, 1, 2)
    assert facts.version > 0
    assert shown.code == 0
    fields = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if line)
    assert (fields["limits"], fields["servers"]) == ("2", "2")


@BOTH
def test_an_upgrade_of_what_is_new_changes_nothing(cli: Cli, store: str) -> None:
    with served(store) as server, Client(server.url) as client:
        client.create_limit("db", 2)
        for _ in range(2):
            facts = cli("store", "upgrade", "--store", store, "-o", "json").parsed(StoreFacts)
            assert (facts.limits, facts.servers) == (1, 1)
        assert client.read_limit("db").limit == 2


# --- wrong URLs


@pytest.mark.parametrize("verb", ["check", "upgrade"])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite:///limits.db",
        "mysql://me:hunter2@db/app",
        "postgresql://me:hunter2@db/app?namespace=",
        "postgresql://me:hunter2@db/app?schema=a-b",
        "postgresql://me:hunter2@db/app?nonsense=1",
        "postgresql://me:hunter2@[db/app",
        "redis://:hunter2@cache/x",
        "redis://:hunter2@cache:port",
        "redis://:hunter2@cache?namespace=a}b",
    ],
)
def test_a_wrong_url_is_a_mistake_in_the_command(cli: Cli, verb: str, url: str) -> None:
    result = cli("store", verb, "--store", url)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert "hunter2" not in result.err
    problem = cli("store", verb, "--store", url, "-o", "json")
    assert problem.code == 2
    assert problem.problem()["code"] == "invalid_request"
    assert "hunter2" not in problem.err


# --- namespaces


def test_a_namespace_may_be_named_beside_the_url(
    cli: Cli, valkey: servers.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limits(*flags: str) -> int:
        return cli("store", "check", *flags, "-o", "json").parsed(StoreFacts).limits

    name = servers.new_name()
    named = valkey.url(name)
    url = named.partition("?")[0]
    with (
        started(tmp_path, "--store", url, "--namespace", name) as server,
        Client(server.url.replace("http", "ebbgate")) as client,
    ):
        client.create_limit("db", 2)
    assert limits("--store", named) == limits("--store", named, "--namespace", name) == 1
    monkeypatch.setenv("EBBGATE_NAMESPACE", name)
    assert limits("--store", url) == 1
    assert limits("--store", url, "--namespace", servers.new_name()) == 0


@pytest.mark.parametrize(
    ("url", "name", "why"),
    [
        ("postgresql://me:hunter2@db/app?namespace=one", "other", "give one"),
        ("redis://:hunter2@cache", "a}b", "can be no namespace"),
        ("sqlite:///limits.db", "one", "a file is one by itself"),
        ("memory://", "one", "a file is one by itself"),
    ],
)
def test_a_namespace_that_cannot_be_is_a_mistake_in_the_command(
    cli: Cli, url: str, name: str, why: str
) -> None:
    result = cli("serve", "--port", "0", "--store", url, "--namespace", name)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert why in result.err
    assert "hunter2" not in result.err


# --- a PostgreSQL that cannot be used


@pytest.fixture
def locked(postgres: servers.Postgres) -> str:
    """Return a user with a password, who may do nothing yet."""
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        postgres.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    return "locked"


def url_of(postgres: servers.Postgres, user: str, schema: str, database: str = "postgres") -> str:
    return f"postgresql://{user}@/{database}?host={postgres.folder}&schema={schema}"


def new_schema(postgres: servers.Postgres, steps: int) -> str:
    """Return a schema as a release left it that knew so many steps."""
    schema = f"s{servers.new_name()}"
    postgres.execute(f"CREATE SCHEMA {schema}")
    with psycopg.connect(f"host={postgres.folder} user=postgres dbname=postgres") as connection:
        connection.execute(f"SET LOCAL search_path = {schema}".encode())
        for step in migrations()[:steps]:
            connection.execute(step.encode())
    return schema


@pytest.mark.parametrize("verb", ["check", "upgrade"])
def test_a_postgres_that_is_away_or_not_for_this_user_is_told_with_what_to_do(
    cli: Cli, verb: str, postgres: servers.Postgres, locked: str
) -> None:
    def said(url: str) -> Result:
        return cli("store", verb, "--store", url)

    schema = f"s{servers.new_name()}"
    told(said("postgresql://me:hunter2@127.0.0.1:1/app"), "is the server running")
    told(
        said(url_of(postgres, f"{locked}:hunter2", schema)), "refuses the password", "check user and password"
    )
    told(said(url_of(postgres, "postgres", schema, "nowhere")), "no such database", "createdb")
    problem = cli(
        "store", verb, "--store", url_of(postgres, f"{locked}:hunter2", schema), "-o", "json"
    ).problem()
    assert problem["code"] == "store_unavailable"
    assert "hunter2" not in problem["detail"]


def test_who_may_not_make_or_use_the_tables_is_told_what_rights_it_takes(
    cli: Cli, postgres: servers.Postgres, locked: str
) -> None:
    missing = url_of(postgres, f"{locked}:right", f"s{servers.new_name()}")
    told(
        cli("store", "upgrade", "--store", missing), "may not be used by this user", "CREATE on the database"
    )
    others = new_schema(postgres, len(migrations()))
    told(
        cli("store", "check", "--store", url_of(postgres, f"{locked}:right", others)),
        "may not be used by this user", "USAGE on the schema",
    )  # fmt: skip
    postgres.execute(f"GRANT USAGE ON SCHEMA {others} TO {locked}")
    postgres.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {others} TO {locked}")
    assert cli("store", "check", "--store", url_of(postgres, f"{locked}:right", others)).code == 0


def test_an_older_schema_is_left_as_it_is_until_somebody_upgrades_it(
    cli: Cli, postgres: servers.Postgres, tmp_path: Path
) -> None:
    schema = new_schema(postgres, 1)
    url = url_of(postgres, "postgres", schema)
    older = ("has schema 1", f"needs schema {len(migrations())}", "run `ebbgate store upgrade`")
    steps = f"SELECT max(number) FROM {schema}.migration"
    told(cli("store", "check", "--store", url), *older)
    with started(tmp_path, "--store", url, "--store-upgrade", "never") as server:
        assert server.process.wait(20) == 1
        assert all(words in server.log.read_text() for words in older), server.log.read_text()
    assert postgres.execute(steps) == [(1,)]
    assert cli("store", "upgrade", "--store", url).code == 0
    assert postgres.execute(steps) == [(len(migrations()),)]
    assert cli("store", "check", "--store", url).code == 0
    with started(tmp_path, "--store", url, "--store-upgrade", "never") as server:
        assert server.find("ready"), server.log.read_text()


@pytest.mark.parametrize("verb", ["check", "upgrade"])
def test_a_newer_schema_is_refused_and_left_as_it_is(cli: Cli, verb: str, postgres: servers.Postgres) -> None:
    schema = new_schema(postgres, known := len(migrations()))
    postgres.execute(f"INSERT INTO {schema}.migration (number, works_from) VALUES ({known + 1}, {known + 1})")
    told(
        cli("store", verb, "--store", url_of(postgres, "postgres", schema)),
        "taken over by a newer ebbgate", f"schema {known + 1}, known here: {known}", "pip install --upgrade",
    )  # fmt: skip
    assert postgres.execute(f"SELECT max(number) FROM {schema}.migration") == [(known + 1,)]


@pytest.mark.parametrize("verb", ["check", "upgrade"])
def test_a_read_only_database_is_told(cli: Cli, verb: str, postgres: servers.Postgres) -> None:
    name = servers.new_name()
    postgres.execute(f"CREATE DATABASE {name}")
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    told(
        cli("store", verb, "--store", url_of(postgres, "postgres", "ebbgate", name)),
        "is read-only", "Name the primary",
    )  # fmt: skip


# --- a Redis that cannot be used


@pytest.mark.parametrize("verb", ["check", "upgrade"])
def test_a_valkey_that_is_away_or_not_for_this_user_is_told_with_what_to_do(
    cli: Cli, verb: str, valkey: servers.Redis
) -> None:
    valkey.ask("ACL", "SETUSER", "weak", "on", ">hunter2", "~*", "+@connection")
    for url, words in (
        ("redis://:hunter2@127.0.0.1:1", "is the server running"),
        (f"redis://weak:hunter2x@127.0.0.1:{valkey.port}", "check them in its URL"),
        (f"redis://weak:hunter2@127.0.0.1:{valkey.port}", "grant it ~ebbgate:*"),
    ):
        told(cli("store", verb, "--store", url), words)


def test_a_valkey_of_a_newer_release_is_refused(cli: Cli, valkey: servers.Redis) -> None:
    name = servers.new_name()
    valkey.ask("HSET", f"ebbgate:{{{name}}}:head", "format", "99")
    told(
        cli("store", "check", "--store", valkey.url(name)),
        "taken over by a newer ebbgate",
        "pip install --upgrade",
    )


def test_a_valkey_that_drops_keys_or_is_a_replica_is_refused(cli: Cli, valkey: servers.Redis) -> None:
    with servers.redis(
        servers.wheel_redis(), "--maxmemory-policy", "allkeys-lru", "--maxmemory", "50mb"
    ) as dropping:
        told(cli("store", "check", "--store", dropping.url()), "drops any key", "maxmemory-policy noeviction")
        dropping.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert cli("store", "check", "--store", dropping.url()).code == 0
        dropping.ask("REPLICAOF", "127.0.0.1", str(valkey.port))
        told(cli("store", "check", "--store", dropping.url()), "is a replica", "name the primary")


# --- it only looks


@BOTH
def test_a_check_commits_nothing(cli: Cli, store: str) -> None:
    with served(store):
        pass

    async def version() -> int:
        opened = open_network_store(store)
        try:
            return (await opened.load()).version.number
        finally:
            await opened.close()

    before = asyncio.run(version())
    assert cli("store", "check", "--store", store).code == 0
    assert asyncio.run(version()) == before
