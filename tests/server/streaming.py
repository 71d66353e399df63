"""A server of streams, in this process or as one of its own, and a client that speaks item by item.

Run as a program it serves until it is killed: `python -m tests.server.streaming OPTIONS`, which are JSON.
"""

import asyncio
import json
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
import uvloop
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from ebbgate.core.model import SECOND, Settings
from ebbgate.server.embedded_decider import EmbeddedDecider
from ebbgate.server.sessions import Sessions
from ebbgate.server.socket import StreamSocket
from ebbgate.server.stream import Receive, Scope, Send, Stream
from ebbgate.stores import open_store
from ebbgate.wire.stream import (
    PATH,
    AcquireItem,
    AskItem,
    ByeItem,
    DeleteItem,
    Down,
    HeldItem,
    HelloItem,
    PutItem,
    ReleaseItem,
    RenewItem,
    RevokeItem,
    Role,
    Up,
    decode_down,
    encode_up,
)

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
LEASE_US = 60 * SECOND


class Core:
    """What a server of streams consists of, on the loop that runs."""

    def __init__(
        self,
        url: str,
        durability: Any = "full",  # noqa: ANN401 - a literal that comes from JSON as well
        lease_min_seconds: float = 0.05,
        away_grace_seconds: float = 10.0,
        recovery_grace_seconds: float = 0.0,
    ) -> None:
        """Open the store; the graces are as short as the test says."""
        path = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None
        self.recovery_seconds = recovery_grace_seconds
        self.decider = EmbeddedDecider(
            open_store(url, durability=durability),
            path,
            Settings(lease_duration_min_us=round(lease_min_seconds * SECOND)),
            recovery_grace_us=round(recovery_grace_seconds * SECOND),
        )
        self.sessions = Sessions(self.decider, away_grace_us=round(away_grace_seconds * SECOND))
        self.stream = Stream(self.decider, self.sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, with the API key that a header names."""
        scope["ebbgate.key"] = dict(scope["headers"]).get(b"x-key", b"").decode()
        await self.stream(scope, receive, send)

    async def serve(self, started: Callable[[int], None], stopping: asyncio.Event) -> None:
        """Serve until `stopping`; `started` hears the port."""
        config = uvicorn.Config(
            self, host="127.0.0.1", port=0, ws=StreamSocket, log_config=None, log_level="error",
            ws_max_size=1 << 20, ws_per_message_deflate=False, ws_ping_interval=None, lifespan="off",
            access_log=False, backlog=4096,
        )  # fmt: skip
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await self.decider.start()
        missing = asyncio.get_running_loop().call_later(self.recovery_seconds, self.sessions.miss_absent)
        await server.startup()
        started(server.servers[0].sockets[0].getsockname()[1])
        await stopping.wait()
        missing.cancel()
        self.sessions.close()
        await server.shutdown()
        await self.decider.close()


class StreamServer:
    """A server in a thread of this process."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - as `Core` has them
        """Start it; returns when it listens."""
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(url, options), name="server")
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS), "the server did not start"
        assert self._failed is None, self._failed

    def _run(self, url: str, options: dict[str, Any]) -> None:
        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            self.stopping = asyncio.Event()
            self.core = Core(url, **options)

            def started(port: int) -> None:
                self.port = port
                self._ready.set()

            await self.core.serve(started, self.stopping)

        try:
            uvloop.run(main())
        except BaseException as error:
            self._failed = error
            self._ready.set()

    def within(self, work: Callable[[Core], T]) -> T:
        """Return what `work` returns, run on the server's loop."""

        async def run() -> T:
            return work(self.core)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_SECONDS)

    def stop(self) -> None:
        """End it."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"
        assert self._failed is None, self._failed


class ServerProcess:
    """A server that is a process of its own, to be killed and stopped."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - as `Core` has them
        """Start it; returns when it listens."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.streaming", json.dumps({"url": url, **options})],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server ended with {self.process.wait(10)}"
        self.port = int(line)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Closed(Exception):  # noqa: N818 - what was waited for
    """The server closed the connection."""

    def __init__(self, code: int, reason: str) -> None:
        """Keep what it said."""
        self.code, self.reason = code, reason
        super().__init__(f"closed with {code}: {reason}")


class Talker:
    """One connection, on a plain socket; it greets if it is given a session."""

    def __init__(
        self,
        port: int,
        session: str = "",
        epoch: int = 1,
        *,
        role: Role = "main",
        key: str = "",
        buffer: int = 0,
    ) -> None:
        """Connect; the kernel keeps `buffer` bytes that were not read."""
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(PATIENCE_SECONDS)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{PATH}"), max_size=None)
        request = self.protocol.connect()
        if key:
            request.headers["X-Key"] = key
        self.protocol.send_request(request)
        self.session = session
        self.epoch = epoch
        self.number = 0
        self.items: deque[Down] = deque()
        self.pushed: list[Down] = []
        self.store_us = 0
        self.pongs = 0
        self.is_open = False
        self._flush()
        while not self.is_open:
            self._read(PATIENCE_SECONDS)
        if session:
            self.greeting = self.hello(session, epoch, role=role)

    # --- bytes

    def _flush(self) -> None:
        data = b"".join(self.protocol.data_to_send())
        if data:
            self.sock.sendall(data)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def frame(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
        """Return the bytes of a frame."""
        return Frame(opcode, data, fin).serialize(mask=True)

    def text(self, data: bytes) -> None:
        """Send a message."""
        self.protocol.send_text(data)
        self._flush()

    def send(self, *items: Up) -> None:
        """Send items in one message."""
        self.text(encode_up(items))

    def _read(self, timeout: float) -> None:
        self.sock.settimeout(max(timeout, 0.001))
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionError:
            data = b""
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.is_open = True
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.store_us, items = decode_down(event.data)
                self.items.extend(items)
            elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
                self.pongs += 1
        with suppress(OSError):  # it is over; what was read counts
            self._flush()
        if not data:
            assert self.protocol.close_code is not None
            raise Closed(self.protocol.close_code, self.protocol.close_reason or "")

    def receive(self, seconds: float = PATIENCE_SECONDS) -> Down:
        """Return the next item.

        Raises:
            TimeoutError: none came.
            Closed: the connection was.
        """
        deadline = time.monotonic() + seconds
        while not self.items:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            self._read(left)
        return self.items.popleft()

    def closes(self, seconds: float = PATIENCE_SECONDS) -> Closed:
        """Return with what the connection was closed."""
        try:
            while True:
                self.items.append(self.receive(seconds))
                seconds = PATIENCE_SECONDS
                self.pushed.append(self.items.pop())
        except Closed as closed:
            return closed

    # --- items

    def next(self) -> int:
        """Return a new number."""
        self.number += 1
        return self.number

    def ask(self, *items: Up) -> list[Down]:
        """Send items and return their answers, in the order of the items; pushes are kept."""
        self.send(*items)
        return self.answers(*(item.number for item in items))

    def answers(self, *numbers: int) -> list[Down]:
        """Return the answers that carry these numbers."""
        found: dict[int, Down] = {}
        while len(found) < len(numbers):
            item = self.receive()
            number = getattr(item, "number", 0)
            if number in numbers:
                assert number not in found, "one answer each"
                found[number] = item
            else:
                self.pushed.append(item)
        return [found[number] for number in numbers]

    def push(self, kind: type[T], seconds: float = PATIENCE_SECONDS) -> T:
        """Return the next item of a kind that nobody asked for."""
        deadline = time.monotonic() + seconds
        while True:
            for item in self.pushed:
                if isinstance(item, kind):
                    self.pushed.remove(item)
                    return item
            self.pushed.append(self.receive(deadline - time.monotonic()))

    def hello(self, session: str, epoch: int, *, role: Role = "main") -> Down:
        """Greet."""
        return self.ask(self.hello_item(session, epoch, role=role))[0]

    def hello_item(self, session: str, epoch: int, *, role: Role = "main") -> HelloItem:
        """Return a greeting."""
        return HelloItem(self.next(), 1, session, epoch, role, "here", 4711, {"of": "a test"})

    def acquire_item(
        self,
        slots: str | Mapping[str, int] = "db",
        lease_id: str = "",
        duration_us: int = LEASE_US,
        **more: Any,  # noqa: ANN401 - whatever the item has
    ) -> AcquireItem:
        """Return what asks for slots."""
        wanted = {slots: 1} if isinstance(slots, str) else slots
        return AcquireItem(
            self.next(), lease_id or str(uuid.uuid4()), tuple(sorted(wanted.items())), duration_us, **more
        )

    def acquire(self, slots: str | Mapping[str, int] = "db", lease_id: str = "", **more: Any) -> Down:  # noqa: ANN401
        """Ask for slots."""
        return self.ask(self.acquire_item(slots, lease_id, **more))[0]

    def held(self, slots: str | Mapping[str, int] = "db", lease_id: str = "", **more: Any) -> HeldItem:  # noqa: ANN401
        """Ask for slots and get them."""
        item = self.acquire(slots, lease_id, **more)
        assert isinstance(item, HeldItem), item
        return item

    def release(self, lease_id: str, session: str = "") -> Down:
        """Give back."""
        return self.ask(ReleaseItem(self.next(), lease_id, session or self.session))[0]

    def renew(self, lease_id: str, session: str = "", duration_us: int = LEASE_US) -> Down:
        """Renew."""
        return self.ask(RenewItem(self.next(), lease_id, session or self.session, duration_us))[0]

    def revoke(self, lease_id: str) -> Down:
        """Revoke."""
        return self.ask(RevokeItem(self.next(), lease_id))[0]

    def bye(self, session: str = "") -> Down:
        """Say that a session is over."""
        return self.ask(ByeItem(self.next(), session or self.session))[0]

    def limit(self, name: str = "db", slots: int = 1, **more: Any) -> Down:  # noqa: ANN401
        """Make a limit, or change it."""
        item = PutItem(self.next(), str(uuid.uuid4()), "put", name, str(uuid.uuid4()), None, slots, **more)
        return self.ask(item)[0]

    def delete(self, name: str, *, force: bool = False) -> Down:
        """Delete a limit."""
        return self.ask(DeleteItem(self.next(), name, force))[0]

    def question(self, question: Any) -> Down:  # noqa: ANN401 - any of them
        """Ask a question."""
        return self.ask(AskItem(self.next(), question))[0]

    # --- the end

    def close(self) -> None:
        """Close the connection as a well-behaved client does."""
        self.protocol.send_close(1000)
        self._flush()
        self.closes()
        self.sock.close()

    def vanish(self) -> None:
        """Close the socket without a word, as the kernel does for a process that has died."""
        self.sock.close()

    def reset(self) -> None:
        """Have the kernel reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Wire:
    """A proxy between a client and a server that can fall silent: bytes vanish, no connection ends."""

    def __init__(self, port: int) -> None:
        """Listen, for one connection at a time."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._to = port
        self._ends: list[socket.socket] = []
        self.is_silent = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            other = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [one, other]
            for source, target in ((one, other), (other, one)):
                thread = threading.Thread(target=self._carry, args=(source, target))
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if not self.is_silent:
                    target.sendall(data)
            if not self.is_silent:
                target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """End everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return when `condition()` holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.002)


async def _serve(options: dict[str, Any]) -> None:
    await Core(**options).serve(lambda port: print(port, flush=True), asyncio.Event())


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_serve(json.loads(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
