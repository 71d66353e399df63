"""Setup shared by all tests: signals, hypothesis, and the database servers of a test process."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

if TYPE_CHECKING:
    from tests.stores.servers import Postgres, Redis

ROOT = Path(__file__).resolve().parent.parent

# A shell starts a background job with SIGINT and SIGQUIT ignored, and nohup does so with SIGHUP. Every process that
# a test starts would inherit that, and a test that sends one of these signals would wait for nothing.
for _signal, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _default)
signal.pthread_sigmask(signal.SIG_SETMASK, [])

# Servers and commands that tests start would compile every module anew each time: half of what a start costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No deadline and no complaint about slowness: machines that run tests are busy. What failed once is
# kept in .hypothesis and tried first the next time; the report shows how to replay it elsewhere.
settings.register_profile(
    "ci",
    derandomize=False,
    deadline=None,
    print_blob=True,
    database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")

POSTGRES_URL = os.environ.get("EBBGATE_TEST_POSTGRES_URL", "")
REDIS_URL = os.environ.get("EBBGATE_TEST_REDIS_URL", "")


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """The newest PostgreSQL, from a wheel."""
    from tests.stores import servers

    with servers.postgres(servers.wheel_postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> "Iterator[Redis]":
    """The newest Valkey, from a wheel."""
    from tests.stores import servers

    with servers.redis(servers.wheel_redis()) as server:
        yield server


@pytest.fixture
def new_postgres(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Make URLs of new namespaces in one PostgreSQL: the one that is named, or the wheel's."""
    if POSTGRES_URL:
        return partial(in_new_namespace, POSTGRES_URL)
    server: Postgres = request.getfixturevalue("postgres")
    return server.url


@pytest.fixture
def new_valkey(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Make URLs of new namespaces in one Redis or Valkey: the one that is named, or the wheel's."""
    if REDIS_URL:
        return partial(in_new_namespace, REDIS_URL)
    server: Redis = request.getfixturevalue("valkey")
    return server.url


def in_new_namespace(url: str) -> str:
    """Return the URL of a namespace that nobody has."""
    from tests.stores.servers import new_name

    return f"{url}{'&' if '?' in url else '?'}namespace={new_name()}"
