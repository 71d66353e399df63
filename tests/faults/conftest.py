"""What the fault tests share: a folder with a short name, so that sockets fit beside the file."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that is removed with everything in it."""
    made = Path(tempfile.mkdtemp(prefix="eg"))
    yield made
    shutil.rmtree(made)
