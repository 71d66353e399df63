"""Who owns a file: a server that decides on it alone, and where it is reached.

The owner holds a lock on a file beside the store for as long as it lives; the kernel drops it at death. The
file tells its address. Nobody removes it: two processes could then hold locks on two files of one name.

Known limit: a child that was forked by code which tells Python nothing of it keeps its parent's lock.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakSet

import msgspec

from ebbgate.errors import StoreUnavailable
from ebbgate.neighbours.push import ADDRESS_LENGTH_MAX, wake_folder

_MODE: Final = 0o600
_BYTES_MAX: Final = 65_536
_PATIENCE_SECONDS: Final = 0.5  # those who look whether there is an owner hold the lock for microseconds
_START_SECONDS: Final = 1.0  # between taking the lock and telling the address
_PAUSE_SECONDS: Final = 0.002


class OwnerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """How the owner of a file is reached."""

    url: str
    socket: str | None = None  # a Unix socket, for processes of the same user
    pid: int
    host: str


def socket_path(store_path: Path) -> Path:
    """Return where the owner of a file listens for its neighbours."""
    path = store_path.with_name(store_path.name + "-owner.sock")
    if len(os.fsencode(path)) > ADDRESS_LENGTH_MAX:
        return wake_folder(store_path) / "owner.sock"
    return path


class Owner:
    """This process as the owner of a file, until `close` or its end."""

    def __init__(self, path: Path) -> None:
        """Become the owner of the store's file at `path`.

        Raises:
            StoreUnavailable: another process is, or no file can be made beside it.
        """
        self._path = Path(os.path.realpath(path))
        self._pid = os.getpid()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(_beside(self._path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise StoreUnavailable(
                f"no file can be made beside the store {self._path} ({error.strerror}); "
                "its folder must be writable for this user",
                transient=False,
            ) from error
        _owners.add(self)
        try:
            self._lock()
        except BaseException:
            self._let_go()
            raise

    def _lock(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _try_lock(self._descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise StoreUnavailable(self._refusal(), transient=False)
            time.sleep(_PAUSE_SECONDS)
        os.ftruncate(self._descriptor, 0)  # what a dead owner said

    def _refusal(self) -> str:
        other = _read(self._descriptor)
        who = (
            f"the server at {other.url} (process {other.pid} of {other.host})" if other else "another server"
        )
        return (
            f"the store {self._path} is owned by {who}; use that one, stop it, "
            "or serve another file: ebbgate serve --store sqlite:////path/to/other.db"
        )

    def tell(self, address: OwnerAddress) -> None:
        """Write down where this process is reached."""
        told = msgspec.json.encode(address)
        os.pwrite(self._descriptor, told, 0)
        os.ftruncate(self._descriptor, len(told))

    def close(self) -> None:
        """Own it no longer; the file goes back to embedded use."""
        if self._descriptor >= 0 and self._pid == os.getpid():
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        self._let_go()

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def owner_of(path: Path) -> OwnerAddress | None:
    """Return who owns the store's file at `path`; None when nobody does, or when the owner has died.

    Raises:
        StoreUnavailable: an owner is there and does not tell its address.
    """
    path = Path(os.path.realpath(path))
    try:
        descriptor = os.open(_beside(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"who owns the store {path} cannot be read ({error.strerror})") from error
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _try_lock(descriptor, fcntl.LOCK_SH):
            found = _read(descriptor)
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"a server owns the store {path} and does not say where it is reached; it starts or stops"
                )
            time.sleep(_PAUSE_SECONDS)
        return None
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + "-owner")


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreUnavailable(
            f"the disk of the store has no locks ({error.strerror}); use a local one", transient=False
        ) from error
    return True


def _read(descriptor: int) -> OwnerAddress | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, _BYTES_MAX, 0), type=OwnerAddress)
    except msgspec.MsgspecError:
        return None


_owners: Final[WeakSet[Owner]] = WeakSet()


def _close_inherited() -> None:
    # A child that kept the descriptor would own the file after its parent has died.
    for owner in list(_owners):
        owner._let_go()


os.register_at_fork(after_in_child=_close_inherited)
