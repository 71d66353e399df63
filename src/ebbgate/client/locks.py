"""A lock that an exception from outside cannot leave taken.

`with lock:` on a lock of `threading` is atomic, but it cannot time out. `lock.acquire(timeout=...)` followed by `try`
is not: an exception from a signal handler can arrive between the two. This lock knows its owner, so the caller can
begin with `try` and release in `finally` in any case:

    if lock.is_mine():
        return  # this call interrupted another one of the same thread
    try:
        if not lock.acquire(timeout_us):
            return
        ...
    finally:
        try:
            lock.release()
        except RuntimeError:
            pass  # not acquired

CPython checks for signals and asynchronous exceptions at the start of Python functions, after calls and at backward
jumps. `release` is a C function, called first in `finally`, so nothing can come between.
"""

import threading
from collections.abc import Callable
from typing import Final

from ebbgate.core.model import SECOND
from ebbgate.errors import StoreUnavailable


class TrackedLock:
    """A lock that is not reentrant and can be released only by the thread that holds it."""

    def __init__(self) -> None:
        """Make a lock that is free."""
        self.lock: Final = threading.RLock()  # for `with`, where no timeout is needed
        self.release: Final = self.lock.release  # raises RuntimeError in a thread that does not hold it
        self.is_mine: Final[Callable[[], bool]] = self.lock._is_owned  # type: ignore[attr-defined]  # `Condition` uses it

    def acquire(self, timeout_us: int) -> bool:
        """Acquire the lock; return False if that takes longer than `timeout_us`. This thread must not hold it."""
        return self.lock.acquire(timeout=timeout_us / SECOND)

    def refuse_reentry(self) -> None:
        """Raise `StoreUnavailable` if this thread holds the lock: a signal handler interrupted another call."""
        if self.is_mine():
            raise StoreUnavailable(
                "a signal handler called ebbgate while it interrupted another call of the same thread; "
                "set a flag in the handler and make the call later",
                transient=False,
            )


def is_from_the_system(error: OSError) -> bool:
    """Tell whether a system call failed; a `TimeoutError` that a signal handler raised has no error number."""
    return error.errno is not None
