"""The server of `ebbgate demo`: a process of its own on a file of its own, that may be killed and started again."""

import os
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Final, Self

import msgspec

from ebbgate.errors import ServerUnavailable

GRACE_SECONDS: Final = 1.0
"""So soon after it was killed, or the server was started, the slots of a process pass on; by default later."""

_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 12.0


class _Log(msgspec.Struct):
    message: str = ""
    url: str = ""


_LINES: Final = msgspec.json.Decoder(_Log)


class Server:
    """`ebbgate serve`, as anybody starts it; leaving the block stops it."""

    def __init__(self, store: str) -> None:
        """Start it on any free port, on the file that `store` names."""
        self._store = store
        self._port = 0
        self._process = self._start()

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"ebbgate://127.0.0.1:{self._port}"

    @property
    def pages(self) -> str:
        """Where people look at it with a browser."""
        return f"http://127.0.0.1:{self._port}/"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-P", "-m", "ebbgate.cli.demo_serve", "--store", self._store, "--port", str(self._port),
            "--away-grace", str(GRACE_SECONDS), "--recovery-grace", str(GRACE_SECONDS), "-o", "json",
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EBBGATE_")}
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            self._port = int(self._ready_url(process).rpartition(":")[2])
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def _ready_url(self, process: "subprocess.Popen[bytes]") -> str:
        """Return where a new process serves, as its log tells."""
        assert process.stderr is not None, "it was started with a pipe"
        until = time.monotonic() + _START_SECONDS
        said = b""
        while (left := until - time.monotonic()) > 0 and select.select([process.stderr], [], [], left)[0]:
            data = os.read(process.stderr.fileno(), 65_536)
            said += data
            for line in said.splitlines(keepends=True):
                if line.endswith(b"\n") and line.startswith(b"{"):
                    entry = _LINES.decode(line)
                    if entry.message == "ready":
                        return entry.url
            if not data:
                break
        raise ServerUnavailable(f"the server did not start: {said.decode(errors='replace').strip()}")

    def kill_and_start(self) -> None:
        """Kill it without a word, and start it again at the same address."""
        self._process.kill()
        self._reap()
        self._process = self._start()

    def _reap(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stderr):
            assert pipe is not None, "it was started with pipes"
            pipe.close()

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()
