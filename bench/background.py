"""Servers that a workload starts beside its processes, and stops again."""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
PATIENCE_S = 10.0
"""So long a server may take to stop when it is asked to; then it is killed."""


class DidNotStartError(RuntimeError):
    """A server did not get ready; the end of its log says why."""


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int, path: str) -> bool:
    """Tell whether an HTTP server answers 200 there."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def listens(port: int) -> bool:
    """Tell whether somebody listens at a port."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
        return True
    return False


@contextmanager
def background(
    command: Sequence[str],
    ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
    patience_s: float = 30.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; enter the block when it is ready.

    Args:
        command: what to run, in a process group of its own, which is ended as a whole.
        ready: tells whether it answers.
        environment: all of it; None: this process's.
        folder: where it runs; None: here.
        patience_s: the longest it may take until it is ready.

    Raises:
        DidNotStartError: it cannot be run, or did not get ready.
        RuntimeError: it ended while it was in use.
    """
    with tempfile.NamedTemporaryFile(prefix="ebbgate-bench-", suffix=".log") as log:
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise DidNotStartError(str(error)) from error
        try:
            _await_ready(process, ready, patience_s, Path(log.name))
            yield process
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended while it was in use: {_tail(Path(log.name))}")
        finally:
            _stop(process)


def _await_ready(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], patience_s: float, log: Path
) -> None:
    until = time.monotonic() + patience_s
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            raise DidNotStartError(f"{process.args!r} did not get ready: {_tail(log)}")
        time.sleep(0.005)


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2_000:].strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind, or itself
    process.wait()


# --- what the kernel says of a process


def resident_bytes(pid: int) -> int:
    """Return how much memory of a process is in use."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not tell the memory of {pid}")


def processor_seconds(pid: int) -> float:
    """Return for how long a process has run on a core so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
