"""Stores behind a network, closed in the end; and what they say when they cannot be used."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from ebbgate.errors import StoreUnavailable
from ebbgate.stores import open_network_store
from ebbgate.stores.base import NetworkStore

S = TypeVar("S", bound=NetworkStore)


@asynccontextmanager
async def opened_as(kind: type[S], url: str) -> AsyncIterator[S]:
    store = open_network_store(url)
    assert isinstance(store, kind)
    try:
        yield store
    finally:
        await store.close()


async def refusal(url: str) -> str:
    store = open_network_store(url)
    try:
        with pytest.raises(StoreUnavailable) as raised:
            await store.load()
        assert "hunter2" not in str(raised.value)
        return str(raised.value)
    finally:
        await store.close()
