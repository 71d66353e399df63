"""A flow submits twenty tasks, and not more than twenty a second, so that nobody is flooded by them.

    pip install prefect .
    python examples/prefect/throttled_submission.py

The flow, its tasks and `.submit()` are Prefect's. One import line is ebbgate's.
"""

import os
import sys
import tempfile
import time

from prefect import flow, task

from ebbgate.sync import rate_limit  # instead of: from prefect.concurrency.sync import rate_limit

LIMIT = "example-submissions"
RATE = 20.0
TASKS = 20


@task
def piece(number: int) -> int:
    return number


@flow
def submit_all() -> tuple[list[float], list[int]]:
    moments, futures = [], []
    for number in range(TASKS):
        rate_limit(LIMIT, occupy=1)
        moments.append(time.monotonic())
        futures.append(piece.submit(number))
    return moments, [future.result() for future in futures]


def main() -> int:
    from ebbgate import Client

    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(LIMIT, 1, slot_decay_per_second=RATE)
            moments, pieces = submit_all()
            client.delete_limit(LIMIT)

    seconds = moments[-1] - moments[0]
    print(
        f"{len(pieces)} tasks submitted within {seconds:.2f} s; the rate alone takes {(TASKS - 1) / RATE:.2f} s"
    )
    proven = pieces == list(range(TASKS)) and seconds >= (TASKS - 2) / RATE
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
