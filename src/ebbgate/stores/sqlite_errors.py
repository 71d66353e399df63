"""What SQLite says went wrong, in plain sentences that tell what to do. All mapping is here."""

from contextlib import suppress
from pathlib import Path

import apsw

from ebbgate.errors import StoreUnavailable

_ADVICE: tuple[tuple[type[apsw.Error], str], ...] = (
    (
        apsw.BusyError,
        (
            "stayed locked: another program holds it, or a process was stopped in the middle of a commit; "
            "end that program (a sqlite3 shell, a backup?) or let the process go on"
        ),
    ),
    (
        apsw.NotADBError,
        "is not an SQLite database (or is encrypted); name another file, or move this one away",
    ),
    (apsw.CorruptError, "is damaged; move it away with its -wal file and restore a backup, or start anew"),
    (apsw.FullError, "cannot grow: the disk or the quota is full; make room, nothing was written"),
    (
        apsw.ReadOnlyError,
        (
            "is read-only for this user; make the file and its folder writable (SQLite writes beside it), "
            "or name another file"
        ),
    ),
    (
        apsw.CantOpenError,
        "cannot be opened; it must be a file, in a folder in which this user may create files",
    ),
    (apsw.PermissionsError, "may not be used by this user; give it access, or name another file"),
    (apsw.IOError, "cannot be read or written; look for a failing disk or a lost network mount"),
    (apsw.NoMemError, "needs more memory than there is"),
    (apsw.ProtocolError, "is locked in a way that never ends; its disk must support locks (no NFS, no SMB)"),
    (apsw.LockedError, "is locked by this very process; this is a defect of ebbgate, please report it"),
    (
        apsw.SQLError,
        "holds other tables than ebbgate expects; restore a backup, or name another file",
    ),
)


def unavailable(error: apsw.Error, path: Path) -> StoreUnavailable:
    """Return what to raise from `error`, which SQLite raised about the file at `path`."""
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "cannot be used")
    if isinstance(error, apsw.BusyError) and (holders := _holders(path)):
        advice += f"; it is locked by process {', '.join(map(str, holders))}"
    return StoreUnavailable(f"the store {path} {advice} (SQLite says: {_said(error)})")


def _holders(path: Path) -> list[int]:
    """Which processes have a file of the store locked, as far as the system tells."""
    with suppress(OSError, ValueError, IndexError):
        beside = [path, path.with_name(f"{path.name}-shm")]
        files = {file.stat().st_ino for file in beside if file.exists()}
        locks = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
        return sorted({
            int(lock[4]) for lock in locks if lock[3] == "WRITE" and int(lock[5].split(":")[2]) in files
        })  # fmt: skip
    return []


def no_access(error: OSError, path: Path) -> StoreUnavailable:
    """Return what to raise from `error`, which the system raised about the file or folder of a store."""
    return StoreUnavailable(
        f"the store {path} cannot be made ({error.strerror}); "
        "its folder must exist, or be possible to make, and be writable for this user"
    )


def _said(error: apsw.Error) -> str:
    name = apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", -1), type(error).__name__)
    return f"{error}, {name}"
