"""The turn to write: a lock file on which the processes of one machine queue.

It is a courtesy that keeps busy writers fair. Correctness rests on the version check of each commit alone, so
nobody waits long for it, and who cannot have it goes ahead without.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
_PAUSE_MIN_S: Final = 50e-6
_PAUSE_MAX_S: Final = 1e-3


class FileLock:
    """A lock held by at most one process; the kernel drops it when its holder dies."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, made if missing."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def try_lock(self) -> bool:
        """Take it if it is free."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(self, timeout_us: int) -> bool:
        """Wait for it, `timeout_us` at most."""
        if self.try_lock():
            return True
        deadline = time.monotonic() + timeout_us / 1e6
        pause = _PAUSE_MIN_S
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            if self.try_lock():
                return True
            pause = min(pause * 2, _PAUSE_MAX_S)

    def unlock(self) -> None:
        """Let it go; allowed without having it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close this process's descriptor. In a forked child the parent keeps what it holds."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)
