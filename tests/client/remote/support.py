"""Servers as processes of their own, and what is waited for."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("ebbgate"))
PATIENCE_SECONDS = 60.0


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return when `condition()` holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.002)


def pass_time(seconds: float) -> None:
    """Let so much time pass, because the law is about it."""
    threading.Event().wait(seconds)


def free_port() -> int:
    """Return a port that is free, and that no connection will take for its own end meanwhile."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Served:
    """A server process on one store and one port, which may be killed, stopped and started again."""

    def __init__(self, folder: Path, *flags: str) -> None:
        """Start it; returns when it is ready."""
        self.folder = folder
        self.store = f"sqlite:///{folder / 'limits.db'}"
        self.port = free_port()
        self._flags = flags
        self._starts = 0
        self.start()

    def start(self) -> None:
        """Start it, always on the same port."""
        self._starts += 1
        log = self.folder / f"log-{self._starts}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EBBGATE_")}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    COMMAND, "serve", "--store", self.store, "--port", str(self.port), "-o", "json",
                    "--lease-duration-min", "0.5", *self._flags,
                ],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env={**kept, "HOME": str(self.folder)},
            )  # fmt: skip
        try:
            wait_until(lambda: b'"message":"ready"' in log.read_bytes() or self.process.poll() is not None)
        except AssertionError:
            self.kill()  # nobody else knows of it yet
            raise
        assert self.process.poll() is None, log.read_text()

    @property
    def url(self) -> str:
        """Its address, for clients."""
        return f"ebbgate://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it as the system does when memory is short."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        """Have it stand still."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Have it drain and end."""
        self.go_on()
        self.process.terminate()
        assert self.process.wait(PATIENCE_SECONDS) == 0

    def clean_up(self) -> None:
        """End it somehow."""
        if self.process.poll() is None:
            self.go_on()
            self.kill()
