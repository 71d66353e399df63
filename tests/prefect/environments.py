"""Environments with Prefect in them, beside ours: its packages would disturb each other in one.

`make test` makes them before the tests begin; a test that finds one missing makes it. What they hold is locked
in `requirements`; `python -m tests.prefect.environments` makes all of them.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / f"{Path(sys.prefix).name}-prefect"  # each Python has its own
NAMES = {
    "newest": "the newest that can be installed",
    "flows": "the same beside what ebbgate's SDK needs, for flows that use it",
    "oldest": "3.4.10, the first whose SDK uses leases",
    "leaseless": "3.4.9, the last whose SDK does not",
}
PATIENCE_SECONDS = 600.0


class NotMadeError(Exception):
    """An environment cannot be made here; the text says why."""


def make(name: str) -> Path:
    """Return the Python of an environment, which is made if it is not there, by one process at a time.

    Raises:
        NotMadeError: it cannot be made.
    """
    locked = (HERE / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    holds = f"{sys.version}\n{locked}"
    folder = FOLDER / name
    kept, python = folder / "holds.txt", folder / "bin" / "python"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists() and kept.read_text(encoding="utf-8") == holds and python.exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        own = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "VIRTUAL_ENV"))}
        install = [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--no-deps"]
        requirements = str(HERE / "requirements" / f"{name}.txt")
        for command in (
            [str(uv), "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
            [*install, "--python", str(python), "-r", requirements],
        ):
            try:
                done = subprocess.run(
                    command, text=True, capture_output=True, check=False, timeout=PATIENCE_SECONDS, env=own
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NotMadeError(f"Prefect ({name}) cannot be installed: {error}") from error
            if done.returncode:
                raise NotMadeError(f"Prefect ({name}) cannot be installed: {done.stderr.strip()[-500:]}")
        kept.write_text(holds, encoding="utf-8")
    return python


def python_of(name: str) -> Path:
    """Return the Python of an environment; the test is skipped, and says so, if it cannot be made."""
    try:
        return make(name)
    except NotMadeError as error:
        pytest.skip(f"NOT TESTED WITH PREFECT: {error}")


def nginx() -> str:
    """Return the path of nginx; the test is skipped, and says so, if it is not installed."""
    found = find_nginx()
    if found is None:
        pytest.skip("NOT TESTED BEHIND NGINX: nginx is not installed; first: sudo make setup-system")
    return found


def find_nginx() -> str | None:
    """Return the path of nginx, or None if it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")


def main() -> None:
    """Make everything, and say what is missing; the tests that need it say so once more."""
    for name, what in NAMES.items():
        begun = time.monotonic()
        try:
            make(name)
        except NotMadeError as error:
            print(f"NOT TESTED WITH PREFECT ({what}): {error}", file=sys.stderr)
        took = time.monotonic() - begun
        if took > 1:
            print(f"made an environment with Prefect, {what}: {took:.0f} s")
    if find_nginx() is None:
        print("NOT TESTED BEHIND NGINX: it is not here", file=sys.stderr)


if __name__ == "__main__":
    main()
