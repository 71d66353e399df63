"""Connections to Redis and Valkey: how they are made, checked, broken and asked."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis import exceptions
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.link import CONNECT_SECONDS
from ebbgate.stores.redis_errors import unavailable
from ebbgate.stores.redis_url import RedisPlace
from ebbgate.version import requirement

_log: Final = logging.getLogger("ebbgate.stores")

FORMAT: Final = 1
"""What this release writes; a store that says a higher number was taken over by a newer one."""

REDIS_MIN: Final = 7

Command = Sequence[str | bytes | int]


class Facts(NamedTuple):
    """What a server says of itself, as far as it matters."""

    version: int
    role: str
    policy: str  # what it removes when it is full
    is_durable: bool  # whether it writes what it is told to a disk at once or within a second


class RedisWire:
    """See `link.Wire`."""

    errors: tuple[type[Exception], ...] = (exceptions.RedisError, OSError, asyncio.IncompleteReadError)

    def __init__(self, place: RedisPlace) -> None:
        """Connect to nothing yet."""
        self._place = place
        self._warned = False

    async def connect(self) -> Connection:
        """See `link.Wire`."""
        connection = self._place.connection()
        connection.retry = Retry(NoBackoff(), 0)  # a commit must not be sent twice
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
                await self._check(connection)
        except BaseException:
            await self.close(connection)
            raise
        return connection

    def is_alive(self, connection: Connection) -> bool:
        """See `link.Wire`."""
        return bool(connection.is_connected)

    def cut(self, connection: Connection) -> None:
        """See `link.Wire`."""
        if connection._writer is not None:
            connection._writer.transport.abort()

    async def close(self, connection: Connection) -> None:
        """See `link.Wire`."""
        await connection.disconnect(nowait=True)

    def unavailable(self, error: Exception | None, doing: str) -> StoreUnavailable:
        """See `link.Wire`."""
        return unavailable(error, self._place, doing)

    async def _check(self, connection: Connection) -> None:
        """Refuse a server that would not keep what it is told.

        Raises:
            StoreUnavailable: it is too old, a replica, drops keys when it is full, or belongs to a newer release.
        """
        place = self._place
        info, number = await ask(connection, ("INFO",), ("HGET", place.key("head"), "format"))
        facts = facts_of(info.decode())
        if facts.version < REDIS_MIN:
            raise StoreUnavailable(
                f"the store {place} is Redis {facts.version}; Redis 7 or Valkey 8 is needed"
            )
        if facts.role != "master":
            raise StoreUnavailable(
                f"the store {place} is a replica, which cannot be written; name the primary"
            )
        if facts.policy.startswith("allkeys"):
            raise StoreUnavailable(
                f"the store {place} drops any key when it is full (maxmemory-policy {facts.policy}), so leases would "
                "vanish; set maxmemory-policy noeviction, or take another server"
            )
        if number is not None and int(number) > FORMAT:
            raise StoreUnavailable(
                f"the store {place} was taken over by a newer ebbgate (format {int(number)}, known here: {FORMAT}); "
                f"upgrade ebbgate: pip install --upgrade {requirement('redis')}"
            )
        if not facts.is_durable and not self._warned:
            self._warned = True
            _log.warning(
                "the store %s has no append-only file: a restart loses everything since its last snapshot; "
                "set appendonly yes", place,
            )  # fmt: skip


def facts_of(info: str) -> Facts:
    """Return what the answer to INFO tells."""
    said = dict(line.split(":", 1) for line in info.splitlines() if ":" in line and not line.startswith("#"))
    return Facts(
        int(said.get("redis_version", "0").split(".")[0]),
        said.get("role", "master"),
        said.get("maxmemory_policy", ""),
        said.get("aof_enabled", "1") == "1",
    )


async def ask(connection: Connection, *commands: Command) -> list[Any]:
    """Send commands in one go and return all answers.

    Raises:
        exceptions.RedisError: the first of them that failed; all answers were read, so the connection is in step.
    """
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    failed: exceptions.ResponseError | None = None
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except exceptions.ResponseError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return answers
