"""Listener of a server with TLS: a connection takes a slot when it is accepted, before its handshake."""

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from functools import partial
from typing import Final

import uvicorn

from ebbgate.server.crowd import Seat
from ebbgate.server.http import HttpConfig, HttpSocket

HANDSHAKE_SECONDS: Final = 10.0
"""How long a TLS handshake may take."""

GOODBYE_SECONDS: Final = 5.0
"""How long a client may take to confirm the end of TLS."""

_ACCEPTED_MAX: Final = 64  # connections in one turn of the loop
_RETRY_SECONDS: Final = 0.1

_log: Final = logging.getLogger("ebbgate.server")


class TlsListener:
    """One listening socket; it stands where uvicorn keeps its own servers."""

    def __init__(
        self, listener: socket.socket, context: ssl.SSLContext, server: uvicorn.Server, config: HttpConfig
    ) -> None:
        """Accept connections on the running loop from now on."""
        self._listener, self._context, self._server, self._config = listener, context, server, config
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._begin()

    def _begin(self) -> None:
        self._retry = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_MAX):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is free
                _log.error("no connection can be accepted: %s", error)
                self._loop.remove_reader(self._listener.fileno())
                self._retry = self._loop.call_later(_RETRY_SECONDS, self._begin)
                return
            connection.setblocking(False)
            seat = self._config.crowd.arrive(address[0], partial(_cut, connection))
            task = self._loop.create_task(self._shake_hands(connection, seat))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket, seat: Seat) -> None:
        """Wait for the end of the handshake; then the connection is one of HTTP."""
        seconds = self._config.spare_seconds if seat.is_spare else HANDSHAKE_SECONDS
        is_made = False
        try:
            await self._loop.connect_accepted_socket(
                partial(self._protocol, seat), connection, ssl=self._context,
                ssl_handshake_timeout=seconds, ssl_shutdown_timeout=GOODBYE_SECONDS,
            )  # fmt: skip
            is_made = True
        except (OSError, TimeoutError):  # ssl.SSLError is one
            pass
        finally:
            if not is_made:
                seat.leave()

    def _protocol(self, seat: Seat) -> HttpSocket:
        protocol = HttpSocket(
            config=self._config, server_state=self._server.server_state, app_state=self._server.lifespan.state
        )
        protocol.seat = seat
        return protocol

    def close(self) -> None:
        """Accept no more connections, and end the handshakes that are not over."""
        if self._retry is not None:
            self._retry.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for task in self._handshakes:
            task.cancel()


def _cut(connection: socket.socket) -> None:
    """End a connection in the middle of its handshake."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
