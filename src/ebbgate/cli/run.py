"""`ebbgate run`: hold slots while a command runs."""

import errno
import math
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from ebbgate.cli import exits
from ebbgate.cli.exits import CommandNotFound, Interrupted, LostSlots, NotExecutable, UsageError
from ebbgate.cli.guard import FORWARDED, GRACE_SECONDS, Guard, GuardKilled, NotStarted
from ebbgate.cli.options import Output, Whole
from ebbgate.cli.printing import quoted, say, slots_of
from ebbgate.cli.reading import existing_client
from ebbgate.cli.run_waiting import Waiting
from ebbgate.client.client import Block, spend
from ebbgate.client.lease import Lease
from ebbgate.client.terms import hold_terms, spend_terms
from ebbgate.errors import AcquireTimeout, EbbgateError, LeaseLostWarning, LimitNotFound
from ebbgate.wire.questions import ReadLimit
from ebbgate.wire.shapes import LimitInfo
from ebbgate.wire.words import clean

LOOK_SECONDS: Final = 0.1
"""How soon a lost lease is noticed."""

_EXTEND_SECONDS: Final = 1.0
_TELL_LEFT_SECONDS: Final = 1.0  # after the command has ended; what it left usually ends soon
_LEFT_MAX: Final = 3


Command = Annotated[str, Parameter(help="What to run, after --; no shell is involved.")]
Limits = Annotated[
    list[str] | None,
    Parameter(
        name=("--limit", "-l"),
        help="Hold slots of this limit while the command runs. Repeatable: all or none.",
    ),
]
RateLimits = Annotated[
    list[str] | None,
    Parameter(
        name="--rate-limit",
        help="Spend slots of this rate limit before the command starts. Repeatable.",
    ),
]
Occupy = Annotated[
    int, Parameter(help="Slots of each --limit; of each --rate-limit if there is no --limit."), Whole
]
Timeout = Annotated[
    float | None, Parameter(help="Seconds to wait at most, then exit 124; 0 tries once, exit 75.")
]
Priority = Annotated[int, Parameter(help="Higher goes first."), Whole]
IfMissing = Annotated[
    Literal["fail", "run"],
    Parameter(
        name="--if-missing", help="If a limit does not exist: fail, exit 3; or run the command anyway."
    ),
]
IfLost = Annotated[
    Literal["end", "run"],
    Parameter(name="--if-lost", help="If the lease is lost: end the command; or let it run, with a warning."),
]
WaitFor = Annotated[
    Literal["all", "command"],
    Parameter(
        name="--wait-for",
        help="Hold the slots until the command and all processes it started have ended; or the command alone.",
    ),
]
Strict = Annotated[bool, Parameter(help="The same as --if-missing fail --if-lost end: the defaults.")]
Labels = Annotated[list[str] | None, Parameter(help="key=value, shown with the lease. Repeatable.")]


def run(
    *command: Command,
    limit: Limits = None,
    rate_limit: RateLimits = None,
    occupy: Occupy = 1,
    timeout: Timeout = None,
    priority: Priority = 0,
    if_missing: IfMissing = "fail",
    if_lost: IfLost = "end",
    wait_for: WaitFor = "all",
    strict: Strict = False,
    label: Labels = None,
    output: Output = "table",
) -> int:
    """Hold slots while a command runs; wait in turn until they are free.

    The exit code is that of the command: 128+n when it was killed by signal n. Signals are forwarded to it.
    The slots are held until the command and all processes that it started have ended, including background
    processes and daemons (on Linux; elsewhere daemons are not followed). If a signal ends the command, or the lease
    is lost, the remaining processes get SIGTERM, and SIGKILL 5 seconds later.
    The command finds EBBGATE_LEASE_ID and EBBGATE_FENCING_TOKEN in its environment. While it waits it tells on
    stderr who holds the slots, its place in line and an estimate; with -o json only an error is told.
    """
    if not command:
        raise UsageError("there is no command; write it after --, as in: ebbgate run --limit NAME -- COMMAND")
    limits, rates = limit or [], rate_limit or []
    if not limits and not rates:
        raise UsageError("there is nothing to hold; give --limit NAME or --rate-limit NAME")
    if strict and "run" in {if_missing, if_lost}:
        raise UsageError("--strict excludes --if-missing run and --if-lost run")
    labels = _labels(label or [], command[0])
    missing = _why_not(command[0])
    if missing:
        raise _cannot_run(command[0], missing)
    start = time.monotonic()
    client = existing_client()
    waiting = Waiting([*limits, *rates], client.url, silent=output == "json")
    must_exist, ends = if_missing == "fail", if_lost == "end"
    terms = hold_terms(
        limits, occupy, timeout, None, 300, must_exist and bool(limits), ends, False, priority, labels, None, "raise",
    )  # fmt: skip
    hold = Block(lambda: client, terms._replace(find_watch=waiting.find_watch))

    def spend_rates() -> None:
        if rates:
            left = None if timeout is None else max(timeout - (time.monotonic() - start), 0)
            terms = spend_terms(rates, 1 if limits else occupy, left, must_exist, priority, "raise")
            spend(lambda: client, terms._replace(find_watch=waiting.find_watch))

    try:
        guard = Guard(command, follows=bool(limits) and wait_for == "all")  # while there is no thread yet
        return _hold_and_run(guard, hold, spend_rates, waiting, ends=ends)
    except AcquireTimeout as error:
        raise AcquireTimeout(error.names, timeout or 0.0) from error
    except LimitNotFound as error:
        error.args = (f"{error}; to run the command anyway: --if-missing run",)
        raise
    except NotStarted as error:
        raise _cannot_run(command[0], error.number) from error
    except GuardKilled as error:
        raise EbbgateError("the guard of the command was killed, and the command with it") from error


def _hold_and_run(
    guard: Guard, hold: Block, spend_rates: Callable[[], None], waiting: Waiting, *, ends: bool
) -> int:
    """Run the command once the slots are held and spent; return its exit code."""
    warnings.simplefilter("ignore", LeaseLostWarning)  # said below, in the words of the command line
    # Entered twice: whatever is raised once the slots are held, the command is gone before they are.
    with guard, _signals(guard) as started, waiting, hold as lease, guard:
        spend_rates()
        waiting.over()
        if lease.id and not lease.protected:
            _tell_inactive(lease.names)
        started.set()
        _extend(guard, lease, ends=ends)
        guard.start(_environment(lease))
        return _watch(guard, lease, waiting, ends=ends)


def _extend(guard: Guard, lease: Lease, *, ends: bool) -> None:
    """Tell the guard how long the work may go on if this process stops renewing the lease."""
    if ends and lease.protected:
        guard.hold(max(lease.seconds_left() - GRACE_SECONDS, 0))


def _watch(guard: Guard, lease: Lease, waiting: Waiting, *, ends: bool) -> int:
    """Wait for the work to end; return the exit code of the command."""
    is_told_lost, tell_left_at = False, math.inf
    extend_at = time.monotonic() + _EXTEND_SECONDS
    status = None
    while status is None:
        status = guard.wait(LOOK_SECONDS)
        now = time.monotonic()
        if not is_told_lost and lease.lost:
            is_told_lost = True
            if not ends:
                _warn_of_loss(lease, is_over=status is not None)
            elif status is None:
                guard.end()
        if now >= extend_at and not lease.lost:
            _extend(guard, lease, ends=ends)
            extend_at = now + _EXTEND_SECONDS
        if guard.has_exited and tell_left_at == math.inf:
            tell_left_at = now + _TELL_LEFT_SECONDS
        if status is None and now >= tell_left_at and not waiting.is_silent:
            _tell_left(guard)
            tell_left_at = -math.inf
            waiting.is_silent = True
    if ends and (lease.lost or guard.has_expired):
        why = lease.why or "not renewed in time"
        raise LostSlots(f"lost the lease on {_listed(lease.names)} ({why}), so the command was ended")
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else exits.BY_SIGNAL - code


def _tell_left(guard: Guard) -> None:
    left = guard.remaining()
    more = f" and {len(left) - _LEFT_MAX} more" if len(left) > _LEFT_MAX else ""
    say(
        f"ebbgate: the command has ended, but {slots_of(len(left), 'process')} that it started still "
        f"{'runs' if len(left) == 1 else 'run'}: {', '.join(left[:_LEFT_MAX])}{more}; "
        "the slots stay held until then (--wait-for command releases them with the command)"
    )


def _tell_inactive(names: tuple[str, ...]) -> None:
    """Tell of which limits nothing is held because they are disabled."""
    for name in names:
        limit = existing_client().gate.threads.see(ReadLimit(name))
        if isinstance(limit, LimitInfo) and not limit.active:
            what = f"limit {clean(name)!r} is disabled, so it does not block"
            say(f"ebbgate: {what}; turn it on: ebbgate limit enable {quoted(name)}")


def _warn_of_loss(lease: Lease, *, is_over: bool) -> None:
    went_on = "ended unprotected" if is_over else "goes on unprotected"
    say(
        f"ebbgate: warning: lost the lease on {_listed(lease.names)}; the command {went_on} "
        f"(--if-lost end would end it). See: ebbgate lease inspect {lease.id}"
    )


@contextmanager
def _signals(guard: Guard) -> Iterator[threading.Event]:
    """Raise `Interrupted` at a signal until the event is set, pass it on to the command from then on."""
    started = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if started.is_set():
            guard.signal(number)
        elif number != signal.SIGWINCH:
            raise Interrupted(number)

    before = {
        number: signal.signal(number, handle)
        for number in FORWARDED
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup, or a shell's background job, wants it so
    }
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(lease: Lease) -> Mapping[str, str]:
    if not lease.id:  # nothing is held
        return {}
    return {"EBBGATE_LEASE_ID": lease.id, "EBBGATE_FENCING_TOKEN": str(lease.fencing_token)}


def _labels(given: list[str], command: str) -> Mapping[str, str]:
    labels = {"command": Path(command).name[:100]}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"--label is key=value, got {text!r}")
        labels[name] = value
    return labels


def _why_not(command: str) -> int:
    """Return why a command cannot be run, as the kernel numbers it; 0 if it seems it can."""
    if shutil.which(command):
        return 0
    folders = [""] if "/" in command else os.get_exec_path()
    found = command and any(Path(folder, command).is_file() for folder in folders)
    is_folder = "/" in command and Path(command).is_dir()
    return errno.EACCES if found else errno.EISDIR if is_folder else errno.ENOENT


def _cannot_run(command: str, number: int) -> EbbgateError:
    shown = repr(clean(command))
    if number == errno.ENOENT:
        why = "no such file, or its #! line names none" if "/" in command else "not found on PATH"
        return CommandNotFound(f"{shown}: {why}")
    hints = {
        errno.ENOEXEC: "; begin it with a line like #!/bin/sh",
        errno.EACCES: f"; make it executable: chmod +x {quoted(command)}",
    }
    return NotExecutable(f"{shown} cannot be executed: {os.strerror(number)}{hints.get(number, '')}")


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(clean(name)) for name in names)
