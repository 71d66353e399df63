"""Every test of what users touch runs on every gate."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from ebbgate import Client
from ebbgate.client import blocks
from ebbgate.client.connect import close_gate, gate_for
from ebbgate.core.model import SECOND, Settings
from tests.embedded import embedded
from tests.serving import ServedInThread, served

SHORT = Settings(lease_duration_min_us=SECOND // 2)
"""Leases as short as tests need them; everything else as it is."""

_servers: Final[dict[str, ServedInThread]] = {}


def _store(request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the URL of an empty store for a server."""
    if request.param == "server":
        return f"sqlite:///{folder / 'limits.db'}"
    make: Callable[[], str] = request.getfixturevalue(f"new_{request.param}")
    return make()


@pytest.fixture(params=["memory", "sqlite", "server", "postgres", "valkey"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of an empty store, which is also the default one."""
    if request.param in {"server", "postgres", "valkey"}:
        with served(_store(request, tmp_path), socket=False) as server:
            _servers[server.url] = server
            monkeypatch.setenv("EBBGATE_URL", server.url)
            blocks.forget_warnings()
            yield server.url
            close_gate(server.url)
            del _servers[server.url]
        return
    address = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'limits.db'}"
    monkeypatch.setenv("EBBGATE_URL", address)
    close_gate(address)
    gate_for(address, settings=SHORT)
    blocks.forget_warnings()
    yield address
    close_gate(address)


@pytest.fixture
def commits(client: Client) -> Callable[[], int]:
    """Return what counts the commits of the store."""

    def count() -> int:
        server = _servers.get(client.url)
        version = server.engine_version() if server else embedded(client).engine.version
        assert version is not None
        return version.number

    return count


@pytest.fixture
def client(url: str) -> Client:
    """Return a client of the empty store."""
    return Client(url)
