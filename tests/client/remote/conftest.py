"""Real servers for the tests of those who connect to them."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.client import blocks
from ebbgate.client.connect import close_gate
from tests.client.remote.support import Served
from tests.serving import ServedInThread, served

Serve = Callable[..., Served]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return an empty folder, whose name is short enough for sockets in it."""
    made = Path(tempfile.mkdtemp(prefix="eg"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Return what starts server processes on a file in that folder."""
    servers: list[Served] = []

    def start(*flags: str) -> Served:
        servers.append(Served(folder, *flags))
        return servers[-1]

    yield start
    for server in servers:
        close_gate(server.url)
        server.clean_up()


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedInThread]:
    """Return a server on a thread of this process, which is the default one."""
    with served(f"sqlite:///{folder / 'limits.db'}", durability="normal") as running:
        monkeypatch.setenv("EBBGATE_URL", running.url)
        blocks.forget_warnings()
        yield running
        close_gate(running.url)


@pytest.fixture
def client(server: ServedInThread) -> Client:
    """Return a client of that server."""
    return Client(server.url)
