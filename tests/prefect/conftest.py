"""Servers for the tests with Prefect's clients."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefect.support import Caller
from tests.server.processes import Served, started


def folder_of_a_test() -> Path:
    """Return an empty folder whose name is short enough for sockets in it."""
    return Path(tempfile.mkdtemp(prefix="eg"))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server that holds waiting clients open for as long as it does by default."""
    folder = folder_of_a_test()
    with started(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def brief() -> Iterator[Served]:
    """A server that soon asks waiting clients to come back."""
    folder = folder_of_a_test()
    with started(folder, "--prefect-wait", "0.2") as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def caller(served: Served) -> Caller:
    """A client of the first."""
    return Caller(served.url)
