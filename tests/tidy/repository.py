"""What the tests of this folder look at: the files of the repository, and their syntax trees."""

import ast
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Where git is missing (an unpacked archive) the tree is walked, without what git would ignore.
_FOLDERS_LEFT_OUT = {"__pycache__", "build", "dist"}
_DOT_FOLDERS_KEPT = {".ci"}


@dataclass(frozen=True, slots=True)
class Offence:
    """One place that breaks a law."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        """Show the place as editors like it."""
        return f"{self.path}:{self.line}: {self.what}"


def assert_none(offences: Iterator[Offence]) -> None:
    """Fail with the whole list, so that one run shows all there is to do."""
    found = [str(offence) for offence in offences]
    assert not found, "\n".join(["", *found])


@functools.cache
def files() -> tuple[str, ...]:
    """All files that belong to the repository, tracked or not yet, by their path from its root."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        command = [git, "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, check=False)
        if listed.returncode == 0:
            names = listed.stdout.decode().split("\0")
            return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))
    return tuple(sorted(_walk()))


def _walk() -> Iterator[str]:
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in _FOLDERS_LEFT_OUT and (not name.startswith(".") or name in _DOT_FOLDERS_KEPT)
        ]
        for name in names:
            yield (Path(folder) / name).relative_to(ROOT).as_posix()


@functools.cache
def text(path: str) -> str | None:
    """The text of a file; None if it holds something else."""
    data = (ROOT / path).read_bytes()
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def lines(path: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file; none if it is not text."""
    return enumerate((text(path) or "").splitlines(), start=1)


def python_files(*folders: str) -> list[str]:
    """The Python files in these folders, or in all."""
    places = tuple(f"{folder}/" for folder in folders) or ("",)
    return [path for path in files() if path.endswith(".py") and path.startswith(places)]


@functools.cache
def tree(path: str) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(text(path) or "", filename=path)


def names_used(path: str, module: str, *names: str) -> Iterator[Offence]:
    """Where a file uses one of these names of a module, under whatever name it imported it."""
    aliases = {module}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            aliases.update(name.asname for name in node.names if name.name == module and name.asname)
    for node in ast.walk(tree(path)):
        match node:
            case ast.ImportFrom(module=source, level=0) if source == module:
                for name in node.names:
                    if name.name in names:
                        yield Offence(path, node.lineno, f"from {module} import {name.name}")
            case ast.Attribute(value=ast.Name(id=owner), attr=attr) if owner in aliases and attr in names:
                yield Offence(path, node.lineno, f"{module}.{attr}")
            case _:
                pass
