"""A flow submits sixteen tasks; at most three are inside at once.

    pip install prefect .
    python examples/prefect/concurrent_tasks.py

The flow, its tasks and `.submit()` are Prefect's. One import line is ebbgate's.
"""

import os
import sys
import tempfile
import time

from prefect import flow, task

from ebbgate.sync import concurrency  # instead of: from prefect.concurrency.sync import concurrency

LIMIT = "example-tasks"
AT_ONCE = 3


@task
def process(number: int) -> tuple[int, float, float]:
    with concurrency(LIMIT, occupy=1):
        begun = time.monotonic()
        time.sleep(0.1)
        return number, begun, time.monotonic()


@flow
def process_all() -> list[tuple[int, float, float]]:
    futures = [process.submit(number) for number in range(16)]
    return [future.result() for future in futures]


def main() -> int:
    from ebbgate import Client

    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(LIMIT, AT_ONCE)
            spans = process_all()
            held = client.read_limit(LIMIT).held_slots
            client.delete_limit(LIMIT)

    highest = max(sum(begun <= at < done for _, begun, done in spans) for _, at, _ in spans)
    print(
        f"{len(spans)} tasks done, at most {highest} inside at once, limit {AT_ONCE}; {held} slots still held"
    )
    proven = len(spans) == 16 and 0 < highest <= AT_ONCE and held == 0
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
