"""What the stores behind a network share: one link for calls, another one for news, and the clock between them."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Final, Generic, TypeVar

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Delta, Version
from ebbgate.stores.link import Link
from ebbgate.stores.network_clock import NetworkClock

_log: Final = logging.getLogger("ebbgate.stores")

LOOK_SECONDS: Final = 1.0
"""How often the version and the clock are looked at when nobody tells anything."""

PAUSE_SECONDS: Final = 0.001
"""How long news are collected before the next are heard: a busy namespace has thousands a second."""

C = TypeVar("C")  # a connection


class LinkedStore(ABC, Generic[C]):
    """The part of a `NetworkStore` that is the same whatever database answers."""

    _link: Link[C]
    _ear: Link[C]
    _clock: NetworkClock
    _closed = False

    async def changes_since(self, version: Version) -> Delta:
        """See `NetworkStore.changes_since`."""
        return await self._link.run(lambda connection: self._changes_since(connection, version), again=True)

    async def find(self, tag: str, base: Version) -> Version | None:
        """See `Store.find`."""
        return await self._link.run(lambda connection: self._find(connection, tag, base), again=True)

    def clock(self) -> int:
        """See `NetworkStore.clock`."""
        return self._clock.now_us()

    async def watch(self) -> AsyncIterator[None]:
        """See `NetworkStore.watch`."""
        while not self._closed:
            try:
                moved = await self._ear.run(self._hear)
            except StoreUnavailable:
                yield
                await asyncio.sleep(LOOK_SECONDS)
            else:
                if moved:
                    yield
                    await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """See `NetworkStore.close`."""
        self._closed = True
        await self._ear.close()
        await self._link.close()

    async def _record(self, connection: C) -> None:
        """Record in the store how far its clock is ahead of the time in use, if it stepped; see `NetworkClock`."""
        behind_us = self._clock.to_record()
        if behind_us is not None:
            _log.warning(
                "clock of the store stepped; rates, cool-downs and expiry continue with the server's own clock",
                extra={"store_ahead_seconds": behind_us / 1e6},
            )
            await self._write_behind(connection, behind_us)
            self._clock.recorded(behind_us)

    @abstractmethod
    async def _write_behind(self, connection: C, behind_us: int) -> None:
        """Record how far the store's clock is ahead of the time in use."""

    @abstractmethod
    async def _changes_since(self, connection: C, version: Version) -> Delta:
        """Ask for what was committed since a version."""

    @abstractmethod
    async def _find(self, connection: C, tag: str, base: Version) -> Version | None:
        """Ask for a commit by its tag."""

    @abstractmethod
    async def _hear(self, connection: C) -> bool:
        """Wait for news, and return whether there are any that this process does not know."""
