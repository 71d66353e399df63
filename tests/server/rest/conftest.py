"""A server for each test of the REST interface."""

from collections.abc import Iterator

import pytest

from tests.server.rest.serving import Served, served


@pytest.fixture
def rest() -> Iterator[Served]:
    """Give a server with an empty store."""
    with served() as here:
        yield here
