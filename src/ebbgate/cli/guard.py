"""The process between `ebbgate run` and its command, so that the work never outlives the slot.

`ebbgate run` forks a guard before it has any thread, and the guard starts the command. On Linux the guard is a
subreaper (`PR_SET_CHILD_SUBREAPER`): every descendant of the command whose parent ends becomes a child of the guard,
also one that has left the process group or session. The work has ended when the guard has no children.

The guard ends the work with SIGTERM, and with SIGKILL after `GRACE_SECONDS`, when

- a signal has ended the command and processes that it started are left,
- the lease is lost, or is about to expire because `ebbgate run` does not renew it (stopped by SIGSTOP, say).

When `ebbgate run` is gone, however it ended, the kernel closes its end of their socket, and the guard kills the work.
When the guard itself is killed, the kernel kills the command (`PR_SET_PDEATHSIG`), and `ebbgate run` its descendants.
All three share one process group, so a signal from the terminal reaches the command directly; the guard has received
that signal too, and does not send it again.

Known limits: the work may still run for the millisecond that it takes to kill it after `ebbgate run` was killed. When
both are killed at the same time, the kernel kills the command but not its descendants. Outside Linux, a descendant
whose parent has ended is not followed, and a killed guard does not end the command. A command with other rights
(`sudo`) cannot be killed; its slots stay held until it ends. Work that is started by another process on behalf of the
command (`docker run`, `systemd-run`, `at`) is not a descendant.
"""

import contextlib
import ctypes
import errno
import json
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from ebbgate.wire.words import clean

FORWARDED: Final = frozenset({
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH
})  # fmt: skip
"""Signals that are forwarded to the command. Ctrl-Z stops the whole process group without help."""

_ENDING: Final = frozenset({signal.SIGQUIT, signal.SIGTERM})
"""A command that ends after one of these was asked to end, and so are the processes that it leaves."""

_ENDING_IF_FATAL: Final = frozenset({signal.SIGHUP, signal.SIGINT})
"""The same for these, but only if the command ended because of it: some programs reload on SIGHUP."""

GRACE_SECONDS: Final = 5.0
"""How long the work has between SIGTERM and SIGKILL when the guard ends it."""

_SAME_SIGNAL_SECONDS: Final = (
    0.01  # how much later than its sibling the guard may see a signal to their group
)
_KILL_SECONDS: Final = 5.0  # after SIGKILL only a process inside the kernel is still there
_PAUSE_SECONDS: Final = 0.001
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

    def __init__(self, command: Sequence[str], *, follows: bool = True) -> None:
        """Fork it. This process must have no other thread yet.

        Args:
            command: what to run.
            follows: the work is the command and its descendants, rather than the command alone.
        """
        _adopt_orphans()
        self._channel, theirs = socket.socketpair()
        self._heard = b""
        self.has_exited = False
        """Whether the command has exited, while processes that it started still run."""
        self.has_expired = False
        """Whether the guard ended the work because the lease was not renewed in time."""
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        self._pid = os.fork()
        if not self._pid:
            status = 1
            try:
                self._channel.close()
                _Guarding(theirs, command, mask, parent, follows=follows).run()
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
        """Forward a signal, unless the command has got it already."""
        self._say({"signal": number})

    def end(self) -> None:
        """Ask the command and all its descendants to end, and kill what is left after `GRACE_SECONDS`."""
        self._say({"end": True})

    def hold(self, seconds: float) -> None:
        """Let the work go on for this long; the guard ends it then unless this is called again."""
        self._say({"hold": seconds})

    def remaining(self) -> list[str]:
        """Return the name and id of each process that the guard follows."""
        return [f"{_name_of(pid)} ({pid})" for pid in _descendants(self._pid)] if self._pid else []

    def _say(self, what: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError):  # it has gone; `wait` notices
            self._channel.sendall(json.dumps(what).encode() + b"\n")

    def wait(self, seconds: float) -> int | None:
        """Return the command's wait status once the work has ended, or None after `seconds`.

        Raises:
            NotStarted: it could not be started.
            GuardKilled: the guard has gone.
        """
        if not select.select((self._channel,), (), (), seconds)[0]:
            return None
        data = self._channel.recv(4096)
        if not data:
            os.waitpid(self._pid, 0)
            self._pid = 0
            kill_children()
            raise GuardKilled
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            kind, number = line.split()
            match kind:
                case b"failed":
                    raise NotStarted(int(number))
                case b"exited":
                    self.has_exited = True
                case b"expired":
                    self.has_expired = True
                case _:
                    return int(number)
        return None


class _Guarding:
    """The guard itself: one thread, forked from a process with one thread."""

    def __init__(
        self, channel: socket.socket, command: Sequence[str], mask: set[int], parent: int, *, follows: bool
    ) -> None:
        self._channel = channel
        self._command = command
        self._mask = mask
        self._parent = parent
        self._follows = follows
        self._child = 0
        self._status: int | None = None  # of the command, once it has exited
        self._sent: set[int] = set()  # the signals that the command got
        self._held_until = math.inf
        self._kill_at = math.inf  # finite: the work is being ended
        self._unread = b""

    def run(self) -> None:
        """Guard the command until the work ends or `ebbgate run` is gone."""
        _adopt_orphans()
        # SIGCHLD only has to interrupt `select`.
        wake, woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            pause = min(self._held_until, self._kill_at) - time.monotonic()
            ready = select.select(
                (self._channel.fileno(), wake), (), (), None if pause == math.inf else max(pause, 0)
            )[0]
            if wake in ready:
                os.read(wake, 4096)
            if self._is_over() or (self._channel.fileno() in ready and not self._listen()):
                return

    def _is_over(self) -> bool:
        """Reap what has exited and end what is due; return True when `ebbgate run` was told the end."""
        had_exited = self._status is not None
        self._reap()
        follows = self._follows or self._kill_at != math.inf
        if self._status is not None and not (follows and _has_children()):
            self._tell(f"ended {self._status}")
            return True
        now = time.monotonic()
        if now >= self._kill_at:
            kill_children(self._reap)
            self._kill_at = now + _KILL_SECONDS  # what cannot be killed keeps its slots
            return self._is_over()
        if self._status is not None and not had_exited:
            self._tell(f"exited {self._status}")
            if self._was_ended():
                self._end()
        if now >= self._held_until:
            self._held_until = math.inf
            self._tell("expired 0")
            self._end()
        return False

    def _was_ended(self) -> bool:
        """Tell whether a signal that was forwarded ended the command."""
        assert self._status is not None, "asked once it has exited"
        code = os.waitstatus_to_exitcode(self._status)
        fatal = {number for number in _ENDING_IF_FATAL if code in {-number, 128 + number}}
        return bool(self._sent & (_ENDING | fatal))

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
                self._forward(number)
            case {"hold": int() | float() as seconds}:
                self._held_until = time.monotonic() + seconds
            case {"end": True}:
                self._end()
            case _:
                pass
        return True

    def _forward(self, number: int) -> None:
        """Send a signal to the command, or to what it left."""
        # Sent to the whole group, it has reached the command already, and is pending here.
        is_sent = signal.sigtimedwait({number}, _SAME_SIGNAL_SECONDS) is not None
        self._sent.add(number)
        if self._status is None:
            if not is_sent:
                with contextlib.suppress(OSError):  # `sudo`: the slots stay held until it ends
                    os.kill(self._child, number)
        elif number in _ENDING | _ENDING_IF_FATAL:
            self._end()
        else:
            _signal_all(number)

    def _end(self) -> None:
        """Ask the work to end; it is killed after `GRACE_SECONDS`."""
        if self._kill_at == math.inf:
            _signal_all(signal.SIGTERM)
            _signal_all(signal.SIGCONT)  # a stopped process receives no other signal
            self._kill_at = time.monotonic() + GRACE_SECONDS

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

    def _reap(self) -> None:
        """Reap exited children, and note the command's wait status."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid == self._child:
                    self._status = status

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


def _signal_all(number: int) -> None:
    """Send a signal to every descendant of this process."""
    for pid in list(_descendants(os.getpid())):
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _reap_children() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def kill_children(reap: Callable[[], None] = _reap_children) -> None:
    """Kill every descendant of this process; return when they have ended, or after `_KILL_SECONDS`."""
    deadline = time.monotonic() + _KILL_SECONDS
    while _has_children() and time.monotonic() < deadline:
        _signal_all(signal.SIGKILL)
        reap()
        time.sleep(_PAUSE_SECONDS)


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


def _name_of(pid: int) -> str:
    try:
        return clean(Path(f"/proc/{pid}/comm").read_text(errors="replace").strip())
    except OSError:
        return "process"


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
