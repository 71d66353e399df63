"""Is a process of this machine still alive? The kernel answers, through a lock that ends with the process.

Each process keeps one byte of a presence file locked with `fcntl` for as long as it lives. The kernel drops
such a lock at death, whatever the pid namespace, a zombie state or the reuse of process ids, and a fork does
not inherit it. No other code may open the file: closing any descriptor of it drops all locks of the process.

Source: POSIX.1, `fcntl`, advisory record locking.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

OFFSET_MAX: Final = 1 << 62


class Presence:
    """This process's mark in the presence file beside a store's file, and a look at those of others."""

    def __init__(self, path: Path, offset: int) -> None:
        """Lock the byte at `offset`, a random number below 2^62, as long as this process lives."""
        self.offset = offset
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, offset)
        except OSError:
            self.end()
            raise

    def is_alive(self, offset: int) -> bool:
        """Tell whether the process that locked the byte at `offset` lives. Its own counts as alive."""
        if offset == self.offset:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, offset)
        except OSError:
            return True
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, offset)
        return False

    def end(self) -> None:
        """Give the mark up: this process no longer uses the store, or is a fork that never had it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
