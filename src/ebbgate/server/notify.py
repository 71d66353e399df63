"""What systemd is told about this process, through the datagram socket that it names.

Source: sd_notify(3) and systemd.service(5), `WatchdogSec=`.
"""

import logging
import socket
from typing import Final

_log: Final = logging.getLogger("ebbgate.server")


class Notifier:
    """Tells a service manager; without one it does nothing."""

    def __init__(self, address: str | None, *, watchdog_seconds: float | None = None) -> None:
        """Tell whoever listens at `address`.

        Args:
            address: a path, or an abstract name after `@`.
            watchdog_seconds: after how long without a sign of life the service manager takes this for dead.
        """
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._watchdog_seconds = watchdog_seconds if address else None

    def tell(self, *facts: str) -> None:
        """Send facts such as `READY=1`; one that cannot be sent is no reason to stop."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(facts).encode(), self._address)
        except OSError as error:
            _log.warning("the service manager cannot be told %s: %s", facts[0], error)

    def pause_seconds(self, at_most: float) -> float:
        """Return how long to wait before the next sign of life."""
        return min(at_most, self._watchdog_seconds / 3) if self._watchdog_seconds else at_most

    def tell_alive(self) -> None:
        """Give a sign of life, if somebody waits for it."""
        if self._watchdog_seconds:
            self.tell("WATCHDOG=1")
