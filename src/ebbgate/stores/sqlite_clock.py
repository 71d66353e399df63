"""The clock of a file: what all processes of one machine agree on, whatever happens to the wall clock.

The file keeps an anchor: one instant, by the wall clock and by the machine's monotonic clock, and which boot
of the machine it was. Store time is the anchor plus what the monotonic clock advanced since.

Known limits: store time stands still while the machine sleeps, and falls behind the wall clock by that much
until the next boot; a process in a time namespace of its own has another monotonic clock and must not share
the file.
"""

import ctypes
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from ebbgate.errors import StoreUnavailable

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

TAIL_US: Final = 3_600_000_000
"""How much a power cut may take back at most; systems write what is dirty within a minute."""


def boot_id() -> str:
    """Return what the kernel calls this boot of the machine.

    Raises:
        StoreUnavailable: this system does not tell.
    """
    try:
        if sys.platform == "darwin":
            return _sysctl("kern.bootsessionuuid")
        return _BOOT_ID.read_text().strip()
    except (OSError, ValueError) as error:
        raise StoreUnavailable(
            f"the machine does not tell which boot this is ({error}); "
            "mount /proc, or use a server: ebbgate serve"
        ) from error


def _sysctl(name: str) -> str:
    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(buffer))
    if library.sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, 0) != 0:
        raise OSError(ctypes.get_errno(), f"sysctl {name}")
    return str(uuid.UUID(buffer.value.decode()))


class Clocks(NamedTuple):
    """What the machine offers; tests bring their own."""

    wall_us: Callable[[], int] = lambda: time.time_ns() // 1_000
    monotonic_us: Callable[[], int] = lambda: time.monotonic_ns() // 1_000
    boot_id: Callable[[], str] = boot_id


class Anchor(NamedTuple):
    """What turns the monotonic clock into store time."""

    number: int  # of the boot, as this file counts them
    ahead_us: int  # store time less monotonic time


def read_anchor(cursor: apsw.Cursor, clocks: Clocks, path: Path) -> Anchor:
    """Return the anchor of the present boot; the first process after a boot sets it.

    Raises:
        StoreUnavailable: another kernel has used the file since this machine was booted.
    """
    boot = clocks.boot_id()
    anchor = _find(cursor, boot, path)
    if anchor is not None:
        return anchor
    try:
        cursor.execute("BEGIN IMMEDIATE")
        anchor = _find(cursor, boot, path)
        if anchor is None:
            _set_anchor(cursor, boot, clocks)
            anchor = _find(cursor, boot, path)
        cursor.execute("COMMIT")
    except BaseException:
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")
        raise
    assert anchor is not None, "the boot was inserted a moment ago"
    return anchor


def _set_anchor(cursor: apsw.Cursor, boot: str, clocks: Clocks) -> None:
    """Begin the clock of a new boot, at the wall clock's time but never before a committed instant.

    A commit without rows marks the change, so that nobody who still counts by the old boot can commit. The
    fencing tokens go on an hour later: with `durability="normal"` a power cut may have taken back the last
    commits, and without a battery the wall clock starts in the past, so lost tokens could be given again.
    """
    wall_us = clocks.wall_us()
    cursor.execute(
        "INSERT INTO log (version, tag, instant_us, token, arrival, rows) "
        "SELECT version + 1, lower(hex(randomblob(8))), "
        "max(?, instant_us), max(token, instant_us) + ?, arrival, '[]' "
        "FROM log WHERE version > 0 ORDER BY version DESC LIMIT 1",
        (wall_us, TAIL_US),
    )
    cursor.execute(
        "INSERT INTO boot (id, wall_us, monotonic_us, version) "
        "SELECT ?, max(?, instant_us), ?, version FROM log ORDER BY version DESC LIMIT 1",
        (boot, wall_us, clocks.monotonic_us()),
    )


def _find(cursor: apsw.Cursor, boot: str, path: Path) -> Anchor | None:
    row: list[Any] = cursor.execute(
        "SELECT number, wall_us - monotonic_us, (SELECT max(number) FROM boot) FROM boot WHERE id = ?",
        (boot,),
    ).fetchall()
    if not row:
        return None
    number, ahead_us, newest = row[0]
    if number != newest:
        raise superseded(path)
    return Anchor(number, ahead_us)


def superseded(path: Path) -> StoreUnavailable:
    """Return what to raise when another kernel has taken over the file."""
    return StoreUnavailable(
        f"the store {path} was used by another machine since this one was booted; "
        "two machines cannot share a file: run `ebbgate serve` on one of them. "
        "If the file was only carried back here, empty its table `boot`."
    )
