"""`ebbgate serve` as a real process that is killed, stopped and started again at the same address."""

import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tests.client.remote.support import free_port, pass_time

START_SECONDS = 60.0
END_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[2]


class ServerProcess:
    """One server after the other on one file and port; at most one at a time."""

    def __init__(self, folder: Path, *flags: str, module: str = "ebbgate") -> None:
        """Start nothing yet.

        Args:
            folder: of the store and the logs.
            flags: of `ebbgate serve`.
            module: what is run, with the arguments of the command.
        """
        self.path = folder / "store" / "limits.db"
        self.store = f"sqlite:///{self.path}"
        self.port = free_port()
        self.lives = 0
        self._folder, self._flags, self._module = folder, flags, module
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"ebbgate://127.0.0.1:{self.port}"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The one that runs."""
        assert self._process is not None, "started"
        return self._process

    def _log(self, life: int) -> Path:
        return self._folder / f"server-{life}.log"

    def start(self, *flags: str) -> int:
        """Return when it serves: the instant of that, by `CLOCK_MONOTONIC` in microseconds."""
        self.lives += 1
        command = [
            sys.executable, "-P", "-m", self._module, "serve", "--store", self.store, "--port", str(self.port),
            *self._flags, *flags, "-o", "json",
        ]  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EBBGATE_")}
        with self._log(self.lives).open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env={**kept, "HOME": str(self._folder), "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            for entry in self.entries(self.lives):
                if entry["message"] == "ready":
                    ready = datetime.fromisoformat(str(entry["time"])).timestamp()
                    return (time.monotonic_ns() - round((time.time() - ready) * 1e9)) // 1_000
            pass_time(0.005)
        raise AssertionError(f"the server did not start: {self._log(self.lives).read_text()}")

    def entries(self, life: int) -> list[dict[str, object]]:
        """Return what it has logged in one of its lives."""
        lines = self._log(life).read_text().splitlines()
        return [msgspec.json.decode(line, type=dict[str, object]) for line in lines if line.endswith("}")]

    def complaints(self) -> list[dict[str, object]]:
        """Return all that it has logged about its own defects."""
        entries = [entry for life in range(1, self.lives + 1) for entry in self.entries(life)]
        return [entry for entry in entries if entry["level"] == "error" or "traceback" in entry]

    def kill(self) -> None:
        """Kill it without a word; the port is free when this returns."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """Stop it, and return when the kernel has."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] not in "TZ":
            pass

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Tell it to end, and see that it does so in peace."""
        self.process.terminate()
        code = self.process.wait(END_SECONDS)
        assert code == 0, f"the server ended with {code}: {self._log(self.lives).read_text()}"

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)
        assert kind is not None or not self.complaints(), self.complaints()
