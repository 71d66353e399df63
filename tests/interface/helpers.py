"""What the interface tests share."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ebbgate import Client
from ebbgate.sync import concurrency


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Return when `condition()` holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.001)


def wait_for_waiters(client: Client, name: str, count: int) -> None:
    """Return when so many wait for a limit."""
    wait_until(lambda: client.read_limit(name).waiting == count)


@contextmanager
def held_elsewhere(name: str, occupy: int = 1) -> Iterator[None]:
    """Have another thread hold slots of a limit meanwhile."""
    holding, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with concurrency(name, occupy=occupy):
            holding.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(10)
    try:
        yield
    finally:
        leave.set()
        thread.join(10)
