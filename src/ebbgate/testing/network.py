"""A store behind a network as one whose methods block, so that one conformance suite serves both kinds.

Known limit: the loop and its thread are of one opening; nothing is shared among openings, as among processes.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ebbgate.core.model import Head
from ebbgate.stores import open_network_store
from ebbgate.stores.base import Delta, NetworkStore, Past, Row, Snapshot, Version
from ebbgate.testing.stores import PATIENCE_S

T = TypeVar("T")


class BlockingStore:
    """A `Store` that has a `NetworkStore` and a thread whose loop it runs on."""

    def __init__(self, make: Callable[[], NetworkStore]) -> None:
        """Start the thread; `make` is called on its loop."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.store = self.wait(_made(make))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def load(self) -> Snapshot:
        """See `Store.load`."""
        return self.wait(self.store.load())

    def commit(self, base: Version, tag: str, head: Head, rows: Sequence[Row]) -> Version:
        """See `Store.commit`."""
        return self.wait(self.store.commit(base, tag, head, rows))

    def changes_since(self, version: Version) -> Delta:
        """See `Store.changes_since`."""
        return self.wait(self.store.changes_since(version))

    def find(self, tag: str, base: Version) -> Version | None:
        """See `Store.find`."""
        return self.wait(self.store.find(tag, base))

    def recent(self, limit: int) -> list[Past]:
        """See `EmbeddedStore.recent`."""
        return self.wait(self.store.recent(limit))

    def clock(self) -> int:
        """See `Store.clock`. Who was never answered by the store asks it first."""
        self.wait(self.store.load())
        return self.store.clock()

    def close(self) -> None:
        """See `Store.close`; the thread ends too."""
        if self._loop.is_closed():
            return
        self.wait(self.store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


async def _made(make: Callable[[], NetworkStore]) -> NetworkStore:
    return make()


@dataclass(frozen=True)
class NetworkPlace:
    """One namespace of a store behind a network; it can be pickled."""

    url: str
    kept: int

    def open(self) -> BlockingStore:
        """Open the namespace, as one more server would."""
        return BlockingStore(lambda: open_network_store(self.url, keep=self.kept))
