"""The life of a server: it binds, opens its store, decides, listens, and drains before it ends."""

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import uvicorn
import uvloop

from ebbgate.core.model import SECOND, Settings
from ebbgate.errors import EbbgateError
from ebbgate.neighbours.owner import Owner, OwnerAddress
from ebbgate.neighbours.push import remove_mailboxes, wake_folder
from ebbgate.server.crowd import Crowd
from ebbgate.server.embedded_decider import MAILBOX
from ebbgate.server.front import App, Front, Receive, Scope, Send
from ebbgate.server.http import HttpConfig, HttpSocket
from ebbgate.server.notify import Notifier
from ebbgate.server.options import BODY_BYTES_MAX, Options
from ebbgate.server.socket import StreamSocket
from ebbgate.server.sockets import (
    BACKLOG,
    FILES_SPARE,
    address_of,
    bind,
    bind_beside,
    close_all,
    listen,
    load_certificate,
    raise_file_limit,
    tls_context,
)
from ebbgate.server.tls import TlsListener
from ebbgate.stores import path_of, without_password
from ebbgate.version import version

_log: Final = logging.getLogger("ebbgate.server")

KEEP_ALIVE_SECONDS: Final = 75  # longer than proxies keep an idle connection, so that theirs ends first
_REST_CONNECTIONS: Final = 1_000  # beside those of streams
_TICK_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.02
_FLUSH_SECONDS: Final = 0.05  # for the last words to clients
_ARRIVAL_SECONDS: Final = 2.0  # for the rest of a request; nothing of it was carried out
_REQUESTS_SHARE: Final = 0.9  # of the time to end in is for requests, the rest for what comes after them
_CANCEL_SECONDS: Final = 1.0
_LAST_TURNS: Final = 5  # of the loop, until who was accepted last is known, and closed


class Service(Protocol):
    """What is served, without a front."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""

    async def start(self) -> None:
        """Begin, on the running loop."""

    def drain(self) -> None:
        """Have everybody who waits come back later."""

    async def close(self) -> None:
        """End."""


class Server:
    """One server in the running loop; made by `running`."""

    def __init__(self, options: Options, service: Service | None, notifier: Notifier) -> None:
        """Do nothing yet.

        Args:
            options: everything that it was told.
            service: what is served; None: what the options say.
            notifier: hears how it goes.
        """
        self.options = options
        self.url = ""
        self.socket: Path | None = None  # of the processes of its user on this machine
        self._service = service
        self._notifier = notifier
        self._stack = AsyncExitStack()  # what is undone in the end, whatever happened
        self._context: ssl.SSLContext | None = None
        self._listening: list[uvicorn.Server] = []
        self._hurry = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None

    # --- begin

    async def start(self) -> None:
        """Return when it serves.

        Raises:
            EbbgateError: it cannot; nothing is left behind.
        """
        began = time.perf_counter()
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        self._notifier.tell("READY=1", f"STATUS=serving {self.url}")
        fields = {
            "url": self.url,
            "store": without_password(self.options.store),
            "seconds": round(time.perf_counter() - began, 3),
            "version": version(),
        }
        _log.info("ready", extra={"fields": fields})
        if not self.options.is_loopback and not self.options.host_names:
            _log.warning("no name is allowed but loopback ones; name this machine: --allowed-host NAME")

    async def _start(self) -> None:
        options = self.options
        files_max = raise_file_limit()
        self._context = tls_context(options)
        bound = bind(options.host, options.port)
        self._stack.callback(close_all, bound)
        self.url = address_of(bound[0], is_tls=options.is_tls)
        beside = self._own() if options.store.startswith("sqlite:") else None
        service = self._service or _service(options)
        self._stack.push_async_callback(service.close)
        await service.start()
        self._service = service
        wanted = options.connections_max + _REST_CONNECTIONS
        if files_max < wanted:
            _log.warning(
                "only %d connections are possible, streams and REST together: --connections-max %d needs ulimit -n %d",
                files_max, options.connections_max, wanted + FILES_SPARE,
            )  # fmt: skip
        crowd = Crowd(min(files_max, wanted))
        listen(bound, options.host)
        self._front = Front(service, options)
        await self._serve(self._front, bound, crowd, context=self._context)
        if beside is not None:
            await self._serve(Front(service, options, trusted=True), [beside], crowd, trusted=True)
        self._ticking = asyncio.create_task(self._tick())

    def _own(self) -> socket.socket | None:
        """Become the owner of the store's file, and tell its other users how to reach this server."""
        path = path_of(canonical(self.options.store))
        owner = Owner(path)
        self._stack.callback(owner.close)
        with suppress(OSError):
            remove_mailboxes(wake_folder(path), f"*{MAILBOX}")  # of owners that were killed
        beside = None
        if self.options.socket:
            beside, self.socket = bind_beside(path)
            self._stack.callback(self.socket.unlink, missing_ok=True)
            self._stack.callback(beside.close)
        where = str(self.socket) if self.socket else None
        owner.tell(OwnerAddress(url=self.url, socket=where, pid=os.getpid(), host=socket.gethostname()))
        return beside

    async def _serve(
        self,
        app: App,
        listeners: list[socket.socket],
        crowd: Crowd,
        *,
        context: ssl.SSLContext | None = None,
        trusted: bool = False,
    ) -> None:
        config = HttpConfig(
            app,
            loop="none",
            http=HttpSocket,
            ws=StreamSocket,
            ws_max_size=BODY_BYTES_MAX,
            ws_ping_interval=None,  # silence says nothing, and the kernel notices who is gone
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the front knows whom to believe
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.crowd, config.trusted = crowd, trusted
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[] if context is not None else listeners)
        if context is not None:
            for listener in listeners:
                accepting = TlsListener(listener, context, server, config)
                server.servers.append(accepting)  # type: ignore[arg-type]  # it is only ever closed
        await server.on_tick(0)
        self._listening.append(server)

    async def _tick(self) -> None:
        """Keep the date in the headers and the service manager's watchdog quiet."""
        while True:
            await asyncio.sleep(self._notifier.pause_seconds(_TICK_SECONDS))
            self._notifier.tell_alive()
            for server in self._listening:
                await server.on_tick(0)

    def reload(self) -> None:
        """Read the certificate, its key and the API keys again."""
        self._reload_keys()
        if self._context is None:
            return
        try:
            load_certificate(self._context, self.options)
        except EbbgateError as error:
            _log.error("the certificate stays the old one: %s", error)
        else:
            _log.info("the certificate was read anew")

    def _reload_keys(self) -> None:
        if self.options.read_keys is None:
            return
        try:
            revoked = self.options.keys.replace(self.options.read_keys())
        except EbbgateError as error:
            _log.error("API keys not reloaded: %s", error)
            return
        self._front.revoke(revoked)
        _log.info("API keys reloaded", extra={"fields": {"revoked": sorted(revoked)}})

    # --- end

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurry.set()

    async def stop(self) -> None:
        """Let everybody finish within the time for it, then end whatever is left."""
        self._notifier.tell("STOPPING=1")
        began = time.perf_counter()
        assert self._service is not None, "started"
        try:
            for server in self._listening:
                for listener in server.servers:
                    listener.close()
            self._service.drain()
            left = await self._drain()
        finally:
            if self._ticking is not None:
                self._ticking.cancel()
            await self._stack.aclose()
        fields = {"seconds": round(time.perf_counter() - began, 3), "cut_off": left}
        _log.info("stopped", extra={"fields": fields})

    async def _drain(self) -> int:
        """Return how many connections did not end in time."""
        began = time.monotonic()
        deadline = began + self.options.drain_seconds * _REQUESTS_SHARE
        flushed, arrived = began + _FLUSH_SECONDS, began + _ARRIVAL_SECONDS
        while self._is_busy() and not self._hurry.is_set() and time.monotonic() < deadline:
            for server in self._listening:
                for connection in list(server.server_state.connections):
                    if isinstance(connection, HttpSocket):
                        connection.shutdown()
                        if connection.is_arriving and time.monotonic() > arrived:
                            connection.transport.close()
                    elif time.monotonic() > flushed:
                        connection.shutdown()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _PAUSE_SECONDS)
        left = 0
        tasks: set[asyncio.Task[None]] = set()
        for _ in range(_LAST_TURNS):
            for server in self._listening:
                tasks |= server.server_state.tasks
                for connection in list(server.server_state.connections):
                    left += not connection.transport.is_closing()
                    connection.transport.abort()
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        return left

    def _is_busy(self) -> bool:
        return any(server.server_state.connections or server.server_state.tasks for server in self._listening)


@asynccontextmanager
async def running(
    options: Options, service: Service | None = None, *, notifier: Notifier | None = None
) -> AsyncIterator[Server]:
    """Run a server in the running loop for the length of a block.

    Args:
        options: everything that it is told.
        service: what is served, instead of what the options say.
        notifier: hears how it goes.

    Raises:
        EbbgateError: it cannot be started.
    """
    server = Server(options, service, notifier or Notifier(None))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def serve(options: Options, *, notifier: Notifier | None = None) -> None:
    """Serve until this process is told to end, by SIGTERM or SIGINT; a second one means at once.

    Raises:
        EbbgateError: the server cannot be started.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    server = Server(options, None, notifier or Notifier(None))

    def end() -> None:
        if told.is_set():
            server.hurry()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    await server.start()
    _settle_memory()
    try:
        await told.wait()
        _log.info("stopping: everybody has %g s to finish", options.drain_seconds)
    finally:
        await server.stop()


def _settle_memory() -> None:
    """Let the collector leave alone what was loaded, and look more rarely: the records are no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def run(options: Options, *, notifier: Notifier | None = None) -> None:
    """Serve in a loop of its own; see `serve`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, notifier=notifier))


def canonical(store: str) -> str:
    """Return one URL for all that name the same file."""
    return f"sqlite:///{quote(os.path.realpath(path_of(store)))}" if store.startswith("sqlite:") else store


def _service(options: Options) -> Service:
    from ebbgate.server.app import Service as Real

    return Real(
        canonical(options.store),
        durability=options.durability,
        upgrade=options.upgrade,
        allow_empty=options.allow_empty_store,
        settings=Settings(
            lease_duration_min_us=round(options.lease_duration_min_seconds * SECOND),
            unknown_limits=options.unknown_limits,
            recovery_us=round(options.recovery_grace_seconds * SECOND),
        ),
        away_grace_seconds=options.away_grace_seconds,
        recovery_grace_seconds=options.recovery_grace_seconds,
        prefect_wait_seconds=options.prefect_wait_seconds,
    )
