"""Whether other processes of this machine are alive. The kernel answers, through a lock that ends with the process.

Each process keeps one byte of a presence file locked for its lifetime. The kernel drops the lock when the process
ends, whatever its pid namespace, a zombie state or the reuse of process ids.

The lock belongs to an open file description (Linux, `F_OFD_SETLK`): opening, copying and closing the file elsewhere
in the process does not drop it, and two copies of this package in one process each have their own. A forked child
shares the description, so it closes its descriptor immediately; other programs never get it (`O_CLOEXEC`). Without
such locks, record locks of POSIX are used: any close of the file drops them, so a second use in one process is refused.

The offset of a byte names the file as well, by its inode. If the file was removed or replaced, a process that locked a
byte of the old file does not look dead to a process that has the new one: its offset is of another file, about which
nothing is known, so it counts as alive. It finds this out by `is_current` and joins the new file.

Known limits: a child that is forked by code that does not tell Python keeps its parent's lock. A process that ends
between the removal of the file and its joining of the new one counts as alive until its leases expire.

Source: fcntl(2), "Open file description locks"; POSIX.1, `fcntl`, advisory record locking.
"""

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import Final
from weakref import WeakSet

_RANDOM_BITS: Final = 40
_FILE_BITS: Final = 22  # together 62: an offset is a positive `off_t`
_TRIES: Final = 16

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of Linux: type, whence, start, length, pid
_SETLK: Final = 37 if sys.platform == "linux" else -1  # F_OFD_SETLK, which not every build of Python names
_GETLK: Final = 36 if sys.platform == "linux" else -1  # F_OFD_GETLK


class Presence:
    """The byte that this process keeps locked in the presence file of a store, and a look at those of others."""

    def __init__(self, path: Path) -> None:
        """Lock a byte of the file at `path`, which is made if it is not there.

        Raises:
            OSError: the file cannot be opened or locked.
        """
        self._path = path
        self._fd = -1
        self._is_record_lock = False
        _all.add(self)
        try:
            for _ in range(_TRIES):
                self.end()
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._inode = os.fstat(self._fd).st_ino
                self.offset = self._file() << _RANDOM_BITS | int.from_bytes(os.urandom(5), "big")
                if self._take() and self.is_current():
                    return
            raise OSError(errno.EAGAIN, "the file is replaced again and again", str(path))
        except BaseException:
            self.end()
            raise

    def _file(self) -> int:
        return self._inode % (1 << _FILE_BITS)

    def _take(self) -> bool:
        """Lock the byte at `offset`; False if another process has that one."""
        try:
            fcntl.fcntl(self._fd, _SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self.offset, 1, 0))
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self._take_record_lock()
        return True

    def _take_record_lock(self) -> bool:
        """Do the same where locks belong to the process and are dropped by any close of the file."""
        locked: set[int] = sys.__dict__.setdefault("_ebbgate_record_locks", set())  # another copy finds it
        if self._inode in locked:
            raise OSError(
                errno.EDEADLK,
                "this process already uses the store through another copy of the package, "
                "and this system cannot lock a file twice in one process; import the package once",
                str(self._path),
            )
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.offset)
        except (BlockingIOError, PermissionError):
            return False
        self._is_record_lock = True
        locked.add(self._inode)
        return True

    def is_current(self) -> bool:
        """Return whether the file is still the one at its path: if it is not, a new `Presence` is needed."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError as error:
            if error.errno is None:  # raised by a signal handler, such as a TimeoutError
                raise
            return False

    def is_alive(self, offset: int) -> bool:
        """Return whether the process that locked the byte at `offset` is alive. This process counts as alive."""
        if offset == self.offset or offset >> _RANDOM_BITS != self._file():
            return True
        if self._is_record_lock:
            return not self._is_free(offset)
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
        found: bytes = fcntl.fcntl(self._fd, _GETLK, asked)
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def _is_free(self, offset: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            if error.errno is None:  # raised by a signal handler, such as a TimeoutError
                raise
            return False
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, offset)
        return True

    def end(self) -> None:
        """Unlock the byte: this process no longer uses the store, or is a forked child."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            if self._is_record_lock:
                self._is_record_lock = False
                sys.__dict__["_ebbgate_record_locks"].discard(self._inode)


_all: Final[WeakSet[Presence]] = WeakSet()


def _after_fork() -> None:
    for presence in list(_all):
        presence.end()


os.register_at_fork(after_in_child=_after_fork)
