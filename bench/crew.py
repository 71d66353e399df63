"""Fresh Python processes that begin together.

Each is started by itself (nothing is forked), imports and warms up what it needs, says that it is ready, and
is then told one instant at which all begin. Instants are `time.monotonic()`, which all processes share.
"""

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Task = Mapping[str, Any]  # JSON
Result = dict[str, Any]  # JSON
Start = Callable[[], float]
"""Called by a worker when it is ready: returns at the common instant, which it returns."""

HEAD_START_S = 0.05
PATIENCE_S = 180.0


Place = Callable[..., AbstractContextManager[str]]
"""Makes somewhere to go to with these limits, for as long as it is entered: see `store`."""


@contextmanager
def store(**limits: int | tuple[int, float]) -> Iterator[str]:
    """Make a file with these limits in a folder of its own, and yield its URL; nobody has it open then.

    Args:
        limits: name -> slots, or slots and slots that decay per second.
    """
    from ebbgate.client.client import Client

    with tempfile.TemporaryDirectory(prefix="ebbgate-bench-", ignore_cleanup_errors=True) as folder:
        url = f"sqlite:///{folder}/bench.db"
        with Client(url) as client:
            for name, size in limits.items():
                slots, decay = size if isinstance(size, tuple) else (size, 0.0)
                client.create_limit(name, slots, slot_decay_per_second=decay)
        yield url


def environment(url: str) -> dict[str, str]:
    """Return the environment of a process that uses the file at `url`."""
    return {**with_byte_code(), "EBBGATE_URL": url}


@functools.cache
def _byte_code() -> tempfile.TemporaryDirectory[str]:
    """Return the folder for it, which goes with this process."""
    return tempfile.TemporaryDirectory(prefix="ebbgate-bench-code-", ignore_cleanup_errors=True)


def with_byte_code() -> dict[str, str]:
    """Return an environment in which Python keeps its byte code, as an installed package has it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": _byte_code().name}


def crew(
    function: Callable[[Task, Start], Result],
    tasks: Sequence[Task],
    url: str = "memory://",
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
) -> list[Result]:
    """Run `function` once for each task, each in a process of its own, all at once.

    Args:
        function: of a module; takes its task and a `Start`, returns something JSON can hold.
        tasks: one a process.
        url: what `EBBGATE_URL` says there.
        python: the interpreter, with whose packages it runs.
        variables: what is added to the environment.

    Returns:
        The results, in the order of the tasks.

    Raises:
        RuntimeError: a process failed; its output says why.
    """
    command = [python, "-m", "bench.crew", function.__module__, function.__name__]
    surroundings = {**environment(url), **(variables or {})}
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=surroundings, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in tasks
    ]
    watchdog = threading.Timer(PATIENCE_S, _end, (processes,))
    watchdog.start()
    try:
        return _together(processes, tasks)
    finally:
        watchdog.cancel()
        _end(processes)


def _together(processes: Sequence[subprocess.Popen[str]], tasks: Sequence[Task]) -> list[Result]:
    for process, task in zip(processes, tasks, strict=True):
        _tell(process, json.dumps(task))
    for process in processes:
        _hear(process)
    at = time.monotonic() + HEAD_START_S
    for process in processes:
        _tell(process, repr(at))
    results: list[Result] = [json.loads(_hear(process)) for process in processes]
    for process in processes:
        _tell(process, "go home")  # nobody ends while another still measures
    for process in processes:
        process.wait(PATIENCE_S)
    return results


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None, "made with a pipe"
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise RuntimeError(f"a worker ended before its time: {process.args!r}") from None


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None, "made with a pipe"
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a worker ended before its time: {process.args!r}")
    return line


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def sleep_until(instant: float) -> None:
    """Return at `instant`, as precisely as a busy wait for the last moment can."""
    while (left := instant - time.monotonic()) > 0:
        if left > 0.002:
            time.sleep(left - 0.002)


def _start() -> float:
    print("ready", flush=True)
    instant = float(sys.stdin.readline())
    sleep_until(instant)
    return instant


def _work(module: str, function: str) -> None:
    task = json.loads(sys.stdin.readline())
    result = getattr(importlib.import_module(module), function)(task, _start)
    print(json.dumps(result), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2])
