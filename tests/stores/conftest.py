"""Database servers that the tests of one process share, each in namespaces of its own."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.conftest import POSTGRES_URL, REDIS_URL, in_new_namespace
from tests.stores import servers


def _places(url: str, is_installed: bool) -> list[str]:
    """Which servers to test with: the one that is named, or the wheel's and the system's."""
    return ["named"] if url else ["wheel", "system"] if is_installed else ["wheel"]


@pytest.fixture(scope="session")
def old_postgres() -> Iterator[servers.Postgres]:
    """The system's PostgreSQL."""
    programs = servers.system_postgres()
    assert programs is not None, "asked for only where there is one"
    with servers.postgres(programs) as server:
        yield server


@pytest.fixture(scope="session")
def pooler(postgres: servers.Postgres) -> Iterator[servers.Pooler]:
    """A pgbouncer in transaction mode before it."""
    program = servers.find_pgbouncer()
    if program is None:
        pytest.skip("NOT TESTED THROUGH A POOLER: pgbouncer is not installed; first: sudo make setup-system")
    with servers.pgbouncer(program, postgres) as server:
        yield server


@pytest.fixture(scope="session")
def old_redis() -> Iterator[servers.Redis]:
    """The system's Redis."""
    program = servers.system_redis()
    assert program is not None, "asked for only where there is one"
    with servers.redis(program) as server:
        yield server


@pytest.fixture(params=_places(POSTGRES_URL, servers.system_postgres() is not None))
def postgres_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Make URLs of new namespaces, in every PostgreSQL that there is."""
    if request.param == "named":
        return partial(in_new_namespace, POSTGRES_URL)
    server: servers.Postgres = request.getfixturevalue(
        "postgres" if request.param == "wheel" else "old_postgres"
    )
    return server.url


@pytest.fixture(params=_places(REDIS_URL, servers.system_redis() is not None))
def redis_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Make URLs of new namespaces, in every Redis and Valkey that there is."""
    if request.param == "named":
        return partial(in_new_namespace, REDIS_URL)
    server: servers.Redis = request.getfixturevalue("valkey" if request.param == "wheel" else "old_redis")
    return server.url
