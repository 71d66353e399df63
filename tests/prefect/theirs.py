"""A server of Prefect's own, and programs that use its SDK."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.background import answers, background, free_port

PROGRAMS: Final = Path(__file__).resolve().parent / "programs"

QUIET: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLI_COLORS": "false",
    "COLUMNS": "200",
}
START_SECONDS: Final = 100.0
RUN_SECONDS: Final = 110.0


def surroundings(folder: Path, url: str = "", more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a program with Prefect in it; `url` is where its API is."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EBBGATE_", "PREFECT_", "PYTHON"))
    }
    where = {"PREFECT_API_URL": f"{url}/api"} if url else {}
    return {
        **kept,
        **QUIET,
        "PREFECT_HOME": str(folder / "prefect"),
        "HOME": str(folder),
        **where,
        **(more or {}),
    }


@contextmanager
def prefect_server(python: Path, folder: Path, more: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server of Prefect's on an empty database; yield its URL when it answers."""
    port = free_port()
    command = [str(python), "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with background(
        command,
        lambda: answers(port, "/api/health"),
        environment=surroundings(folder, more=more),
        folder=str(folder),
        patience_s=START_SECONDS,
    ):
        yield f"http://127.0.0.1:{port}"


def start(
    python: Path, program: str, url: str, folder: Path, *arguments: str, **more: str
) -> "subprocess.Popen[str]":
    """Start a program of the folder `programs`."""
    return subprocess.Popen(
        [python, PROGRAMS / program, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=surroundings(folder, url, more),
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]") -> str:
    """Return what a program has said, once it has ended well."""
    try:
        output, _ = process.communicate(timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"it did not end:\n{output}") from None
    assert process.returncode == 0, output
    return output


def run(python: Path, program: str, url: str, folder: Path, *arguments: str, **more: str) -> str:
    """Run a program of the folder `programs`; return what it says."""
    return finish(start(python, program, url, folder, *arguments, **more))
