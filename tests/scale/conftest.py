"""Several servers on one store: PostgreSQL, or Valkey."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebbgate.client import connect
from tests.client.remote.support import COMMAND, free_port, wait_until
from tests.serving import ServedInThread, served

Serve = Callable[..., ServedInThread]
Launch = Callable[..., "ServerProcess"]

START_SECONDS = 30.0


class ServerProcess:
    """`ebbgate serve`, always at the same address."""

    def __init__(self, folder: Path, store: str, *flags: str) -> None:
        """Start it; returns when it serves."""
        self.port = free_port()
        self.log = folder / f"server-{self.port}.log"
        self._command = [
            COMMAND, "serve", "--store", store, "--port", str(self.port), "--lease-duration-min", "0.5", *flags,
            "-o", "json",
        ]  # fmt: skip
        self._folder = folder
        self._lives = 0
        self.start()

    @property
    def url(self) -> str:
        """Its address, for clients."""
        return f"ebbgate://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it (again)."""
        self._lives += 1
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EBBGATE_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**kept, "HOME": str(self._folder)},
            )  # fmt: skip
        wait_until(self._is_up, START_SECONDS)
        assert self.process.poll() is None, self.log.read_text()

    def _is_up(self) -> bool:
        return self.log.read_text().count('"ready"') >= self._lives or self.process.poll() is not None

    def kill(self) -> None:
        """Kill it without a word."""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Have it end in order."""
        self.process.terminate()
        assert self.process.wait(20) == 0, self.log.read_text()

    def stop(self) -> None:
        """Stop it, and return when the kernel has."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] in "Tt")

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture(params=["postgres", "valkey"])
def store(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty namespace."""
    new: Callable[[], str] = request.getfixturevalue(f"new_{request.param}")
    return new()


@pytest.fixture
def serve(store: str) -> Iterator[Serve]:
    """Return what starts servers on that store in this process."""
    running: list[object] = []

    def start(**options: object) -> ServedInThread:
        context = served(store, **options)  # type: ignore[arg-type]  # as `Options` has them
        server = context.__enter__()
        running.append(context)
        return server

    yield start
    connect._close_all(at_exit=False)  # what clients opened, while there is somebody to say good-bye to
    for context in reversed(running):
        context.__exit__(None, None, None)  # type: ignore[attr-defined]


@pytest.fixture
def launch(store: str, tmp_path: Path) -> Iterator[Launch]:
    """Return what starts servers on that store as processes."""
    running: list[ServerProcess] = []

    def start(*flags: str) -> ServerProcess:
        running.append(ServerProcess(tmp_path, store, *flags))
        return running[-1]

    yield start
    connect._close_all(at_exit=False)
    for server in running:
        if server.process.poll() is None:
            server.go_on()
            server.kill()


def several(*servers: ServedInThread | ServerProcess) -> str:
    """Return one address for all of them."""
    return ",".join(server.url for server in servers)
