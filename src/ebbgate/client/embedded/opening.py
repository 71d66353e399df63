"""From the address of a store to an embedded gate on it."""

import logging
import os
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.client.embedded.heritage import Heritage
from ebbgate.core.book import Book
from ebbgate.core.model import Settings
from ebbgate.settings import allow_empty_store, unknown_limits
from ebbgate.stores import open_store, path_of
from ebbgate.stores.base import EMPTY

_log: Final = logging.getLogger("ebbgate")


def canonical(url: str) -> str:
    """Return one address for all that name the same store.

    Raises:
        InvalidRequest: `url` names no store.
    """
    if urlsplit(url).scheme == "memory":
        return url
    return f"sqlite:///{quote(os.path.realpath(path_of(url)))}"


def open_gate(url: str, settings: Settings | None, heritage: Heritage | None = None) -> EmbeddedGate:
    """Open the store at a canonical address and return a gate on it.

    Args:
        url: of the store.
        settings: of a store that is opened for the first time.
        heritage: of the owner of the file, who has died.

    Raises:
        InvalidRequest: `url` names no store.
        StoreUnavailable: it cannot be opened.
    """
    store = open_store(url, allow_empty=allow_empty_store())
    path = path_of_file(url)
    if path is not None and not store.moved(EMPTY):
        _log.info("created a new, empty store: %s", path)
    settings = settings or Settings(unknown_limits=unknown_limits())
    try:
        return EmbeddedGate(store, path, Book(settings), heritage)
    except BaseException:
        store.close()
        raise


def path_of_file(url: str) -> Path | None:
    """Return the file of a store; None for one in memory."""
    return path_of(url) if url.startswith("sqlite:") else None
