"""Who waits over REST: a request is held open until its lease is granted, or until its time is up."""

import asyncio

from ebbgate.core.book import Book
from ebbgate.core.commands import Told
from ebbgate.server.decider import Decider

PREFIX = "rest"


def session_of(key: str) -> str:
    """Return the session that the REST callers with one API key share: so nobody else ends their leases."""
    return f"{PREFIX}-{key}" if key else PREFIX


class Hearing:
    """The open requests of one server, by lease."""

    def __init__(self, decider: Decider) -> None:
        """Nobody waits yet."""
        self._futures: dict[str, set[asyncio.Future[None]]] = {}
        self.draining = asyncio.Event()
        decider.audiences.append(self)

    async def heard(self, lease_id: str, timeout_seconds: float) -> None:
        """Return when something has become of a lease, when the server stops, or after the timeout."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        futures = self._futures.setdefault(lease_id, set())
        futures.add(future)
        try:
            async with asyncio.timeout(timeout_seconds):
                await future
        except TimeoutError:
            pass
        finally:
            futures.discard(future)
            if not futures:
                self._futures.pop(lease_id, None)

    def wake(self, lease_id: str) -> None:
        """Have those look again who wait for a lease."""
        for future in self._futures.get(lease_id, ()):
            if not future.done():
                future.set_result(None)

    def drain(self) -> None:
        """End all long polls: the server stops."""
        self.draining.set()
        for lease_id in list(self._futures):
            self.wake(lease_id)

    def tell(self, told: Told) -> bool:
        """See `Audience`."""
        if told.id not in self._futures:
            return False
        self.wake(told.id)
        return True

    def is_mine(self, session: str) -> bool:
        """See `Audience`."""
        return session == PREFIX or session.startswith(PREFIX + "-")

    def hurry(self) -> None:
        """See `Audience`: nobody here renews by himself."""

    def reloaded(self, book: Book) -> None:
        """See `Audience`: have everybody look again."""
        del book
        for lease_id in list(self._futures):
            self.wake(lease_id)
