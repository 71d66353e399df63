"""The sending half of a connection of an event loop: what the socket does not take at once waits here."""

import asyncio
from collections.abc import Callable

from ebbgate.client.remote.dialling import Connection


class Outlet:
    """Used on the thread of its loop only."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, emptied: Callable[[], None]
    ) -> None:
        """Have nothing to send.

        Args:
            loop: tells when the socket takes more.
            connection: whose socket it is.
            emptied: is called when all was taken that had to wait, or the socket is broken.
        """
        self.unsent = b""
        self.error: OSError | None = None  # why nothing can be sent any more
        self._loop = loop
        self._connection = connection
        self._emptied = emptied

    def send(self, data: bytes) -> None:
        """Send some bytes; never twice while some are unsent."""
        self._send(data)
        if self.unsent:
            self._loop.add_writer(self._connection.fileno(), self._send_rest)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.error = error
            sent = len(data)
        self.unsent = data[sent:]

    def _send_rest(self) -> None:
        self._send(self.unsent)
        if not self.unsent:
            self._loop.remove_writer(self._connection.fileno())
            self._emptied()

    def close(self) -> None:
        """Wait for the socket no longer."""
        if self.unsent:
            self._loop.remove_writer(self._connection.fileno())
