"""A network that misbehaves: TCP connections that are cut, delayed, or fall silent, one by one.

A `Network` is one thread; each `Proxy` of it has a port for each of the same servers. What is silent loses
nothing: it arrives when the silence is over, as it does where packets are sent again.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Literal, Self, TypeVar

T = TypeVar("T")

How = Literal["fin", "reset"]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Pipe:
    """One direction of a connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.delay_seconds = 0.0
        self.is_silent = False
        self.is_over = False  # the end was passed on
        self.to: asyncio.Transport | None = None
        self._loop = loop
        self._under_way: deque[tuple[float, bytes]] = deque()  # (when it arrives, what; b"" is the end)
        self._timer: asyncio.TimerHandle | None = None

    def put(self, data: bytes) -> None:
        """Send `data` on its way; what was sent before arrives before."""
        due = self._loop.time() + self.delay_seconds
        if self._under_way:
            due = max(due, self._under_way[-1][0])
        self._under_way.append((due, data))
        self.pass_on()

    def pass_on(self) -> None:
        """Pass on what has arrived."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_silent or self.to is None:
            return
        while self._under_way and not self.is_over:
            due, data = self._under_way[0]
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self.pass_on)
                return
            self._under_way.popleft()
            if self.to.is_closing():
                self.is_over = True
            elif data:
                self.to.write(data)
            else:
                self.is_over = True
                with contextlib.suppress(OSError):  # it has gone by itself
                    self.to.write_eof()

    def close(self) -> None:
        """Pass on nothing any more."""
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()


class End(asyncio.Protocol):
    """One end of a connection: what it hears goes to the other one."""

    def __init__(self, wire: "Wire", hears: Pipe, says: Pipe) -> None:
        self._wire, self._hears, self._says = wire, hears, says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._says.to = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire.transports.append(transport)
        self._says.pass_on()

    def data_received(self, data: bytes) -> None:
        self._hears.put(data)

    def eof_received(self) -> bool:
        self._hears.put(b"")
        self._wire.end_if_over()
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        self._says.is_over = True
        if exc is not None and not self._hears.is_silent:
            self._wire.cut("reset")
        else:
            self._hears.put(b"")
            self._wire.end_if_over()


class Wire:
    """One connection through a proxy."""

    def __init__(self, proxy: "Proxy", loop: asyncio.AbstractEventLoop) -> None:
        self.up, self.down = Pipe(loop), Pipe(loop)
        self.transports: list[asyncio.Transport] = []
        self._proxy = proxy

    def cut(self, how: How) -> None:
        """Close it at both ends."""
        self._proxy.wires.discard(self)
        for pipe in (self.up, self.down):
            pipe.close()
        for transport in self.transports:
            if how == "reset":
                sock: socket.socket = transport.get_extra_info("socket")
                if sock.fileno() >= 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                transport.abort()
            else:
                transport.close()

    def end_if_over(self) -> None:
        """Close it if both directions have ended."""
        if self.up.is_over and self.down.is_over:
            self.cut("fin")

    def silence(self, *, up: bool = False, down: bool = False) -> None:
        """Let nothing through in these directions; in the others all that is under way."""
        self.up.is_silent, self.down.is_silent = up, down
        for pipe in (self.up, self.down):
            pipe.pass_on()
        self.end_if_over()


class Proxy:
    """Ports that lead to the servers. Everything is said and done on the thread of its network."""

    def __init__(self, ports: Sequence[int], loop: asyncio.AbstractEventLoop) -> None:
        self.wires: set[Wire] = set()
        self.ports: list[int] = []
        self.delay_seconds = 0.0  # of new connections, in each direction
        self._server_ports = ports
        self._loop = loop
        self._servers: list[asyncio.Server] = []
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The servers, for clients."""
        return "ebbgate://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    async def start(self) -> None:
        for port in self._server_ports:
            server = await self._loop.create_server(partial(self._accepted, port), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    def _accepted(self, server_port: int) -> End:
        wire = Wire(self, self._loop)
        wire.up.delay_seconds = wire.down.delay_seconds = self.delay_seconds
        self.wires.add(wire)
        task = self._loop.create_task(self._connect(wire, server_port))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return End(wire, wire.up, wire.down)

    async def _connect(self, wire: Wire, server_port: int) -> None:
        try:
            await self._loop.create_connection(
                lambda: End(wire, wire.down, wire.up), "127.0.0.1", server_port
            )
        except OSError:
            wire.cut("reset")
            return
        if wire not in self.wires:
            wire.cut("reset")  # it was cut meanwhile

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._connecting):
            task.cancel()
        for wire in list(self.wires):
            wire.cut("reset")
        for server in self._servers:
            await server.wait_closed()


class Network:
    """Proxies to some servers, on a thread of their own."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network-of-a-test")
        self._proxies: list[Proxy] = []

    def proxy(self) -> Proxy:
        """Return a new way to the servers."""
        made = Proxy(self._ports, self._loop)
        asyncio.run_coroutine_threadsafe(made.start(), self._loop).result(10)
        self._proxies.append(made)
        return made

    def within(self, does: Callable[[], T]) -> T:
        """Do something on the thread of the network."""

        async def done() -> T:
            return does()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for proxy in self._proxies:
            asyncio.run_coroutine_threadsafe(proxy.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(asyncio.sleep(0.01))  # what was aborted is closed
        self._loop.close()
