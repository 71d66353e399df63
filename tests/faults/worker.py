"""One of the processes of the fault test: takes and gives back slots at random until it is told to stop, or dies.

    python -m tests.faults.worker URL HISTORY NAME SEED

It stops at SIGTERM: what it waits for it gets, or gives up, and then it leaves.
"""

import asyncio
import contextlib
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

from ebbgate import AsyncClient, Client, errors
from ebbgate.client.connect import gate_for
from ebbgate.core.model import Settings
from ebbgate.testing.recorder import recording

SHORTEST_US = 500_000
THREADS = 2
TASKS = 3

# What is taken: limits and slots, and how often.
WANTS: tuple[tuple[dict[str, int], int], ...] = (
    ({"plain": 1}, 6),
    ({"left": 1, "right": 1}, 3),
    ({"left": 1}, 2),
    ({"right": 1, "wide": 2}, 2),
    ({"wide": 1}, 3),
    ({"wide": 4}, 2),
    ({"moody": 1}, 4),
    ({"moody": 2, "plain": 1}, 1),
)
GIVEN_UP = (errors.ConcurrencySlotAcquisitionError, errors.LeaseLost)


class Choice:
    """What one thread or task of a worker does next."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)

    def want(self) -> dict[str, int]:
        wants, weights = zip(*WANTS, strict=True)
        return dict(self.chance.choices(wants, weights)[0])

    def timeout(self) -> float | None:
        return self.chance.choice([None, None, 5.0, 0.5, 0.05, 0.0])

    def duration(self) -> float:
        return self.chance.choice([1.0, 2.0, 60.0])

    def priority(self) -> int:
        return self.chance.choice([0, 0, 0, 0, 1])

    def work(self) -> float:
        return self.chance.uniform(0, 0.02) if self.chance.random() < 0.97 else 0.8


def work_in_a_thread(client: Client, choice: Choice, stopping: threading.Event) -> None:
    while not stopping.is_set():
        with contextlib.suppress(*GIVEN_UP):
            if choice.chance.random() < 0.2:
                client.rate_limit(
                    "rate", occupy=choice.chance.choice([1, 1, 2]), timeout_seconds=choice.timeout()
                )
                continue
            with client.concurrency(
                choice.want(), timeout_seconds=choice.timeout(), lease_duration=choice.duration(),
                priority=choice.priority(), strict=choice.chance.random() < 0.3,
            ) as lease:  # fmt: skip
                stopping.wait(choice.work())
                assert lease.lost in {True, False}


async def work_in_a_task(client: AsyncClient, choice: Choice, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        with contextlib.suppress(*GIVEN_UP, TimeoutError):
            # Cancelled from outside, wherever it may be: asking, waiting, holding, leaving.
            async with asyncio.timeout(choice.chance.choice([None, 0.02, 0.3])):
                if choice.chance.random() < 0.2:
                    await client.rate_limit("rate", timeout_seconds=choice.timeout())
                    continue
                async with client.concurrency(
                    choice.want(), timeout_seconds=choice.timeout(), lease_duration=choice.duration(),
                    priority=choice.priority(), strict=choice.chance.random() < 0.3,
                ) as lease:  # fmt: skip
                    await asyncio.sleep(choice.work())
                    assert lease.lost in {True, False}


async def tasks(url: str, name: str, seed: str, stopping: threading.Event) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(
        target=lambda: (stopping.wait(), loop.call_soon_threadsafe(stop.set)), daemon=True
    ).start()
    client = AsyncClient(url)
    working = [work_in_a_task(client, Choice(f"{seed} {name} {number}"), stop) for number in range(TASKS)]
    await asyncio.gather(*working)


def main(url: str, history: str, name: str, seed: str) -> None:
    warnings.simplefilter("ignore", errors.EbbgateWarning)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with recording(Path(history), name):
        gate_for(url, settings=Settings(lease_duration_min_us=SHORTEST_US))
        client = Client(url)
        threads = [
            threading.Thread(
                target=work_in_a_thread, args=(client, Choice(f"{seed} {name} t{number}"), stopping)
            )
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        asyncio.run(tasks(url, name, seed, stopping))
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
        client.close()
    print(time.monotonic(), "left")


if __name__ == "__main__":
    main(*sys.argv[1:])
