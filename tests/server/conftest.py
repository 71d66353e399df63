"""What the tests of the server's streams share."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.streaming import ServerProcess, StreamServer, Talker

Serve = Callable[..., StreamServer]
Launch = Callable[..., ServerProcess]
Talk = Callable[..., Talker]


@pytest.fixture
def store_url() -> Iterator[str]:
    """Return the address of an empty file, in a folder whose name is short enough for sockets beside it."""
    folder = Path(tempfile.mkdtemp(prefix="eg"))
    yield f"sqlite:///{folder / 'x.db'}"
    shutil.rmtree(folder)


@pytest.fixture
def serve(store_url: str) -> Iterator[Serve]:
    """Return what starts servers on that file in this process."""
    servers: list[StreamServer] = []

    def start(**options: Any) -> StreamServer:  # noqa: ANN401 - as `Core` has them
        server = StreamServer(store_url, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def launch(store_url: str) -> Iterator[Launch]:
    """Return what starts servers on that file as processes of their own."""
    servers: list[ServerProcess] = []

    def start(**options: Any) -> ServerProcess:  # noqa: ANN401 - as `Core` has them
        server = ServerProcess(store_url, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Return what connects to a port; all connections are closed in the end."""
    talkers: list[Talker] = []

    def connect(port: int, *arguments: Any, **named: Any) -> Talker:  # noqa: ANN401 - as `Talker` has them
        talker = Talker(port, *arguments, **named)
        talkers.append(talker)
        return talker

    yield connect
    for talker in talkers:
        talker.sock.close()
