"""A real server in a thread of its own, and a client that talks to it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import uvloop

from ebbgate.server.app import Service
from ebbgate.server.decider import Decider
from ebbgate.server.options import Options
from ebbgate.server.serving import Server, running

PATIENCE_SECONDS = 60.0

T = TypeVar("T")


class Served:
    """One server, and a client for it."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        """Take a server that runs in `loop`, in another thread."""
        self.server, self.loop, self.url = server, loop, server.url
        self.client = self.caller()
        self._callers = [self.client]

    def caller(self, key: str = "", **more: Any) -> httpx.Client:  # noqa: ANN401 - as httpx has them
        """Return a client with a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, **more
        )
        if hasattr(self, "_callers"):
            self._callers.append(client)
        return client

    @property
    def service(self) -> Service:
        """What is served."""
        service = self.server._service
        assert isinstance(service, Service)
        return service

    @property
    def decider(self) -> Decider:
        """Who decides; to be used in its loop only."""
        return self.service.decider

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_SECONDS)

    def do(self, work: Callable[[], T]) -> T:
        """Call something in the server's loop."""

        async def call() -> T:
            return work()

        return self.run(call())

    def drain(self) -> None:
        """Have everybody come back later."""
        self.do(self.service.drain)

    def close(self) -> None:
        """Close all clients."""
        for client in self._callers:
            client.close()

    # --- what every story needs

    def limit(self, name: str = "db", limit: int = 1, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Create a limit."""
        answer = self.client.post("/v1/limits", json={"name": name, "limit": limit, **more})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def acquire(self, *names: str, status: int = 201, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Take one slot of each limit."""
        body = {"limits": [{"name": name} for name in names or ("db",)], **more}
        answer = self.client.post("/v1/leases", json=body)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def release(self, lease: dict[str, Any]) -> None:
        """Give its slots back."""
        answer = self.client.delete(f"/v1/leases/{lease['id']}")
        assert answer.status_code == 204, answer.text

    def read(self, lease: dict[str, Any], **query: Any) -> httpx.Response:  # noqa: ANN401 - whatever is asked
        """Look at a lease."""
        return self.client.get(f"/v1/leases/{lease['id']}", params=query)


@contextmanager
def served(**told: Any) -> Iterator[Served]:  # noqa: ANN401 - whatever options take
    """Run a server for the length of a block."""
    options = Options(**{"store": "memory://", "port": 0, "lease_duration_min_seconds": 0.2, **told})
    found: list[Served] = []
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with running(options) as server:
            found.append(Served(server, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    ready.wait(PATIENCE_SECONDS)
    assert found, "the server did not start"
    here = found[0]
    try:
        yield here
    finally:
        here.close()
        here.loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return a problem document, whose fields are as they must be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"urn:ebbgate:problem:{code}"
    assert document["title"]
    assert document["detail"]
    return document
