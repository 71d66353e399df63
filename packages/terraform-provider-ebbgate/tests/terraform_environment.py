"""The provider's own environment, beside ours: its protobuf would disturb other libraries in one.

`make test-terraform` makes it; a test that finds it missing makes it. What it holds is locked in `uv.lock`.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
FOLDER = ROOT / f"{Path(sys.prefix).name}-terraform"  # each Python has its own
PATIENCE_SECONDS = 600.0


class NotMadeError(Exception):
    """The environment cannot be made here; the text says why."""


def make() -> Path:
    """Return the folder of the provider's commands; it is made if it is not there, by one process at a time.

    Raises:
        NotMadeError: it cannot be made.
    """
    locked = [(PACKAGE / name).read_text(encoding="utf-8") for name in ("uv.lock", "pyproject.toml")]
    holds = "\n".join((sys.version, str(PACKAGE), *locked))
    kept, bin_folder = FOLDER / "holds.txt", FOLDER / "bin"
    with FOLDER.with_name(f"{FOLDER.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists() and kept.read_text(encoding="utf-8") == holds and (bin_folder / "python").exists():
            return bin_folder
        shutil.rmtree(FOLDER, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        own = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "VIRTUAL_ENV"))}
        command = [
            str(uv), "sync", "--quiet", "--locked", "--compile-bytecode", "--project", str(PACKAGE),
            "--python", sys.executable,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, text=True, capture_output=True, check=False, timeout=PATIENCE_SECONDS,
                env={**own, "UV_PROJECT_ENVIRONMENT": str(FOLDER)},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotMadeError(f"the provider cannot be installed: {error}") from error
        if done.returncode:
            raise NotMadeError(f"the provider cannot be installed: {done.stderr.strip()[-500:]}")
        kept.write_text(holds, encoding="utf-8")
    return bin_folder


def main() -> None:
    """Make it, and say what is missing; the tests that need it say so once more."""
    begun = time.monotonic()
    if shutil.which("terraform") is None:
        print("NOT TESTED WITH TERRAFORM: terraform is not on PATH", file=sys.stderr)
        return
    try:
        make()
    except NotMadeError as error:
        print(f"NOT TESTED WITH TERRAFORM: {error}", file=sys.stderr)
    took = time.monotonic() - begun
    if took > 1:
        print(f"made the environment of the Terraform provider: {took:.0f} s")


if __name__ == "__main__":
    main()
