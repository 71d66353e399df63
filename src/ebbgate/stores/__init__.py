"""Where the truth is kept. This is the only place that knows all stores; it imports them lazily."""

import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from ebbgate.errors import InvalidRequest, StoreUnavailable
from ebbgate.stores.base import EmbeddedStore, NetworkStore
from ebbgate.stores.network import namespace_of, take_out
from ebbgate.stores.rollups import HistoryStore, MemoryHistory
from ebbgate.version import requirement

_EXAMPLES: Final = "memory://, sqlite:///relative.db or sqlite:////absolute/path.db"
_POSTGRES: Final = frozenset({"postgresql", "postgres"})
_REDIS: Final = frozenset({"redis", "rediss", "valkey", "valkeys"})
_SECRET: Final = re.compile(r"((?:^|&)(?:ssl)?password=)[^&]*")
_NETWORK_EXAMPLES: Final = "postgresql://user@host/database or redis://host:6379/0, with ?namespace=name"


def is_network_url(url: str) -> bool:
    """Tell whether `url` names a store behind a network, which `open_network_store` opens."""
    return url.partition(":")[0].lower() in _POSTGRES | _REDIS


def in_namespace(url: str, name: str) -> str:
    """Return the URL of a namespace of the store that `url` names; it may name that one itself.

    Raises:
        InvalidRequest: it names another one, `name` can be none, or the store has none.
    """
    if not is_network_url(url):
        raise InvalidRequest(
            f"a namespace is part of a store that servers share ({_NETWORK_EXAMPLES}); a file is one by itself"
        )
    named = take_out(url, "namespace")[1].get("namespace")
    if named is None:
        return f"{url}{'&' if '?' in url else '?'}namespace={namespace_of({'namespace': name})}"
    if named != name:
        raise InvalidRequest(
            f"the URL of the store names the namespace {named!r}, the option {name!r}: give one"
        )
    return url


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition(':')[0]}:***"
    user, at, host = parts.netloc.rpartition("@")
    shown = f"{user.partition(':')[0]}:***" if ":" in user else user
    query = _SECRET.sub(r"\1***", parts.query)
    if (shown, query) == (user, parts.query):
        return url
    return urlunsplit(parts._replace(netloc=f"{shown}{at}{host}", query=query))


def open_network_store(url: str, *, keep: int = 10_000, upgrade: bool = True) -> NetworkStore:
    """Return the store that `url` names; it connects when it is first used.

    Args:
        url: `postgresql://user:password@host:5432/database?namespace=name&schema=ebbgate`, or
            `redis://user:password@host:6379/0?namespace=name` (also `rediss:`, `valkey:`, `valkeys:`).
        keep: how many commits the log keeps.
        upgrade: whether an older schema may be brought to the newest.

    Raises:
        InvalidRequest: `url` names no such store. Neither this nor any later error repeats a password.
        StoreUnavailable: what is needed to reach it is not installed.
    """
    scheme = url.partition(":")[0].lower()
    if scheme in _POSTGRES:
        try:
            from ebbgate.stores import postgres, postgres_url
        except ImportError as error:
            raise _not_installed("PostgreSQL", "postgres", error) from error
        return postgres.PostgresStore(postgres_url.place_of(url), upgrade=upgrade, keep=keep)
    if scheme in _REDIS:
        try:
            from ebbgate.stores import redis, redis_url
        except ImportError as error:
            raise _not_installed("Redis", "redis", error) from error
        return redis.RedisStore(redis_url.place_of(url), keep=keep)
    raise InvalidRequest(f"this names no store behind a network; write {_NETWORK_EXAMPLES}")


def _not_installed(what: str, extra: str, error: ImportError) -> StoreUnavailable:
    return StoreUnavailable(
        f"a store in {what} needs more than is installed ({error}): pip install {requirement(extra)}"
    )


def open_store(
    url: str, *, durability: Literal["normal", "full"] = "normal", allow_empty: bool = False
) -> EmbeddedStore:
    """Open the store that `url` names.

    Args:
        url: `memory://`, `sqlite:///relative.db` or `sqlite:////absolute/path.db`.
        durability: for SQLite: "full" has each commit on the disk before it is answered; with "normal" a
            power cut may take back the last ones.
        allow_empty: whether a file that lost its content may be opened.

    Raises:
        InvalidRequest: `url` names no store.
        StoreUnavailable: the store cannot be opened.
    """
    scheme = url.partition(":")[0]
    if scheme == "memory":
        if url not in {"memory:", "memory://", "memory:///"}:
            raise InvalidRequest(f"a store in memory has no name: write memory://, not {url!r}")
        from ebbgate.stores.memory import MemoryStore

        return MemoryStore()
    path = path_of(url)
    from ebbgate.stores.sqlite import SqliteStore

    return SqliteStore(path, durability=durability, allow_empty=allow_empty)


def open_history(url: str, *, upgrade: bool = True) -> HistoryStore:
    """Open the history of the store that `url` names; one behind a network connects when it is first used.

    Args:
        url: as for `open_store` or `open_network_store`.
        upgrade: whether an older schema may be brought to the newest.

    Raises:
        InvalidRequest: `url` names no store.
        StoreUnavailable: it cannot be opened.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryHistory()
    if scheme in _POSTGRES:
        from ebbgate.stores import postgres_url, rollups_postgres

        return rollups_postgres.PostgresHistory(postgres_url.place_of(url), upgrade=upgrade)
    if scheme in _REDIS:
        from ebbgate.stores import redis_url, rollups_redis

        return rollups_redis.RedisHistory(redis_url.place_of(url))
    from ebbgate.stores.rollups_sqlite import SqliteHistory

    return SqliteHistory(path_of(url))


def path_of(url: str) -> Path:
    """Return the file that an `sqlite:` URL names.

    Raises:
        InvalidRequest: it names none.
    """
    scheme = url.partition(":")[0]
    if is_network_url(url):
        raise InvalidRequest(
            f"a store at {scheme}:// is for servers (ebbgate serve --store); here use {_EXAMPLES}, "
            "or reach a server: ebbgate://host:4220"
        )
    if scheme != "sqlite":
        raise InvalidRequest(
            f"{without_password(url)!r} names no store; use {_EXAMPLES}; a server may also use {_NETWORK_EXAMPLES}"
        )
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/") or parts.path == "/":
        raise InvalidRequest(
            f"{url!r} names no file; use three slashes before a relative path, as in {_EXAMPLES}"
        )
    path = unquote(parts.path[1:])
    if path.startswith("~"):
        raise InvalidRequest(f"{url!r} has a ~, which nobody expands here: write the home folder out")
    return Path(path)
