"""A disk that can be full, fail, and be cut off from its power: an SQLite VFS around the real one.

`Disk` records what SQLite writes, truncates, creates, deletes and syncs, and fails where it is told to. From
its record `cuts` says, for every moment, what a disk may hold after the power failed then:

- what was synced is there, whole; a sync that has returned means it;
- of what was written to a file since its last sync, any part may be there, whatever the order it was written
  in; single writes also in part, by sectors of 512 bytes at multiples of 512. A sector beyond the old end of
  the file that was not written holds zeros or anything at all;
- creating and deleting files takes place in order (as on every journaling file system); how much of it took
  place is open, until a file that was created since is synced: SQLite syncs its folder then;
- a write damages nothing beside the bytes that it writes (SQLite assumes it too: "powersafe overwrite"), and
  what is stored does not rot;
- memory shared by processes (the -shm file) is gone.

Known limits: only what goes through SQLite is seen, not the lock and presence files, which hold nothing; and
a disk that says that it has synced and has not (with a volatile cache without power) is not covered.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final, Literal, NamedTuple

import apsw

What = Literal["create", "write", "truncate", "sync", "delete", "mark"]

_names: Final = count(1)


class Operation(NamedTuple):
    """One thing that was done to a file; or, as "mark", something that the test wants to remember here."""

    what: What
    name: str = ""  # of the file, without its folder
    inode: int = 0  # tells a file from one of the same name before it
    offset: int = 0  # of a write; the length of a truncate
    data: bytes = b""
    mark: object = None


Fault = Callable[[Operation], apsw.Error | None]


def no_fault(_operation: Operation) -> apsw.Error | None:
    """Let everything happen."""
    return None


def failure(code: int) -> apsw.Error:
    """Return the error that makes SQLite see the result `code`, as in `apsw.SQLITE_IOERR_FSYNC`."""
    error = apsw.exception_for(code)
    assert isinstance(error, apsw.Error)
    return error


class Disk(apsw.VFS):
    """Stands between SQLite and the disk for every connection that is opened as long as it is installed.

    Args:
        fault: asked before each operation; what it returns is raised. A write that fails is half done.
        syncs: whether a sync reaches the real disk; without it the tests are quicker and prove the same.
    """

    def __init__(self, fault: Fault = no_fault, *, syncs: bool = False) -> None:
        """Install it; use `installed` to have it removed."""
        self.base = apsw.vfs_names()[0]
        self.fault = fault
        self.syncs = syncs
        self.operations: list[Operation] = []
        self._inodes: dict[str, int] = {}
        self._fresh = count(1)
        super().__init__(f"ebbgate-disk-{next(_names)}", self.base, makedefault=True)

    def mark(self, mark: object) -> None:
        """Remember something at this place of the record."""
        self.operations.append(Operation("mark", mark=mark))

    def happens(self, operation: Operation) -> None:
        """Record an operation, or raise what is to happen instead."""
        error = self.fault(operation)
        if error is not None:
            raise error
        self.operations.append(operation)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_File":  # noqa: N802 - SQLite's
        """Open a file, made if SQLite wants it made."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        short = Path(path).name
        if not Path(path).exists():
            self.happens(Operation("create", short, next(self._fresh)))
            self._inodes[path] = self.operations[-1].inode
        elif path not in self._inodes:
            self._inodes[path] = next(self._fresh)
            content = Path(path).read_bytes() if not short.endswith("-shm") else b""
            there = Operation("create", short, self._inodes[path], data=content)
            self.operations += [there, Operation("sync", short, there.inode)]
        return _File(self, name, flags, short, self._inodes[path])

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        """Delete a file."""
        self.happens(Operation("delete", Path(filename).name, self._inodes.get(filename, 0)))
        super().xDelete(filename, syncdir)
        self._inodes.pop(filename, None)


class _File(apsw.VFSFile):
    """One open file of a `Disk`. Shared memory and locks go straight to the real VFS."""

    def __init__(
        self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int], short: str, inode: int
    ) -> None:
        self._disk, self._name, self._inode = disk, short, inode
        super().__init__(disk.base, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        try:
            self._disk.happens(Operation("write", self._name, self._inode, offset, bytes(data)))
        except apsw.Error:
            half = bytes(data)[: len(data) // 2]
            self._disk.operations.append(Operation("write", self._name, self._inode, offset, half))
            super().xWrite(half, offset)
            raise
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.happens(Operation("truncate", self._name, self._inode, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.happens(Operation("sync", self._name, self._inode))
        if self._disk.syncs:
            super().xSync(flags)


@contextmanager
def installed(fault: Fault = no_fault, *, syncs: bool = False) -> Iterator[Disk]:
    """Have a `Disk` under everything that SQLite opens in this process within the block."""
    disk = Disk(fault, syncs=syncs)
    try:
        yield disk
    finally:
        disk.unregister()


def growth(operation: Operation, sizes: dict[int, int]) -> int:
    """Return by how many bytes an operation makes its file longer; `sizes` keeps the lengths of the files."""
    size = sizes.get(operation.inode, 0)
    end = operation.offset + len(operation.data)
    if operation.what == "truncate":
        sizes[operation.inode] = operation.offset
    elif operation.what in {"write", "create"}:
        sizes[operation.inode] = max(size, end)
    return max(end - size, 0) if operation.what == "write" else 0


def materialise(image: dict[str, bytes], folder: Path) -> None:
    """Write the files of an image into a folder."""
    for name, content in image.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
