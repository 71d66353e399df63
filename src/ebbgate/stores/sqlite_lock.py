"""The turn to write: a lock file on which the processes of one machine queue.

It is a courtesy that keeps busy writers fair. Correctness rests on the version check of each commit alone, so
nobody waits long for it, and who cannot have it goes ahead without. Waiting is trying again after 0.05 to
0.2 ms: with 4 processes that do nothing else the slowest then has its turn 0.6 to 0.9 times as often as the
fastest, where the kernel's own blocking `flock` gave 0.2 to 0.9, cannot be bounded, and is slower.

Known limits: a waiter costs some processor time, and nothing stops a newcomer from being faster than it.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from ebbgate.stores.sqlite_errors import no_access

FILE_MODE: Final = 0o600
_PAUSE_MIN_S: Final = 50e-6
_PAUSE_MAX_S: Final = 200e-6


class FileLock:
    """A lock held by at most one process, and dropped by the kernel when its holder dies.

    Its users see to it that one thread at a time uses it.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, made if missing.

        Raises:
            StoreUnavailable: it cannot be opened.
        """
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise no_access(error, path) from error
        self._pid = os.getpid()
        _locks[id(self)] = self

    def try_lock(self) -> bool:
        """Take it if it is free; after a fork or `close` it never is."""
        if self._pid != os.getpid() or self._descriptor < 0:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # taken, or the file system has no such locks
            if error.errno is None:  # raised by a signal handler, such as a TimeoutError
                raise
            return False
        return True

    def lock(self, timeout_us: int) -> bool:
        """Wait for it, `timeout_us` at most."""
        if self.try_lock():
            return True
        deadline = time.monotonic() + timeout_us / 1e6
        pause = _PAUSE_MIN_S
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            if self.try_lock():
                return True
            pause = min(pause * 2, _PAUSE_MAX_S)
        return False

    def unlock(self) -> None:
        """Let it go; allowed without having it."""
        if self._descriptor >= 0 and self._pid == os.getpid():
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close this process's descriptor; in a forked child this takes nothing from the parent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:
        self.close()


_locks: Final[WeakValueDictionary[int, FileLock]] = WeakValueDictionary()


def _close_inherited() -> None:
    for lock in _locks.values():
        lock.close()


# A child that kept the descriptor would keep the lock taken after its parent has died.
os.register_at_fork(after_in_child=_close_inherited)
