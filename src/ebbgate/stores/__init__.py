"""Where the truth is kept. `open_store` is the only place that knows all stores, and imports them lazily."""

from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from ebbgate.errors import InvalidRequest
from ebbgate.stores.base import EmbeddedStore

_EXAMPLES: Final = "memory://, sqlite:///relative.db or sqlite:////absolute/path.db"
_LATER: Final = {"postgres", "postgresql", "redis", "rediss", "valkey", "valkeys"}


def open_store(url: str, *, durability: Literal["normal", "full"] = "normal") -> EmbeddedStore:
    """Open the store that `url` names.

    Args:
        url: `memory://`, `sqlite:///relative.db` or `sqlite:////absolute/path.db`.
        durability: for SQLite: "full" has each commit on the disk before it is answered; with "normal" a
            power cut may take back the last ones.

    Raises:
        InvalidRequest: `url` names no store.
        StoreUnavailable: the store cannot be opened.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        if url not in {"memory:", "memory://", "memory:///"}:
            raise InvalidRequest(f"a store in memory has no name: write memory://, not {url!r}")
        from ebbgate.stores.memory import MemoryStore

        return MemoryStore()
    path = path_of(url)
    from ebbgate.stores.sqlite import SqliteStore

    return SqliteStore(path, durability=durability)


def path_of(url: str) -> Path:
    """Return the file that an `sqlite:` URL names.

    Raises:
        InvalidRequest: it names none.
    """
    parts = urlsplit(url)
    if parts.scheme in _LATER:
        raise InvalidRequest(
            f"a store at {parts.scheme}:// comes with a later release; use {_EXAMPLES}, "
            "or reach a server: ebbgate://host:4220"
        )
    if parts.scheme != "sqlite":
        raise InvalidRequest(f"{url!r} names no store; use {_EXAMPLES}")
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/") or parts.path == "/":
        raise InvalidRequest(
            f"{url!r} names no file; use three slashes before a relative path, as in {_EXAMPLES}"
        )
    path = unquote(parts.path[1:])
    if path.startswith("~"):
        raise InvalidRequest(f"{url!r} has a ~, which nobody expands here: write the home folder out")
    return Path(path)
