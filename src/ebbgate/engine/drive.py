"""Driving the engine's generators against a store whose methods block."""

from collections.abc import Generator
from typing import TypeVar

from ebbgate.engine.engine import Reply, StoreCall
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Conflict, Store, TooOld

T = TypeVar("T")


def drive(steps: Generator[StoreCall, Reply, T], store: Store) -> T:
    """Run `steps` to their end, calling `store` for each, and return their result."""
    try:
        call = next(steps)
        while True:
            try:
                reply = getattr(store, call.method)(*call.arguments)
            except (Conflict, TooOld, StoreUnavailable) as error:
                call = steps.throw(error)
            else:
                call = steps.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
