"""Prefect's server and SDK: the limits that people have today, on SQLite and, where it can be had, PostgreSQL.

Over plain HTTP one pair is two requests on one kept connection; one that is refused (503, 423) or cut off is
counted apart. Through the SDK a pair is its `concurrency()` block.
"""

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.background import HOST, answers, free_port, listens
from bench.crew import Result, Start, Task
from bench.handover import gaps_ms_of, lines_of, taken
from bench.pairs import counted, counted_in_tasks, run_loop
from bench.peers.environments import Environment, environment, peer
from bench.report import Line, NotHereError, Options, Remark

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_CLI_PROMPT": "false",
}
LIMITS = "/api/v2/concurrency_limits"


def _ask(connection: http.client.HTTPConnection, path: str, body: object) -> tuple[int, Any]:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    return answer.status, json.loads(said) if said and answer.status < 300 else None


def http_pairs(task: Task, start: Start) -> Result:
    """Acquire with a lease and release, on one connection; count the pairs that were given."""
    connection = http.client.HTTPConnection(HOST, task["port"], timeout=30)
    given = refused = 0

    def pair() -> bool:
        try:
            status, answer = _ask(connection, f"{LIMITS}/increment-with-lease", {"slots": 1, "names": ["a"]})
            if status != 200:
                return False
            _ask(connection, f"{LIMITS}/decrement-with-lease", {"lease_id": answer["lease_id"]})
        except (OSError, http.client.HTTPException):
            connection.close()  # opened anew by the next request
            return False
        return True

    for _ in range(5):
        pair()
    begun = start()
    until = begun + task["seconds"]
    while time.monotonic() < until:
        if pair():
            given += 1
        else:
            refused += 1
    return {"rate": given / (time.monotonic() - begun), "refused": refused / max(given + refused, 1)}


def sdk_pairs(task: Task, start: Start) -> Result:
    """Acquire and release through the SDK: in one thread, or in asyncio tasks if the task says how many."""
    if "tasks" not in task:
        from prefect.concurrency.sync import concurrency as block  # type: ignore[import-not-found]

        def pair() -> None:
            with block("a"):
                pass

        return counted(pair, task, start)

    async def main() -> Result:
        from prefect.concurrency.asyncio import concurrency  # type: ignore[import-not-found]

        async def pair() -> None:
            async with concurrency("a"):
                pass

        return await counted_in_tasks(pair, task, start)

    return run_loop(main(), task)


def turns(task: Task, start: Start) -> Result:
    """Take turns with other processes."""
    from prefect.concurrency.sync import concurrency

    with concurrency("a"):
        pass
    return taken(lambda: concurrency("one"), task, start)


@contextmanager
def server(where: Environment, database: str | None) -> Iterator[tuple[int, float]]:
    """Run a server with the limits `a` and `one`; yield its port, and the seconds until it was ready."""
    port = free_port()
    command = [where.python, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    with TemporaryDirectory(prefix="ebbgate-bench-", ignore_cleanup_errors=True) as home:
        variables = {**QUIET, "PREFECT_HOME": home}
        if database:
            variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        begun = time.monotonic()
        with peer(command, lambda: answers(port, "/api/health"), variables, patience_s=120):
            took_s = time.monotonic() - begun
            connection = http.client.HTTPConnection(HOST, port, timeout=30)
            for name, slots in (("a", 10_000), ("one", 1)):
                status, _ = _ask(connection, f"{LIMITS}/", {"name": name, "limit": slots})
                assert status == 201, f"the limit could not be made: {status}"
            connection.close()
            yield port, took_s


@contextmanager
def postgres() -> Iterator[str]:
    """Run an empty PostgreSQL, as Debian installs it; yield its URL.

    Raises:
        NotHereError: there is none, or it does not start.
    """
    programs = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if programs is None:
        raise NotHereError("there is no PostgreSQL in /usr/lib/postgresql")
    # It refuses to run as root.
    other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    with TemporaryDirectory(prefix="ebbgate-bench-", ignore_cleanup_errors=True) as folder:
        if other:
            shutil.chown(folder, "postgres", "postgres")
        data, port = f"{folder}/data", free_port()
        command = [*other, str(programs), "-D", data, "-U", "bench", "--auth=trust", "-E", "UTF8"]
        made = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
        if made.returncode:
            raise NotHereError(f"PostgreSQL cannot be set up: {made.stderr.strip()[-500:]}")
        command = [*other, str(programs.with_name("postgres")), "-D", data, "-p", str(port), "-k", folder]
        with peer(command, lambda: listens(port)):
            yield f"postgresql+asyncpg://bench@{HOST}:{port}/postgres"


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure both databases."""
    # A newer FastAPI stops the server that this index offers from starting.
    where = environment("prefect", "prefect", "fastapi<0.151")
    yield Remark(where.versions("prefect", "fastapi", "uvicorn"))
    yield from _measured(options, where, "SQLite", None)
    try:
        with postgres() as url:
            yield from _measured(options, where, "PostgreSQL", url)
    except NotHereError as reason:
        yield Remark(f"on PostgreSQL: not measured here: {reason}")


def _measured(options: Options, where: Environment, kind: str, database: str | None) -> Iterator[Line]:
    with ExitStack() as stack:
        port, took_s = stack.enter_context(server(where, database))
        yield Line(f"Prefect on {kind}, first start until it answers", [took_s], "s")
        seconds = options.scaled(4, 1)
        for callers in (1, 8):
            task = {"port": port, "seconds": seconds}
            rows = [where.crew(http_pairs, [task] * callers) for _ in range(options.repeats)]
            who = f"{callers} process{'es' if callers > 1 else ''}"
            refused = max(result["refused"] for row in rows for result in row)
            yield Line(
                f"Prefect on {kind}, HTTP, {who}, pairs",
                [sum(result["rate"] for result in row) for row in rows],
                "/s",
                note=f"refused or cut off: up to {refused:.0%} of the tries of a caller",
            )
        surroundings = {**QUIET, "PREFECT_API_URL": f"http://{HOST}:{port}/api"}
        for what, more in (
            ("sync", {}),
            ("8 asyncio tasks", {"tasks": 8}),
            ("64 asyncio tasks", {"tasks": 64}),
        ):
            task = {**more, "seconds": seconds, "burst": 1, "warm_up": 1}
            rates = [where.crew(sdk_pairs, [task], surroundings)[0]["rate"] for _ in range(options.repeats)]
            yield Line(f"Prefect on {kind}, SDK, {what}, pairs", rates, "/s")
        tasks = [{"seconds": options.scaled(10, 3), "work_s": 0.3}] * 3
        gaps = [gaps_ms_of(where.crew(turns, tasks, surroundings)) for _ in range(options.repeats)]
        yield from lines_of(f"Prefect on {kind}, SDK, hand-over, held 0.3 s, 2 waiting processes", gaps)
