"""Servers in processes of their own, as users start them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.cli.support import COMMAND, PATIENCE_SECONDS, wait_until


class Served:
    """A server that is ready, or has ended."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        """Take the process and the file that it logs to."""
        self.process, self.log = process, log

    def entries(self) -> list[dict[str, object]]:
        """Return what it has logged; every line is one object."""
        lines = self.log.read_text().splitlines()
        return [msgspec.json.decode(line, type=dict[str, object]) for line in lines if line.endswith("}")]

    def find(self, message: str) -> dict[str, object] | None:
        """Return the first entry with this message."""
        return next((entry for entry in self.entries() if entry["message"] == message), None)

    @property
    def url(self) -> str:
        """Where it serves, as it says when it is ready."""
        ready = self.find("ready")
        assert ready is not None, self.log.read_text()
        return str(ready["url"])

    def end(self, *signals: signal.Signals) -> int:
        """Tell it to end; return its exit code."""
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def environment_of(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which nothing of this machine's user is touched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EBBGATE_")}
    return {**kept, "XDG_DATA_HOME": str(folder), "HOME": str(folder), **(more or {})}


@contextmanager
def started(
    folder: Path, *flags: str, environment: Mapping[str, str] | None = None, files: int | None = None
) -> Iterator[Served]:
    """Start a server on any port and a file in `folder`; yield when it is ready or has ended, end it after.

    With `files`, it may open that many files.
    """
    log = folder / f"log-{len(list(folder.glob('log-*')))}"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            with_files([COMMAND, "serve", *(() if "--port" in flags else ("--port", "0")), *flags], files),
            stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=environment_of(folder, environment),
        )  # fmt: skip
    served = Served(process, log)
    try:
        wait_until(lambda: served.find("ready") or process.poll() is not None, "it neither served nor ended")
        yield served
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


def with_files(command: list[str], files: int | None) -> list[str]:
    """Return a command that runs another one, which may open that many files."""
    return command if files is None else ["/bin/sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]


def refused(
    folder: Path, *flags: str, environment: Mapping[str, str] | None = None, files: int | None = None
) -> tuple[int, str]:
    """Start a server that must not start; return its exit code and what it says."""
    done = subprocess.run(
        with_files([COMMAND, "serve", *flags], files), capture_output=True, text=True, check=False,
        timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL, env=environment_of(folder, environment),
    )  # fmt: skip
    assert not done.stdout
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def run_python(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a small Python program."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
