"""A flow's tasks query a database that takes two connections; with the limit none is turned away.

    pip install prefect .
    python examples/prefect/database_connections.py

The database stands in for a real one; `examples/database_connections.py` uses PostgreSQL. The flow, its tasks and
`.submit()` are Prefect's. One import line is ebbgate's.
"""

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

from prefect import flow, task

from ebbgate.sync import concurrency  # instead of: from prefect.concurrency.sync import concurrency

LIMIT = "example-database"
CONNECTIONS = 2
QUERIES = 12


class Database:
    """Takes two connections and turns everybody else away."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections = 0

    @contextlib.contextmanager
    def connect(self) -> Iterator["Database"]:
        with self.lock:
            if self.connections == CONNECTIONS:
                raise ConnectionRefusedError("too many clients")
            self.connections += 1
        try:
            yield self
        finally:
            with self.lock:
                self.connections -= 1

    def execute(self, query: str) -> str:
        time.sleep(0.1)
        return query.upper()


db = Database()


@task
def database_query(query: str) -> str:
    with concurrency(LIMIT, occupy=1), db.connect() as connection:
        return connection.execute(query)


@task
def database_query_at_once(query: str) -> str:
    try:
        with db.connect() as connection:
            return connection.execute(query)
    except ConnectionRefusedError as error:
        return str(error)


@flow
def query_all(limited: bool) -> list[str]:
    query = database_query if limited else database_query_at_once
    futures = [query.submit(f"select {number}") for number in range(QUERIES)]
    return [future.result() for future in futures]


def main() -> int:
    from ebbgate import Client

    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(LIMIT, CONNECTIONS)
            answers = query_all(limited=True)
            held = client.read_limit(LIMIT).held_slots
            client.delete_limit(LIMIT)
    refused = query_all(limited=False).count("too many clients")

    served = sum(answer.startswith("SELECT") for answer in answers)
    print(
        f"with the limit of {CONNECTIONS}: {served} of {QUERIES} queries were served; {held} slots still held"
    )
    print(f"without: {refused} were refused")
    proven = served == QUERIES and refused > 0 and held == 0
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
