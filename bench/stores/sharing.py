"""Databases of their own for the benchmark, and servers that share one."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.background import HOST
from bench.crew import Result, Start, Task
from bench.report import Line, NotHereError, Options, Remark, sync_ms
from bench.server.serving import Server, serving


@dataclass(frozen=True, slots=True)
class Database:
    """One that runs."""

    name: str
    namespace: Callable[[], str]
    """Returns the URL of a new one."""


@contextmanager
def databases() -> Iterator[list[Database]]:
    """Run PostgreSQL with every commit on the disk, and Valkey with its append-only file a second behind.

    Raises:
        NotHereError: the wheels that bring them are not installed.
    """
    try:
        from tests.stores import servers

        postgres, valkey = servers.wheel_postgres(), servers.wheel_redis()
    except (ImportError, AssertionError, ValueError) as error:
        raise NotHereError(f"there is no wheel with PostgreSQL or Valkey: {error}") from error
    safe = ("-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "shared_buffers=256MB")
    with (
        servers.postgres(postgres, *safe) as database,
        servers.redis(valkey, "--appendonly", "yes", "--appendfsync", "everysec") as store,
    ):
        yield [
            Database("PostgreSQL, synchronous_commit=on", database.url),
            Database("Valkey, AOF everysec", store.url),
        ]


def conditions(options: Options) -> Iterator[Line | Remark]:
    """Yield what all these numbers depend on."""
    yield Remark("servers, clients and databases share the cores of this machine")
    syncs = [sync_ms(8) for _ in range(options.repeats)]
    yield Line("disk, 8 KiB kept for good (fdatasync): each commit in PostgreSQL waits for that", syncs, "ms")


@contextmanager
def fleet(url: str, number: int, **limits: int) -> Iterator[list[Server]]:
    """Run so many servers on one namespace, which has these limits."""
    from ebbgate.client.client import Client

    with ExitStack() as stack:
        servers = [stack.enter_context(serving(url)) for _ in range(number)]
        with Client(servers[0].url) as client:
            for name, slots in limits.items():
                client.create_limit(name, slots)
        yield servers


def any_of(servers: list[Server]) -> str:
    """Return the URL of a client that may use any of them."""
    return "ebbgate://" + ",".join(f"{HOST}:{server.port}" for server in servers)


def at_its_server(function: Callable[[Task, Start], Result], task: Task, start: Start) -> Result:
    """Run a worker at the server that its task names."""
    os.environ["EBBGATE_URL"] = task["url"]
    return function(task, start)
