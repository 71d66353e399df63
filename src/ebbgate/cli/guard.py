"""The process between `ebbgate run` and its command, so that the command never outlives the slot.

`ebbgate run` forks a guard before it has any thread, and the guard starts the command. When `ebbgate run` is
gone, however it died, the kernel closes its end of their socket, and the guard kills the command with
everything it started. When the guard itself is killed, the kernel kills the command (`PR_SET_PDEATHSIG`), and
`ebbgate run` its orphans. All three share one process group, so a terminal's keys reach the command by
themselves; the guard has seen such a signal too, and does not send it again.

Known limits: the others learn of the death of `ebbgate run` in the same instant as the guard, so the command
may still be there for the millisecond that killing it takes. When both are killed at once, the kernel kills
the command but not what it started; outside Linux, neither. A command with other rights (`sudo`) cannot be
killed. When `ebbgate run` alone is stopped (SIGSTOP), it renews nothing, and the command goes on.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

FORWARDED: Final = frozenset({
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
})  # fmt: skip
"""What is passed on to the command. Ctrl-Z stops the whole process group by itself."""

GRACE_SECONDS: Final = 5.0
"""How long a command whose lease was lost has between SIGTERM and SIGKILL."""

_SAME_SIGNAL_SECONDS: Final = (
    0.01  # how much later than its sibling the guard may see a signal to their group
)
_KILL_SECONDS: Final = 5.0  # after SIGKILL only a process inside the kernel is still there
_PAUSE_SECONDS: Final = 0.005
_LINUX: Final = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_libc: Final = ctypes.CDLL(None, use_errno=True) if _LINUX else None


class NotStarted(Exception):  # noqa: N818 - what happened, not a defect
    """The command could not be started; `number` is the kernel's reason."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(os.strerror(number))


class GuardKilled(Exception):  # noqa: N818 - the same
    """Somebody killed the guard; the command was killed for it."""


class Guard:
    """The guard, as `ebbgate run` sees it."""

    def __init__(self, command: Sequence[str]) -> None:
        """Fork it. This process must have no other thread yet."""
        _adopt_orphans()
        self._channel, theirs = socket.socketpair()
        self._heard = b""
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        self._pid = os.fork()
        if not self._pid:
            status = 1
            try:
                self._channel.close()
                _Guarding(theirs, command, mask, parent).run()
                status = 0
            except BaseException as error:  # noqa: BLE001 - nobody above may go on as if it were the parent
                with contextlib.suppress(OSError):
                    os.write(2, f"ebbgate: the guard failed: {error!r}\n".encode())
                kill_children()
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def __enter__(self) -> Self:
        """Return the guard itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go; a command that still runs is killed. Return when both are gone. May be done twice."""
        self._channel.close()
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the command, with these variables beside those of this process."""
        self._say({"start": dict(environment)})

    def signal(self, number: int) -> None:
        """Pass a signal on, unless the command has got it already."""
        self._say({"signal": number})

    def end(self) -> None:
        """Ask the command and all it started to end, and kill what is left after `GRACE_SECONDS`."""
        self._say({"end": GRACE_SECONDS})

    def _say(self, what: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError):  # it has gone; `wait` notices
            self._channel.sendall(json.dumps(what).encode() + b"\n")

    def wait(self, seconds: float) -> int | None:
        """Return the command's wait status, or None after `seconds`.

        Raises:
            NotStarted: it could not be started.
            GuardKilled: the guard has gone.
        """
        if not select.select((self._channel,), (), (), seconds)[0]:
            return None
        data = self._channel.recv(4096)
        self._heard += data
        if not data:
            os.waitpid(self._pid, 0)
            self._pid = 0
            kill_children()
            raise GuardKilled
        if not self._heard.endswith(b"\n"):
            return None
        kind, number = self._heard.split()
        if kind == b"failed":
            raise NotStarted(int(number))
        return int(number)


class _Guarding:
    """The guard itself: one thread, forked from a process with one thread."""

    def __init__(self, channel: socket.socket, command: Sequence[str], mask: set[int], parent: int) -> None:
        self._channel = channel
        self._command = command
        self._mask = mask
        self._parent = parent
        self._child = 0
        self._unread = b""

    def run(self) -> None:
        """Guard the command until it ends or `ebbgate run` is gone."""
        _adopt_orphans()
        # SIGCHLD only has to interrupt `select`.
        wake, woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready = select.select((self._channel.fileno(), wake), (), ())[0]
            if wake in ready:
                os.read(wake, 4096)
                status = self._reap()
                if status is not None:
                    self._tell(f"ended {status}")
                    return
            if self._channel.fileno() in ready and not self._listen():
                return

    def _listen(self) -> bool:
        """Do what `ebbgate run` says; return False when there is nothing left to guard."""
        data = self._channel.recv(65_536)
        if not data:  # it has gone
            kill_children()
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        return all(self._obey(json.loads(line)) for line in lines)

    def _obey(self, said: Mapping[str, object]) -> bool:
        match said:
            case {"start": dict(environment)}:
                return self._start(environment)
            case {"signal": int(number)} if self._child:
                # Sent to the whole group, it has reached the command already, and waits here to be taken.
                if signal.sigtimedwait({number}, _SAME_SIGNAL_SECONDS) is None:
                    with contextlib.suppress(PermissionError):  # `sudo`: the slots stay held until it ends
                        os.kill(self._child, number)
            case {"end": int() | float() as seconds}:
                return self._end(float(seconds))
            case _:
                pass
        return True

    def _start(self, environment: Mapping[str, str]) -> bool:
        failed, tells = os.pipe()
        guard = os.getpid()
        self._child = os.fork()
        if not self._child:
            _become(self._command, {**os.environ, **environment}, self._mask, guard, tells)
        os.close(tells)
        reason = os.read(failed, 16)  # nothing once the command runs
        os.close(failed)
        if reason:
            self._tell(f"failed {int(reason)}")
            return False
        return True

    def _reap(self) -> int | None:
        """Bury who has died; return the command's wait status if it is among them."""
        ended = None
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid == self._child:
                    ended = status
        return ended

    def _end(self, seconds: float) -> bool:
        """End the command and all it started, also what it left behind."""
        deadline = time.monotonic() + seconds
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        status = None
        while (
            time.monotonic() < deadline and self._channel not in select.select((self._channel,), (), (), 0)[0]
        ):
            ended = self._reap()
            status = status if ended is None else ended
            if not _has_children():
                break
            time.sleep(_PAUSE_SECONDS)
        kill_children()
        self._tell(f"ended {signal.SIGKILL if status is None else status}")
        return False

    def _tell(self, what: str) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(what.encode() + b"\n")


def _become(
    command: Sequence[str], environment: Mapping[str, str], mask: set[int], guard: int, tells: int
) -> None:
    """Turn this process, just forked by the guard, into the command."""
    try:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guard:  # it died before the kernel knew
                os._exit(1)
        signal.set_wakeup_fd(-1)
        # Python ignores the first two and catches the third; a command starts like from a shell.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - the user's own command
    except OSError as error:
        os.write(tells, str(error.errno or errno.EIO).encode())
    finally:
        os._exit(127)


def _adopt_orphans() -> None:
    """Have the kernel give this process what its descendants leave behind."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_children() -> None:
    """Kill everything this process has started, and everything that started; return when it is gone."""
    deadline = time.monotonic() + _KILL_SECONDS
    while _has_children() and time.monotonic() < deadline:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(_PAUSE_SECONDS / 5)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, and theirs."""
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _children(pid: int) -> list[int]:
    if not _LINUX:
        return _children_by_ps(pid)
    children: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += map(int, file.read_text().split())
    return children


def _children_by_ps(pid: int) -> list[int]:
    import subprocess

    command = ("/bin/ps", "-axo", "pid=,ppid=")
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - no input
    pairs = [line.split() for line in listed.splitlines()]
    return [int(pair[0]) for pair in pairs if len(pair) == 2 and pair[1] == str(pid)]
