"""Checks of the file at a store's path: before it is opened, and while a process has it open.

A file that lost its content, or that another user controls, is refused before SQLite creates anything in it. A file
that is removed or replaced while it is open would take commits that no other process ever sees.
"""

import os
import stat
from pathlib import Path
from typing import Final

from ebbgate.errors import StoreUnavailable

_COMPANIONS: Final = ("wal", "shm", "presence", "lock", "checkpoint", "history")
"""Made by processes that have the store open, each after the file has its schema."""

FileId = tuple[int, int]
"""Device and inode."""


def check_place(path: Path, *, allow_empty: bool) -> None:
    """Refuse a file that lost its content, or that is not safe to share.

    Raises:
        StoreUnavailable: the error says what to do.
    """
    # Companions first: a process that creates the store right now makes them after its content.
    companions: list[Path] = []
    try:
        companions = [
            name for what in _COMPANIONS if (name := path.with_name(f"{path.name}-{what}")).exists()
        ]
        found = path.stat()
    except FileNotFoundError:
        size = 0
    except OSError as error:
        if error.errno is None:  # raised by a signal handler, such as a TimeoutError
            raise
        return  # refused in better words when it is opened
    else:
        _check_owner(path, found)
        size = found.st_size
    if companions and not size and not allow_empty:
        named = ", ".join(companion.name for companion in companions)
        raise StoreUnavailable(
            f"the store {path} is empty or missing, but files that belong to it exist ({named}), so its content was "
            "lost; restore the file from a backup, or remove those files to start with an empty store, or allow it: "
            "ebbgate serve --allow-empty-store, or EBBGATE_ALLOW_EMPTY_STORE=1",
            transient=False,
        )


def _check_owner(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        return  # refused in better words when it is opened
    if found.st_mode & stat.S_IWOTH:
        raise StoreUnavailable(
            f"the store {path} is writable by every user of this machine; run: chmod o-w {path}; "
            "users share limits through a server: ebbgate serve",
            transient=False,
        )
    if os.geteuid() not in {0, found.st_uid}:
        raise StoreUnavailable(
            f"the store {path} belongs to another user (id {found.st_uid}); name a file of your own, or share limits "
            "through a server that the owner runs: ebbgate serve",
            transient=False,
        )


class Place:
    """The file of a store and its log, as they were when the store was opened."""

    def __init__(self, path: Path) -> None:
        """Remember which files there are."""
        both = (path, path.with_name(f"{path.name}-wal"))
        self._files = {file: found for file in both if (found := _file_at(file)) is not None}

    def misplaced(self) -> StoreUnavailable | None:
        """Return what to raise if one of the files was removed or replaced since."""
        for file, opened in self._files.items():
            if _file_at(file) != opened:
                return StoreUnavailable(
                    f"{file} was removed or replaced while this process had it open; put that very file back, "
                    "or restart all processes that use the store with the file that shall count"
                )
        return None


def _file_at(path: Path) -> FileId | None:
    try:
        found = path.stat()
    except OSError as error:
        if error.errno is None:  # raised by a signal handler, such as a TimeoutError
            raise
        return None
    return found.st_dev, found.st_ino
