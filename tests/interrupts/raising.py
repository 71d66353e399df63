"""Exceptions that arrive from outside at any instant: from a signal handler, or set in a thread."""

import ctypes
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Final

from ebbgate import Client


class Boom(BaseException):
    """What a program may raise to end a call, such as a time limit of its own."""


class SoftLimit(Exception):  # noqa: N818 - as Celery's SoftTimeLimitExceeded
    """The same, as an ordinary exception."""


KINDS: Final[tuple[type[BaseException], ...]] = (
    Boom,
    SoftLimit,
    KeyboardInterrupt,
    MemoryError,
    TimeoutError,
)


@contextmanager
def alarm(kind: type[BaseException]) -> Iterator[tuple[Callable[[float], None], list[BaseException]]]:
    """Yield a function that has a signal handler raise `kind` after so many seconds, and the list of what it raised."""
    raised: list[BaseException] = []

    def handler(_number: int, _frame: FrameType | None) -> None:
        raised.append(kind("from outside"))  # not in a variable: its traceback would keep it in a cycle
        raise raised[-1]

    def arm(delay_seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay_seconds)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield arm, raised
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def set_in_thread(thread: threading.Thread, kind: type[BaseException]) -> None:
    """Raise `kind` in another thread, at whatever it does."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind))


def attempts(
    count: int, seed: int, work: Callable[[], object], kind: type[BaseException], longest_seconds: float
) -> tuple[int, list[str]]:
    """Do `work` so many times with an exception at a random instant; return how often it arrived, and what was wrong.

    An exception that was raised must arrive as itself, whatever it interrupted.
    """
    random = Random(seed)
    arrived = 0
    wrong: list[str] = []
    # Python drops what is raised in `__del__` and in callbacks of weak references. The collector calls those of
    # anything at any time, so it does not run here.
    gc.collect()
    gc.disable()
    try:
        with alarm(kind) as (arm, raised):
            for _ in range(count):
                raised.clear()
                try:
                    try:
                        arm(random.uniform(1e-6, longest_seconds))
                        work()
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except BaseException as error:
                    if raised and error is raised[0]:
                        arrived += 1
                    else:
                        wrong.append(f"{error!r} instead of {raised!r}")
                    continue
                if raised:
                    wrong.append(f"{raised!r} vanished")
    finally:
        gc.enable()
    return arrived, wrong


def assert_nothing_is_left(client: Client, *names: str, within_seconds: float = 1.0) -> None:
    """Fail if a slot is held or a caller waits a second later, or if a thread cannot acquire at once."""
    deadline = time.monotonic() + within_seconds
    while True:
        left = {name: (client.read_limit(name).held_slots, client.read_limit(name).waiting) for name in names}
        if not any(held or waiting for held, waiting in left.values()):
            break
        assert time.monotonic() < deadline, f"left behind (held, waiting): {left}"
        threading.Event().wait(0.01)
    errors: list[BaseException] = []

    def acquire() -> None:
        try:
            for name in names:
                with client.concurrency(name, timeout_seconds=within_seconds, strict=True):
                    pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=acquire)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert not errors
