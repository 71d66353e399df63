"""An async flow submits tasks that call an API; ten calls a second begin, whichever task they come from.

    pip install prefect .
    python examples/prefect/rate_limited_api.py

The flow, its tasks and `.submit()` are Prefect's. One import line is ebbgate's.
"""

import asyncio
import os
import sys
import tempfile
import time

from prefect import flow, task

from ebbgate.asyncio import rate_limit  # instead of: from prefect.concurrency.asyncio import rate_limit

LIMIT = "example-calls"
RATE = 10.0
CALLS = 15
LATE_SECONDS = 0.5  # a busy machine may begin a call that late after it was let through


@task
async def call_api(number: int) -> tuple[int, float]:
    await rate_limit(LIMIT)
    return number, time.monotonic()


@flow
async def call_all() -> list[tuple[int, float]]:
    futures = [call_api.submit(number) for number in range(CALLS)]
    return [future.result() for future in futures]


def main() -> int:
    from ebbgate import Client

    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(LIMIT, 1, slot_decay_per_second=RATE)
            moments = sorted(moment for _, moment in asyncio.run(call_all()))
            client.delete_limit(LIMIT)

    seconds = moments[-1] - moments[0]
    print(f"{len(moments)} calls within {seconds:.2f} s; the rate alone takes {(CALLS - 1) / RATE:.2f} s")
    proven = len(moments) == CALLS and seconds >= (CALLS - 1) / RATE - LATE_SECONDS
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
