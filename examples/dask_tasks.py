"""A Dask cluster of two worker processes runs tasks that hold slots; at most two run at once.

    pip install distributed
    python examples/dask_tasks.py

The workers are real processes of a `distributed.LocalCluster` with four threads each, so eight tasks could run at
once. The decorator lets two in, across all workers; `rate_limit` before each `submit` paces what is handed on. A
program that uses no Dask at all shares the limit: it holds one of the slots meanwhile, so that the tasks have one.
"""

import os
import sys
import tempfile
import time

from dask import config
from distributed import Client as Dask
from distributed import LocalCluster

from ebbgate import Client
from ebbgate.sync import concurrency, rate_limit

ROOM = "example-dask"
PACE = "example-dask-pace"
AT_ONCE = 2
RATE = 20.0  # submissions a second
TASKS = 20
WORKERS, THREADS = 2, 4


@concurrency(ROOM)
def task(_number: int) -> tuple[int, float, float]:
    """Be one task: where it ran, when it was let in, and when it was done."""
    begun = time.monotonic()
    time.sleep(0.12)
    return os.getpid(), begun, time.monotonic()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(ROOM, AT_ONCE)
            client.put_limit(PACE, 1, slot_decay_per_second=RATE)
            with (
                config.set({"distributed.worker.daemon": True, "temporary-directory": folder}),
                LocalCluster(
                    n_workers=WORKERS,
                    threads_per_worker=THREADS,
                    dashboard_address="127.0.0.1:0",
                    local_directory=folder,
                    heartbeat_interval="60s",  # a heartbeat while the cluster closes would be logged as an error
                ) as cluster,
                Dask(cluster) as dask,
            ):
                with concurrency(ROOM):
                    shared = most_at_once(run(dask, range(5)))
                started = time.monotonic()
                tasks = run(dask, range(5, 5 + TASKS))
                seconds = time.monotonic() - started
            held = client.read_limit(ROOM).held_slots
            client.delete_limit(ROOM)
            client.delete_limit(PACE)

    processes, alone = len({process for process, _, _ in tasks}), most_at_once(tasks)
    print(f"{len(tasks)} tasks in {processes} worker processes, handed on in {seconds:.1f} s")
    print(f"  the rate alone takes {(TASKS - 1) / RATE:.1f} s")
    print(f"  at most {alone} ran at once, limit {AT_ONCE}; {shared} while this program held a slot")
    print(f"{held} slots still held at the end")
    proven = (
        len(tasks) == TASKS
        and processes == WORKERS
        and seconds >= (TASKS - 2) / RATE
        and 0 < alone <= AT_ONCE
        and shared == AT_ONCE - 1
        and held == 0
    )
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


def run(dask: Dask, numbers: range) -> list[tuple[int, float, float]]:
    """Submit tasks at the pace and return what they say."""
    futures = []
    for number in numbers:
        rate_limit(PACE)
        futures.append(dask.submit(task, number))
    told: list[tuple[int, float, float]] = dask.gather(futures)
    return told


def most_at_once(tasks: list[tuple[int, float, float]]) -> int:
    """Walk through all notes in order of time and count what runs; what is done goes before what begins."""
    events = [(begun, +1) for _, begun, _ in tasks] + [(done, -1) for _, _, done in tasks]
    running = highest = 0
    for _, change in sorted(events):
        running += change
        highest = max(highest, running)
    return highest


if __name__ == "__main__":
    sys.exit(main())
