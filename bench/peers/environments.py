"""Environments for the peers: their packages beside ours would disturb both.

They are kept in the folder that `BENCH_CACHE` names (`ebbgate-bench` in the user's cache folder by default) and
are made again when what they should hold has changed.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.background import DidNotStartError, background
from bench.crew import Result, Start, Task, crew
from bench.report import NotHereError

PATIENCE_S = 600.0
COMPILED = {"PYTHONPYCACHEPREFIX": ""}
"""Their byte code lies beside them, made when they were installed."""

_VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages installed for one peer."""

    folder: Path

    @property
    def python(self) -> str:
        """The interpreter that sees them."""
        return str(self.folder / "bin" / "python")

    def crew(
        self,
        function: Callable[[Task, Start], Result],
        tasks: Sequence[Task],
        variables: Mapping[str, str] | None = None,
    ) -> list[Result]:
        """Run `function` once for each task, with these packages; see `bench.crew.crew`."""
        return crew(function, tasks, python=self.python, variables={**COMPILED, **(variables or {})})

    def versions(self, *packages: str) -> str:
        """Return packages and their versions, for people."""
        told = subprocess.run(
            [self.python, "-c", _VERSIONS, *packages], text=True, capture_output=True, check=True
        )
        return ", ".join(f"{name} {version}" for name, version in json.loads(told.stdout).items())


def cache() -> Path:
    """Return the folder in which environments are kept."""
    named = os.environ.get("BENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ebbgate-bench"


@functools.cache
def environment(name: str, *packages: str) -> Environment:
    """Return the environment with these packages, made now if it is not there.

    Raises:
        NotHereError: it could not be made.
    """
    folder = cache() / name
    kept, holds = folder / "holds.json", [sys.version, *packages]
    try:
        if json.loads(kept.read_text(encoding="utf-8")) == holds:
            return Environment(folder)
    except (OSError, ValueError):
        pass
    print(f"  (installing {', '.join(packages)} in {folder})", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for command in _commands(folder, packages):
        _run(command, name)
    kept.write_text(json.dumps(holds), encoding="utf-8")
    return Environment(folder)


def _commands(folder: Path, packages: Sequence[str]) -> list[list[str]]:
    uv = next((str(p) for p in (Path(sys.executable).with_name("uv"),) if p.exists()), shutil.which("uv"))
    python = str(folder / "bin" / "python")
    if uv:
        return [
            [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "--quiet", *packages],
    ]


def _run(command: Sequence[str], name: str) -> None:
    try:
        ran = subprocess.run(command, text=True, capture_output=True, check=False, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(f"{name} cannot be installed: {error}") from error
    if ran.returncode:
        raise NotHereError(f"{name} cannot be installed: {ran.stderr.strip()[-500:]}")


@contextmanager
def peer(
    command: Sequence[str],
    ready: Callable[[], bool],
    variables: Mapping[str, str] | None = None,
    patience_s: float = 60.0,
) -> Iterator[None]:
    """Run a peer's server until the block ends, in an empty folder of its own, which is its home.

    Whoever it runs as may enter the folder.

    Raises:
        NotHereError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="ebbgate-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        surroundings = {**os.environ, **COMPILED, "HOME": folder, **(variables or {})}
        try:
            with background(command, ready, environment=surroundings, folder=folder, patience_s=patience_s):
                yield
        except DidNotStartError as error:
            raise NotHereError(str(error)) from error
