"""Running the command line: in this process, which is quick, or as users do, which is the truth."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import NamedTuple, TypeVar

import msgspec

COMMAND = str(Path(sys.executable).with_name("ebbgate"))
PATIENCE_SECONDS = 60.0

T = TypeVar("T")


class Result(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str

    def parsed(self, kind: type[T]) -> T:
        """Return stdout as exactly this shape: nothing beside it, every field there, none besides."""
        assert self.code == 0, self
        value: T = msgspec.json.decode(self.out, type=kind)
        assert msgspec.json.decode(msgspec.json.encode(value)) == msgspec.json.decode(self.out)
        return value

    def problem(self) -> dict[str, str]:
        """Return the error that `-o json` put on stderr, stdout being empty."""
        assert not self.out
        said: dict[str, str] = msgspec.json.decode(self.err)
        assert set(said) == {"code", "detail"}
        return said


Cli = Callable[..., Result]


class Real:
    """The installed command, on one store."""

    def __init__(self, url: str, cache: Path) -> None:
        """Run it on `url`; what Python compiles is kept in `cache`, as it is for users."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("EBBGATE_", "PYTHON"))
        }
        self.url = url
        self.environment = {**kept, "EBBGATE_URL": url, "PYTHONPYCACHEPREFIX": str(cache), "NO_COLOR": "1"}

    def __call__(self, *arguments: str, more: Mapping[str, str] | None = None) -> Result:
        """Run it to its end."""
        done = subprocess.run(
            [COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
            stdin=subprocess.DEVNULL, env={**self.environment, **(more or {})},
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, *arguments: str, new_session: bool = False) -> Iterator[subprocess.Popen[str]]:
        """Start it, with pipes; it is gone in the end."""
        process = subprocess.Popen(
            [COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=self.environment, start_new_session=new_session,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @contextmanager
    def holding(self, *flags: str) -> Iterator[subprocess.Popen[str]]:
        """Hold slots by `ebbgate run`, until its stdin is closed or the block is left."""
        with self.started("run", *flags, "--", "sh", "-c", "echo in; read line; exit 0") as process:
            assert line_of(process) == "in\n"
            yield process


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def let_go(process: subprocess.Popen[str]) -> tuple[int, str]:
    """End what `holding` started; return its code and what it said."""
    _, err = process.communicate("\n", timeout=PATIENCE_SECONDS)
    return process.returncode, err


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; return its code, the rest of its output, and what it said."""
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out, err


def wait_until(is_so: Callable[[], object], why: str = "it never came to pass") -> None:
    """Return when `is_so()`."""
    deadline = monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while not is_so():
        assert monotonic() < deadline, why
        pause.wait(0.01)


def is_running(pid: int) -> bool:
    """Tell whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
