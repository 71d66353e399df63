"""One SQLite connection: used by one thread at a time, tried again while others are busy, safe under fork.

A forked child must neither use nor forget what it inherits. SQLite remembers in the child that the process
has its locks on the file, but locks are not inherited: a connection opened there beside the inherited one
would take none, and the parent, closing as the last one with locks, would delete the log under it (commits
of the child were lost in our trial). So no thread may be inside SQLite while the process forks, and the child
closes what it inherits, without checkpoint, before anything is opened: then its locks are its own.

Known limit: a child forked (say, by a signal handler) in the middle of a commit of its own thread, or by code
that tells Python nothing of it, cannot use the file.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import apsw

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Busy
from ebbgate.stores.sqlite_errors import unavailable

P = ParamSpec("P")
T = TypeVar("T")

_PAUSE_MIN_S: Final = 50e-6
_PAUSE_MAX_S: Final = 2e-3
_FORK_PATIENCE_S: Final = 5.0


class Guard:
    """A connection and everything that may be done with it."""

    def __init__(self, path: Path, opened: Callable[[Path], apsw.Connection], patience_us: int) -> None:
        """Open it.

        Args:
            path: of the file.
            opened: opens a connection to it; called again while others keep the file locked.
            patience_us: for how long.

        Raises:
            StoreUnavailable: it cannot be opened.
        """
        self.path = path
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._cursor: apsw.Cursor | None = None
        if path in _unusable:
            raise StoreUnavailable(
                f"the store {path} was in the middle of a commit when this process was forked; "
                "fork elsewhere, or start the process anew instead of forking it"
            )
        _guards[id(self)] = self
        self._patiently(patience_us, self._open, opened)

    def _open(self, opened: Callable[[Path], apsw.Connection]) -> None:
        with self._mutex:
            connection = opened(self.path)
            # Closing checkpoints and deletes the log only where `close` wants it: a connection that is merely
            # forgotten may be one that a fork left behind.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection, self._cursor = connection, connection.cursor()

    def run(
        self,
        patience_us: int,
        work: Callable[Concatenate[apsw.Cursor, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """Return what `work` returns, called with the one cursor; it leaves no transaction open.

        Args:
            patience_us: how long to try again while others keep the file locked; 0: not at all.
            work: what to do.
            arguments: for `work`, after the cursor.
            named: the same.

        Raises:
            Busy: others keep it locked, and `patience_us` is 0.
            StoreUnavailable: for everything else that SQLite raised; the error says what to do.
        """
        try:
            with self._mutex:
                return work(self._usable(), *arguments, **named)
        except apsw.BusyError:
            if patience_us <= 0:
                raise Busy from None
        except apsw.Error as error:
            raise unavailable(error, self.path) from error
        return self._patiently(patience_us, self._again, work, arguments, named)

    def _again(self, work: Callable[..., T], arguments: tuple[Any, ...], named: dict[str, Any]) -> T:
        with self._mutex:
            return work(self._usable(), *arguments, **named)

    def _usable(self) -> apsw.Cursor:
        if self._cursor is None or self._pid != os.getpid():
            what = "opened before a fork" if self.is_inherited else "closed"
            raise StoreUnavailable(f"the store {self.path} was {what}; open it again")
        return self._cursor

    def _patiently(self, patience_us: int, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        deadline = time.monotonic() + patience_us / 1e6
        pause = _PAUSE_MIN_S
        while True:
            try:
                return work(*arguments, **named)
            except apsw.BusyError as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise unavailable(error, self.path) from error
            except apsw.Error as error:
                raise unavailable(error, self.path) from error
            time.sleep(min(pause, left))
            pause = min(pause * 2, _PAUSE_MAX_S)

    @property
    def is_inherited(self) -> bool:
        """Whether this process is the child of a fork and the connection its parent's."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Close it; the last one of all processes puts the log into the file and deletes it."""
        if self.is_inherited:
            return
        with self._mutex:
            connection = self._forget()
            if connection is not None:
                try:
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
                    connection.close()
                except apsw.Error as error:
                    raise unavailable(error, self.path) from error

    def _forget(self) -> apsw.Connection | None:
        connection, self._connection, self._cursor = self._connection, None, None
        return connection

    # --- forking

    def hold(self) -> bool:
        """Keep every other thread out, before a fork."""
        return self._mutex.acquire(timeout=_FORK_PATIENCE_S)

    def go_on(self) -> None:
        """Let them in again."""
        self._mutex.release()

    def abandon(self) -> None:
        """In a forked child: forget the connection without a trace in the file. Done once, by itself."""
        if self.is_inherited:
            quiet = self._mutex.acquire(blocking=False)
            self.let_go(quiet=quiet)
            if quiet:
                self._mutex.release()

    def let_go(self, *, quiet: bool) -> None:
        """The same, told whether no thread was inside SQLite at the fork."""
        connection = self._forget()
        if connection is None:
            return
        if quiet:
            connection.close()
        else:
            # Nothing is safe here but to leave it as it is for as long as this process lives.
            _unusable.add(self.path)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


_guards: Final[WeakValueDictionary[int, Guard]] = WeakValueDictionary()
_unusable: Final[set[Path]] = set()
_forking: Final = threading.local()


def _before_fork() -> None:
    _forking.held = [guard for guard in list(_guards.values()) if guard.hold()]


def _after_fork_in_parent() -> None:
    for guard in _forking.__dict__.pop("held", ()):
        guard.go_on()


def _after_fork_in_child() -> None:
    for guard in _forking.__dict__.pop("held", ()):
        guard.let_go(quiet=True)
        guard.go_on()
    for guard in list(_guards.values()):
        guard.abandon()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
