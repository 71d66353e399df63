"""Every test of what users touch runs on every gate."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.client import blocks
from ebbgate.client.connect import close_gate, gate_for
from ebbgate.core.model import SECOND, Settings

SHORT = Settings(lease_duration_min_us=SECOND // 2)
"""Leases as short as tests need them; everything else as it is."""


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of an empty store, which is also the default one."""
    address = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'limits.db'}"
    monkeypatch.setenv("EBBGATE_URL", address)
    close_gate(address)
    gate_for(address, settings=SHORT)
    blocks.forget_warnings()
    yield address
    close_gate(address)


@pytest.fixture
def client(url: str) -> Client:
    """Return a client of the empty store."""
    return Client(url)
