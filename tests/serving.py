"""A server on a thread of the test's own process."""

import asyncio
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from ebbgate.server.app import Service
from ebbgate.server.options import Options
from ebbgate.server.serving import Server, running
from ebbgate.stores.base import Version


class ServedInThread:
    """A server that runs until it is stopped."""

    def __init__(self, options: Options) -> None:
        """Return when it serves."""
        self._loop = uvloop.new_event_loop()  # as `serve` does
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._error: BaseException | None = None
        self.server: Server | None = None
        self._thread = threading.Thread(target=self._run, args=(options,), name="server-of-a-test")
        self._thread.start()
        assert self._ready.wait(30), "the server did not start"
        if self._error is not None:
            raise self._error

    def _run(self, options: Options) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(options))
        except BaseException as error:
            self._error = error
            self._ready.set()
        finally:
            self._loop.close()

    async def _serve(self, options: Options) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of libraries of the server
            server = running(options)
            self.server = await server.__aenter__()
        try:
            self._ready.set()
            await self._over.wait()
        finally:
            await server.__aexit__(None, None, None)
            await asyncio.sleep(0.02)  # what the loop was told last is done before it is closed

    def engine_version(self) -> Version | None:
        """Return which commit its engine knows last."""
        service = self.server._service if self.server else None
        assert isinstance(service, Service), "it serves"
        return service.decider.engine.version

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self.server is not None, "it serves"
        return int(self.server.url.rpartition(":")[2])

    @property
    def url(self) -> str:
        """Its address, for clients."""
        return f"ebbgate://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Drain and end it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not end"


@contextmanager
def served(
    store: str, *, port: int = 0, lease_duration_min_seconds: float = 0.5, **more: object
) -> Iterator[ServedInThread]:
    """Serve a store meanwhile."""
    server = ServedInThread(
        Options(store=store, port=port, lease_duration_min_seconds=lease_duration_min_seconds, **more)  # type: ignore[arg-type]  # as `Options` has them
    )
    try:
        yield server
    finally:
        server.stop()
