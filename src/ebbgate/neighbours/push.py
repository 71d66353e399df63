"""A push from process to process of one machine: one byte to a datagram socket in a folder beside the file.

A push is a hint: it says "look again", nothing more. One that is lost costs a poll.
"""

import contextlib
import fcntl
import os
import select
import socket
import stat
from pathlib import Path
from typing import Final

from ebbgate.neighbours.polls import new_poll

ADDRESS_LENGTH_MAX: Final = 100  # the kernel's limit is 108 on Linux, 104 on macOS
_PRIVATE: Final = "ebbgate-memory-"  # how the names of private folders begin
_SELECT_MAX: Final = 1024  # descriptors beyond do not fit `select`


def wake_folder(store_path: Path) -> Path:
    """Return the folder of the sockets of a store's processes, made for this user alone.

    It lies beside the file; where that name would be too long for a socket, in the runtime folder.
    """
    folder = store_path.with_name(store_path.name + "-wake")
    if len(os.fsencode(folder)) > ADDRESS_LENGTH_MAX - 20:
        # Rarely needed, and 4 ms of every first acquire if imported above.
        import tempfile
        from hashlib import blake2b

        short = blake2b(os.fsencode(store_path), digest_size=8).hexdigest()
        folder = Path(tempfile.gettempdir()) / f"ebbgate-{os.getuid()}-{short}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()  # a link in a folder that all users share may have been planted
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} is not a folder of this user; remove it")
    return folder


class PrivateFolder:
    """A folder for the sockets of one process that shares no file; a lock shows that the process lives."""

    def __init__(self) -> None:
        """Make it, and remove those of dead processes."""
        import tempfile

        for folder in Path(tempfile.gettempdir()).glob(f"{_PRIVATE}*"):
            _remove_if_dead(folder)
        self.path = Path(tempfile.mkdtemp(prefix=_PRIVATE))
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def close(self) -> None:
        """Give up the lock of this process; a child of a fork closes its copy."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _remove_if_dead(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process removes it, or it is not one of this user's
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_uid == os.getuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_mailboxes(folder, "*")
                folder.rmdir()
        finally:
            os.close(descriptor)


def remove_mailboxes(folder: Path, prefix: str) -> None:
    """Remove the sockets that a dead process left behind."""
    for path in folder.glob(f"{prefix}-*"):
        path.unlink(missing_ok=True)


class Mailbox:
    """A socket that pushes arrive at."""

    def __init__(self, folder: Path, name: str) -> None:
        """Bind it; `name` must be new."""
        self.address = str(folder / name)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(self.address)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for an event loop."""
        return self._socket.fileno()

    def wait(self, timeout_seconds: float) -> None:
        """Return when a push arrives, at the latest after the timeout, precisely to some 0.1 ms."""
        descriptor = self._socket.fileno()
        if descriptor < _SELECT_MAX:
            select.select((descriptor,), (), (), timeout_seconds)
        else:
            poll = new_poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(timeout_seconds * 1000)

    def empty(self) -> None:
        """Take all pushes that have arrived."""
        try:
            while True:
                self._socket.recv(16)
        except OSError as error:
            if error.errno is None:  # raised by a signal handler, such as a TimeoutError
                raise

    def close(self) -> None:
        """Unbind it."""
        self._socket.close()
        with contextlib.suppress(OSError):
            Path(self.address).unlink()

    def abandon(self) -> None:
        """Close this process's copy after a fork; the address stays the parent's."""
        self._socket.close()


class Pusher:
    """Sends pushes; an address where nobody listens is ignored."""

    def __init__(self) -> None:
        """Open one socket for all."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def push(self, address: str) -> None:
        """Tell whoever listens at `address` to look again."""
        try:
            self._socket.sendto(b"1", address)
        except OSError as error:
            if error.errno is None:  # raised by a signal handler, such as a TimeoutError
                raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
