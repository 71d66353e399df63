"""An async flow processes forty items, at most five at once; chunks take as many slots as they have items.

    pip install prefect .
    python examples/prefect/parallel_data_processing.py

The flow and its tasks are Prefect's. One import line is ebbgate's.
"""

import asyncio
import os
import sys
import tempfile
import time

from prefect import flow, task

from ebbgate.asyncio import concurrency  # instead of: from prefect.concurrency.asyncio import concurrency

LIMIT = "example-items"
AT_ONCE = 5
ITEMS = 40


async def process(item: int) -> tuple[int, float, float]:
    begun = time.monotonic()
    await asyncio.sleep(0.05)
    return item, begun, time.monotonic()


@task
async def process_chunk(chunk: list[int]) -> list[tuple[int, float, float]]:
    async with concurrency(LIMIT, occupy=len(chunk)):
        return await asyncio.gather(*(process(item) for item in chunk))


@flow
async def process_all() -> list[tuple[int, float, float]]:
    items = list(range(ITEMS))
    sizes = [1, 2, 5, 3, 1, 5, 4, 2, 3, 5, 4, 5]
    chunks = [[items.pop() for _ in range(size)] for size in sizes]
    futures = [process_chunk.submit(chunk) for chunk in chunks]
    return [done for future in futures for done in future.result()]


def main() -> int:
    from ebbgate import Client

    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(LIMIT, AT_ONCE)
            spans = asyncio.run(process_all())
            held = client.read_limit(LIMIT).held_slots
            client.delete_limit(LIMIT)

    highest = max(sum(begun <= at < done for _, begun, done in spans) for _, at, _ in spans)
    print(f"{len(spans)} items done, at most {highest} at once, limit {AT_ONCE}; {held} slots still held")
    proven = (
        sorted(item for item, _, _ in spans) == list(range(ITEMS)) and 0 < highest <= AT_ONCE and held == 0
    )
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
