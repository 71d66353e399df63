"""Opening a connection to one of several servers: sockets, the upgrade, the greeting. It blocks, in a thread."""

import contextlib
import errno
import logging
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from websockets.exceptions import InvalidState

from ebbgate.client.locks import is_from_the_system
from ebbgate.client.progress import next_moment_us
from ebbgate.client.remote.addresses import Address
from ebbgate.client.remote.line import Broken, Line, Message
from ebbgate.core.commands import Outcome
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, NoAnswerWarning, NotAuthorized, ServerUnavailable, warn
from ebbgate.neighbours.polls import new_poll
from ebbgate.wire.stream import ByeItem, Down, FailedItem, HelloItem, RefusedItem, error_of, outcome_of
from ebbgate.wire.words import duration

_log: Final = logging.getLogger("ebbgate")

DIAL_SECONDS: Final = 5.0
"""How long one server is given to accept a connection and answer the greeting."""

DIAL_OTHERS_SECONDS: Final = 1.0
"""The same where another server could be tried instead."""

DOUBT_SECONDS: Final = 5.0
"""For how long the others are tried before a server that has failed."""

SEND_SECONDS: Final = 20.0
"""A server that takes nothing for so long is given up."""

NEW_ABSENCE_SECONDS: Final = 30.0
"""If nobody was dialled for so long, how long servers were away before does not count."""

READ_BYTES: Final = 1 << 16
"""How much is read at once: for more, the memory allocator asks the kernel anew at every read."""

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPALIVE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


class Stale(Exception):  # noqa: N818 - it is told, not raised by mistake
    """The store knows this session under a higher epoch."""

    def __init__(self, newest: int) -> None:
        """Say under which."""
        self.newest = newest
        super().__init__(newest)


class Connection:
    """A connection that was greeted: its socket, which does not block, its line, and what came already."""

    def __init__(self, sock: socket.socket, line: Line, address: Address) -> None:
        """Take over a connected socket."""
        self.sock = sock
        self.line = line
        self.address = address
        self.early: list[Message] = []
        self._fd = sock.fileno()

        self._poll = new_poll()
        self._poll.register(self._fd, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor of its socket."""
        return self._fd

    def is_readable(self, patience_us: int) -> bool:
        """Wait until there is something to read, or the end; for so long at most."""
        return bool(self._poll.poll(max(patience_us, 0) / 1_000))

    def send(self, data: bytes) -> None:
        """Send all of it; waits while the server takes nothing.

        Raises:
            OSError: the connection is broken.
        """
        sent = 0
        while True:
            try:
                sent += self.sock.send(data[sent:] if sent else data)
            except BlockingIOError:
                self._wait_until_it_takes_more()
            if sent == len(data):
                return

    def _wait_until_it_takes_more(self) -> None:
        poll = new_poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(SEND_SECONDS * 1_000):
            raise TimeoutError(errno.ETIMEDOUT, f"the server took nothing for {SEND_SECONDS:g} s")

    def shut_down(self) -> None:
        """Have whoever reads or writes it see its end."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if not is_from_the_system(error):
                raise

    def part(self, byes: Sequence[ByeItem], unsent: bytes, patience_us: int) -> None:
        """Say good-bye after what was not sent yet, wait until it was heard, and close; it blocks for so long."""
        deadline = time.monotonic() + patience_us / SECOND
        with contextlib.suppress(OSError, Broken, EbbgateError, InvalidState):  # they will be missed instead
            self.line.say(byes)
            self.send(unsent + self.line.to_send())
            while self.is_readable(round((deadline - time.monotonic()) * SECOND)):
                messages = self.line.receive(self.sock.recv(READ_BYTES))
                last = byes[-1].number if byes else -1
                if any(getattr(item, "number", 0) == last for _, items in messages for item in items):
                    break
        self.close()

    def close(self) -> None:
        """Close the socket, and nothing else: what the kernel was given is still sent."""
        try:
            self.sock.close()
        except OSError as error:
            if not is_from_the_system(error):
                raise


class Dialler:
    """Knows where the servers are, and which of them are worth trying."""

    def __init__(
        self, addresses: Sequence[Address], api_key: str | None, tls: Callable[[], ssl.SSLContext]
    ) -> None:
        """Connect to nothing yet.

        Args:
            addresses: of the servers; any of them will do.
            api_key: is sent along.
            tls: makes the context for secure ones; called at the first of them.
        """
        self.addresses = tuple(addresses)
        self._api_key = api_key
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self.chance = Random()  # noqa: S311 - its own: programs may have seeded everybody's
        self._not_before: dict[Address, float] = {}  # servers that have asked not to come back sooner
        self._failed_at: dict[Address, float] = {}  # when servers failed last
        # Not a WeakSet: its callbacks are Python code, in which an exception from a signal handler would vanish.
        self._sockets: dict[int, weakref.ref[socket.socket]] = {}
        self._seekers: list[weakref.WeakMethod[Callable[[], None]]] = []
        self._was_found = False  # whether any server ever answered
        self._away_at = 0.0  # since when none has, and when that was seen last, by the monotonic clock
        self._still_away_at = -NEW_ABSENCE_SECONDS
        self._told_us = 0  # of how long an absence was told last
        self._telling = threading.Lock()

    def when_found(self, hurry: Callable[[], None]) -> None:
        """Have a method called, for as long as its object lives, when another seeker has found a server."""
        self._seekers = [known for known in self._seekers if known() is not None] + [
            weakref.WeakMethod(hurry)
        ]

    def found(self, finder: Callable[[], None]) -> None:
        """Have all others look again at once: a server is there."""
        self._was_found, self._still_away_at = True, -NEW_ABSENCE_SECONDS
        for known in self._seekers:
            hurry = known()
            if hurry is not None and hurry != finder:
                hurry()

    def leave(self, address: Address, seconds: float) -> None:
        """Keep away from a server that stops, for about so long."""
        self._not_before[address] = time.monotonic() + seconds * self.chance.uniform(1.0, 1.5)

    @property
    def has_others(self) -> bool:
        """Tell whether another server could be tried instead of one."""
        return len(self.addresses) > 1

    def failed(self, address: Address) -> None:
        """Try the others first for a while: this server does not answer, or a connection to it broke."""
        self._failed_at[address] = time.monotonic()

    def away(self, error: EbbgateError) -> None:
        """Hear that no server answered this time; log it after 2 s and rarely from then on, for all who seek one.

        A server that never answered is perhaps not the one that is meant, or was not started: that is a warning.
        """
        with self._telling:
            now = time.monotonic()
            if now - self._still_away_at >= NEW_ABSENCE_SECONDS:
                self._away_at, self._told_us = now, 0
            self._still_away_at = now
            away_us, told_us = round((now - self._away_at) * SECOND), self._told_us
            if away_us < next_moment_us(told_us):
                return
            self._told_us = away_us
        message = f"no answer for {duration(away_us / SECOND)}, it is tried again: {error}"
        _log.log(logging.INFO if self._was_found else logging.WARNING, "%s", message)
        if not (self._was_found or told_us):
            with contextlib.suppress(
                NoAnswerWarning
            ):  # an error by the user's filters: nobody could catch it
                warn(message, NoAnswerWarning)

    def order(self) -> list[Address]:
        """Return all servers in the order in which they are to be tried: by chance, those that stop or fail last."""
        now = time.monotonic()

        def doubt(address: Address) -> tuple[bool, bool]:
            return (
                self._not_before.get(address, now) > now,
                self._failed_at.get(address, -DOUBT_SECONDS) > now - DOUBT_SECONDS,
            )

        return sorted(self.chance.sample(self.addresses, len(self.addresses)), key=doubt)

    def pause_seconds(self) -> float:
        """Return how long to wait because all servers have asked for it."""
        now = time.monotonic()
        return max(min(self._not_before.get(address, now) - now for address in self.addresses), 0.0)

    def dial(self, address: Address, hello: HelloItem) -> Connection:
        """Connect to a server and greet it.

        Raises:
            ServerUnavailable: it does not answer.
            NotAuthorized: it refuses the API key.
            Stale: the greeting's epoch was used before.
        """
        seconds = DIAL_OTHERS_SECONDS if self.has_others else DIAL_SECONDS
        deadline = time.monotonic() + seconds
        try:
            sock = _connected(address, seconds)
            self._remember(sock)
            try:
                return self._greet(sock, address, hello, deadline)
            except BaseException:
                sock.close()
                raise
        except TimeoutError:
            raise ServerUnavailable(f"{address} did not answer within {seconds:g} s") from None
        except (OSError, Broken) as error:
            raise ServerUnavailable(
                f"no server answers at {address} ({getattr(error, 'strerror', None) or error}); "
                "start one: ebbgate serve"
            ) from error

    def abandon(self) -> None:
        """Close this process's copies of all sockets after a fork; over none of them anything is said."""
        for found in list(self._sockets.values()):
            sock = found()
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()

    def _remember(self, sock: socket.socket) -> None:
        for key, found in list(self._sockets.items()):
            if found() is None:
                self._sockets.pop(key, None)
        self._sockets[id(sock)] = weakref.ref(sock)

    def _greet(self, sock: socket.socket, address: Address, hello: HelloItem, deadline: float) -> Connection:
        if address.secure and self._tls is None:
            self._tls = self._make_tls()
        line = Line(address, self._api_key, self._tls if address.secure else None)
        connection = Connection(sock, line, address)
        greeted = False
        while True:
            data = line.to_send()
            if data:
                sock.sendall(data)
            if line.is_open and not greeted:
                line.say((hello,))
                greeted = True
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
            connection.early += line.receive(sock.recv(READ_BYTES))
            if _is_answered(connection.early, hello.number):
                sock.setblocking(False)
                return connection


def _connected(address: Address, seconds: float) -> socket.socket:
    if address.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds)
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((address.host, address.port), seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


def _is_answered(messages: list[Message], number: int) -> bool:
    """Take the answer to a greeting out of what was received; tell whether it was there.

    Raises:
        ServerUnavailable, NotAuthorized, Stale: it is a refusal.
    """
    for _, items in messages:
        for item in items:
            if getattr(item, "number", 0) == number:
                items.remove(item)
                error = refusal_of(item)
                if error is not None:
                    raise error
                return True
    return False


def refusal_of(item: Down) -> EbbgateError | Stale | None:
    """Return what it means if an answer refuses a greeting; None: it is welcome."""
    if isinstance(item, FailedItem):
        error = error_of(item)
        return ServerUnavailable(str(error), transient=item.transient)
    outcome: Outcome = outcome_of(item)
    if not isinstance(item, RefusedItem):
        return None
    if item.code == "stale_session":
        newest = item.details.get("newest")
        return Stale(newest if isinstance(newest, int) else 0)
    if item.code == NotAuthorized.code:
        return NotAuthorized(str(item.details.get("message", "the server refused this client")))
    return ServerUnavailable(f"the server refused this client: {outcome}")
