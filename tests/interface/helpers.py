"""What the interface tests share."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ebbgate import Client
from ebbgate.sync import concurrency


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
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


def quick(attempt: Callable[[], float], seconds: float, tries: int = 4) -> None:
    """Fail unless one of some attempts took less: a machine that is busy delays one, and what is slow is slow in all.

    Args:
        attempt: does it, and returns how long it took.
        seconds: the bound.
        tries: how many attempts at most.
    """
    took: list[float] = []
    while not took or took[-1] >= seconds:
        assert len(took) < tries, f"never in less than {seconds:g} s: {took}"
        took.append(attempt())
