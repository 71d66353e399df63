"""Driving the engine's generators: against a store whose methods block, or one that is awaited."""

from collections.abc import Generator
from typing import TypeVar

from ebbgate.engine.engine import Reply, StoreCall
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Busy, Conflict, NetworkStore, Store, TooOld

T = TypeVar("T")


def drive(steps: Generator[StoreCall, Reply, T], store: Store, *, patience_us: int | None = None) -> T:
    """Run `steps` to their end, calling `store` for each, and return their result.

    Args:
        steps: what the engine wants done.
        store: carries it out.
        patience_us: how long the store may wait for other processes; None leaves it to the store. With 0 it
            raises `Busy` rather than wait.
    """
    patience = {} if patience_us is None else {"patience_us": patience_us}
    try:
        call = next(steps)
        while True:
            try:
                if call.method == "clock":
                    reply = store.clock()
                else:
                    reply = getattr(store, call.method)(*call.arguments, **patience)
            except (Busy, Conflict, TooOld, StoreUnavailable) as error:
                call = steps.throw(error)
            else:
                call = steps.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except BaseException:
        steps.close()  # so that the engine learns now that it was interrupted
        raise


async def drive_async(steps: Generator[StoreCall, Reply, T], store: NetworkStore) -> T:
    """Run `steps` to their end as `drive` does, awaiting a store behind a network.

    Only one at a time: the book may not be decided on while a commit is under way. Cancelled in the middle,
    the engine forgets everything and loads it again.
    """
    try:
        call = next(steps)
        while True:
            try:
                if call.method == "clock":
                    reply = store.clock()
                else:
                    reply = await getattr(store, call.method)(*call.arguments)
            except (Conflict, TooOld, StoreUnavailable) as error:
                call = steps.throw(error)
            else:
                call = steps.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except BaseException:
        steps.close()  # so that the engine learns now that it was interrupted
        raise
