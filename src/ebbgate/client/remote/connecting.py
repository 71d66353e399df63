"""The thread that connects a channel to a server, and again after every break, for as long as that is wanted.

Connecting may take seconds; done aside, it blocks no event loop, and no caller beyond its own timeout.
"""

import _thread
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from ebbgate.background import BackgroundThread
from ebbgate.client.remote.addresses import Address
from ebbgate.client.remote.dialling import Connection, Dialler, Stale
from ebbgate.errors import EbbgateError, InternalError, ServerUnavailable
from ebbgate.wire.stream import HelloItem

_log: Final = logging.getLogger("ebbgate")

PAUSE_FIRST_SECONDS: Final = 0.05
PAUSE_MAX_SECONDS: Final = 0.4
"""After a long absence of the server, its clients are back within this and half of it again."""

SEEK_FIRST_SECONDS: Final = 0.3
SEEK_MAX_SECONDS: Final = 5.0
"""How long to wait between two looks for a server that can reach its store."""

GREETINGS_MAX: Final = 3
"""How often one server is greeted in a row, if it knows the session under higher epochs."""


class Connectable(Protocol):
    """What is connected."""

    def hello(self) -> HelloItem | None:
        """Return the greeting of the next try; None: no connection is wanted any more."""

    def stale(self, hello: HelloItem, newest: int) -> None:
        """Hear that the store knows the session under a higher epoch."""

    def connected(self, connection: Connection, hello: HelloItem) -> None:
        """Take over a connection; called from the thread."""

    def not_connected(self, error: EbbgateError) -> None:
        """Hear that no server could be reached this time; called from the thread."""


class Connector:
    """Connects one channel."""

    def __init__(self, channel: Connectable, dialler: Dialler) -> None:
        """Do nothing before `start`."""
        self._channel = channel
        self._dialler = dialler
        self._guard = threading.Lock()
        self._is_running = False
        self._is_wanted = False
        self._over = threading.Event()
        self._soon = threading.Event()  # ends a pause
        self._failures = 0  # rounds since the last answer
        self._seeks = 0  # since then
        self._seek_at = 0.0  # not sooner than this, by the monotonic clock
        dialler.when_found(self.hurry)

    def start(self, broken: Address | None = None) -> None:
        """Have the channel connected; it is called again after every break, with the server that it was to.

        Raises:
            ServerUnavailable: no thread can be started.
        """
        if broken is not None:
            self._dialler.failed(broken)
        with self._guard:
            self._is_wanted = True
            if self._is_running or self._over.is_set():
                return
            self._is_running = True
        try:
            try:
                # Not a `threading.Thread`: its start waits for the thread, and its end runs Python code in whatever
                # thread drops it last, where an exception from a signal handler would vanish.
                _thread.start_new_thread(self._run, ())
            except RuntimeError:
                BackgroundThread(self._run, "ebbgate-connect").start()
        except RuntimeError as error:
            self._is_running = False
            raise ServerUnavailable(f"nothing can be connected: {error}", transient=False) from error

    def works(self) -> None:
        """Hear that the connection serves: after it breaks, another one is tried at once."""
        self._failures = self._seeks = 0

    def seek(self, stranded: Address, greet: Callable[[], HelloItem]) -> None:
        """Have the channel connected to a server that serves; until there is one it keeps the connection that it has.

        Where the store is down for all, thousands of clients seek in vain: so they do it more and more rarely.

        Args:
            stranded: the server that cannot reach its store.
            greet: makes a greeting for another one.
        """
        now = time.monotonic()
        with self._guard:
            if not self._dialler.has_others or now < self._seek_at or self._over.is_set():
                return
            pause = min(SEEK_FIRST_SECONDS * 2 ** min(self._seeks, 10), SEEK_MAX_SECONDS)
            self._seek_at = now + pause * self._dialler.chance.uniform(0.5, 1.5)
            self._seeks += 1
        with contextlib.suppress(RuntimeError):  # no thread can be started: it is tried again
            BackgroundThread(lambda: self._seek(stranded, greet), "ebbgate-connect").start()

    def _seek(self, stranded: Address, greet: Callable[[], HelloItem]) -> None:
        for address in self._dialler.order():
            if address == stranded or self._over.is_set():
                continue
            hello = greet()
            try:
                connection = self._dialler.dial(address, hello)
            except Stale as stale:
                self._channel.stale(hello, stale.newest)
            except EbbgateError as error:
                self._dialler.failed(address)
                _log.debug("no better server there: %s", error)
            else:
                self._dialler.failed(stranded)
                self._channel.connected(connection, hello)
                return

    def hurry(self) -> None:
        """Try again at once: another one has just found a server."""
        self._soon.set()

    def stop(self) -> None:
        """Connect no more."""
        self._over.set()
        self._soon.set()

    def _run(self) -> None:
        while True:
            with self._guard:
                if not self._is_wanted or self._over.is_set():
                    self._is_running = False
                    return
                self._is_wanted = False
            try:
                self._connect()
            except BaseException:  # noqa: BLE001 - callers wait for it: they hear of it, and ask again
                _log.exception("a defect: connecting failed")
                self._channel.not_connected(InternalError("connecting failed; this is a defect of ebbgate"))

    def _connect(self) -> None:
        """Try one server after the other until there is a connection, or until none is wanted."""
        while not self._is_over_after_a_pause():
            self._failures += 1
            for address in self._dialler.order():
                try:
                    if self._is_seen_to(address):
                        return
                except EbbgateError as error:
                    self._dialler.failed(address)
                    self._dialler.away(error)
                    self._channel.not_connected(error)

    def _is_seen_to(self, address: Address) -> bool:
        """Connect to a server; return whether there is a connection now, or none is wanted any more.

        Raises:
            EbbgateError: the server cannot be reached.
        """
        for _ in range(GREETINGS_MAX):
            hello = self._channel.hello()
            if hello is None:
                return True
            try:
                connection = self._dialler.dial(address, hello)
            except Stale as stale:
                self._channel.stale(hello, stale.newest)  # it is there: greet it again, at once
                continue
            if self._over.is_set():
                connection.close()
            else:
                self._channel.connected(connection, hello)
                self._dialler.found(self.hurry)
            return True
        return False

    def _is_over_after_a_pause(self) -> bool:
        self._soon.wait(self._pause_seconds())
        self._soon.clear()
        return self._over.is_set()

    def _pause_seconds(self) -> float:
        """Return how long to wait before the next try: nothing for the first, and never in step with others."""
        pause = self._dialler.pause_seconds()
        if self._failures:
            grown = PAUSE_FIRST_SECONDS * 2 ** min(self._failures - 1, 10)
            pause = max(pause, min(grown, PAUSE_MAX_SECONDS) * self._dialler.chance.uniform(0.5, 1.5))
        return pause
