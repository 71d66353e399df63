"""Opening the file of a store: made with the right rights, brought to the newest schema, or refused.

The files `schema/sqlite/NNNN_*.sql` bring a file forward one step each, under an exclusive transaction, and
are never changed once released. SQLite's `user_version` says how far a file is.

A file that is made for durability FULL, as servers do, has pages of 4096 bytes, others of 2048: with 4096, four
processes on one file do 3,800 pairs a second, with 2048 4,200 to 5,200. With pages of 2048, 4096 and 8192 bytes,
processor for a record: one a commit with few leases 21, 22 and 26 us, with 10,000 leases 30, 29 and 31 us; 32 a
commit at FULL 8.1, 6.8 and 6.3 us, with 10,000 leases 13.1, 12.2 and 12.7 us. What counts is how many pages a commit
writes, two calls of the system each.

Known limit: there is no way back to an older schema; keep a backup before an upgrade.
"""

import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Final

import apsw

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.sqlite_errors import no_access
from ebbgate.version import requirement

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
PAGE_SIZE: Final = 2048
"""Of the file of processes: whoever takes in what others commit reads pages again, and small ones cost less."""

SERVER_PAGE_SIZE: Final = 4096
"""Of a file that a server makes: it is alone with it, and commits many records at once."""
APPLICATION_ID: Final = int.from_bytes(b"ebbg")
LOG_BYTES_MAX: Final = 64 << 20  # a log file that grew beyond this is cut when it starts over
SQLITE_MIN: Final = (3, 51, 3)

_SCHEMA: Final = Path(__file__).parent / "schema" / "sqlite"

# Closing any descriptor of a file drops all locks that the process has on it, so nothing else may open or
# close it while SQLite opens it.
_creating = Lock()


def check_library(version: str) -> None:
    """Refuse an SQLite that can damage a file which two connections write.

    Raises:
        StoreUnavailable: `version` is older than 3.51.3.
    """
    if tuple(int(part) for part in version.split(".")[:3]) < SQLITE_MIN:
        raise StoreUnavailable(
            f"SQLite {version} can damage a file that several processes write; "
            "upgrade apsw, which brings its own SQLite: pip install --upgrade 'apsw>=3.54'"
        )


def beside(path: Path, what: str) -> Path:
    """Return the path of a file of `what` beside the store at `path`."""
    return path.with_name(f"{path.name}-{what}")


@cache
def migrations() -> tuple[str, ...]:
    """Return the steps from an empty file to the newest schema."""
    files = sorted(_SCHEMA.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1)), "numbered without gaps"
    return tuple(file.read_text(encoding="utf-8") for file in files)


def open_file(path: Path, *, synchronous: str) -> apsw.Connection:
    """Open the file at `path`, made with its folder if missing, and bring it to the newest schema.

    What is made is for this user alone.

    Raises:
        StoreUnavailable: something else is at `path`, it cannot be made, or it belongs to another program
            or to a newer ebbgate.
        apsw.Error: see `sqlite_errors`.
    """
    with _creating:
        try:
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _create(path)
        except OSError as error:
            raise no_access(error, path) from error
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        _prepare(connection, path, synchronous)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        with suppress(FileExistsError):  # another process may be faster, with the same rights
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    else:
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a file"
            raise StoreUnavailable(f"the store {path} is {what}; name a file, such as {path}/ebbgate.db")


def _prepare(connection: apsw.Connection, path: Path, synchronous: str) -> None:
    connection.set_busy_timeout(0)
    _check_owner(connection, path)
    page_size = SERVER_PAGE_SIZE if synchronous == "FULL" else PAGE_SIZE
    connection.execute(f"PRAGMA page_size = {page_size}")
    mode = connection.execute("PRAGMA journal_mode = WAL").get
    if mode != "wal":
        raise StoreUnavailable(
            f"the store {path} lies where SQLite cannot keep a write-ahead log (mode {mode!r}); "
            "use a local disk, not a network share"
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
    connection.wal_autocheckpoint(0)
    _migrate(connection, path)


def _check_owner(connection: apsw.Connection, path: Path) -> int:
    """Return how many migrations the file has seen."""
    application = connection.execute("PRAGMA application_id").get
    number = connection.execute("PRAGMA user_version").get
    if application != APPLICATION_ID and (
        application or number or connection.execute("SELECT count(*) FROM sqlite_schema").get
    ):
        raise StoreUnavailable(f"the store {path} is a database of another program; name another file")
    known = len(migrations())
    if number > known:
        raise StoreUnavailable(
            f"the store {path} was written by a newer ebbgate (schema {number}, known here: {known}); "
            f"upgrade ebbgate: pip install --upgrade {requirement()}"
        )
    return int(number)


def _migrate(connection: apsw.Connection, path: Path) -> None:
    if _check_owner(connection, path) == len(migrations()):
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        done = _check_owner(connection, path)  # another process may have been faster
        for number, script in enumerate(migrations()[done:], start=done + 1):
            connection.execute(script).fetchall()  # all of it: it pauses at every row that it returns
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
