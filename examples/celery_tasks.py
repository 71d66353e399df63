"""Celery workers take tasks from a queue; at most two run at once, and twenty a second are submitted.

    pip install celery
    python examples/celery_tasks.py

The broker is a folder, and the workers are real `celery worker` processes, two with four processes each, so eight
tasks could run at once. The decorator lets two in, across all workers; `rate_limit` before each `delay` paces
what is submitted, for every program that does so.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from celery import Celery

from ebbgate import Client
from ebbgate.sync import concurrency, rate_limit

ROOM = "example-celery"
PACE = "example-celery-pace"
AT_ONCE = 2
RATE = 20.0  # submissions a second
TASKS = 20
WORKERS, PROCESSES = 2, 4
PATIENCE_SECONDS = 60.0

app = Celery("examples")


def settle(folder: Path) -> None:
    """Keep queue and results in a folder, instead of a broker that has to be installed."""
    app.conf.update(
        broker_url="filesystem://",
        broker_transport_options={
            "data_folder_in": str(folder / "queue"),
            "data_folder_out": str(folder / "queue"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.05,
        },
        result_backend=f"file://{folder}/results",
        worker_prefetch_multiplier=1,
    )


if "EXAMPLE_FOLDER" in os.environ:  # a worker, which imports this file
    settle(Path(os.environ["EXAMPLE_FOLDER"]))


@app.task(name="examples.piece")  # type: ignore[untyped-decorator]  # Celery has no types
@concurrency(ROOM)
def piece() -> list[float]:
    """Be one task: where it ran, when it was let in, and when it was done."""
    begun = time.monotonic()
    time.sleep(0.12)
    return [os.getpid(), begun, time.monotonic()]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as place:
        folder = Path(place)
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        os.environ["EXAMPLE_FOLDER"] = str(folder)
        settle(folder)
        for name in ("queue", "control", "results"):
            (folder / name).mkdir()
        with Client() as client:
            client.put_limit(ROOM, AT_ONCE)
            client.put_limit(PACE, 1, slot_decay_per_second=RATE)
            with workers(folder):
                started = time.monotonic()
                results = []
                for _ in range(TASKS):
                    rate_limit(PACE)
                    results.append(piece.delay())
                seconds = time.monotonic() - started
                tasks = [result.get(PATIENCE_SECONDS, interval=0.05) for result in results]
            held = client.read_limit(ROOM).held_slots
            client.delete_limit(ROOM)
            client.delete_limit(PACE)

    running, processes = most_at_once(tasks), len({process for process, _, _ in tasks})
    print(f"{len(tasks)} tasks in {processes} processes of {WORKERS} workers, submitted in {seconds:.1f} s")
    print(f"  the rate alone takes {(TASKS - 1) / RATE:.1f} s")
    print(f"  at most {running} ran at once, limit {AT_ONCE}")
    print(f"{held} slots still held at the end")
    proven = (
        len(tasks) == TASKS
        and processes > 1
        and seconds >= (TASKS - 2) / RATE
        and 0 < running <= AT_ONCE
        and held == 0
    )
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


@contextlib.contextmanager
def workers(folder: Path) -> Iterator[None]:
    """Run Celery's workers."""
    # Celery warns those who run it as root; here that is no error.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    started = []
    for number in range(WORKERS):
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            Path(__file__).stem,
            "worker",
            "-n",
            f"worker{number}@%h",
        ]
        options = ["-c", str(PROCESSES), "--without-gossip", "--without-mingle", "--loglevel", "ERROR"]
        with (folder / f"worker{number}.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [*command, *options], cwd=Path(__file__).parent, env=environment, stdout=log, stderr=log
                )
            )
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def most_at_once(tasks: list[list[float]]) -> int:
    """Walk through all notes in order of time and count what runs; what is done goes before what begins."""
    events = [(begun, +1) for _, begun, _ in tasks] + [(done, -1) for _, _, done in tasks]
    running = highest = 0
    for _, change in sorted(events):
        running += change
        highest = max(highest, running)
    return highest


if __name__ == "__main__":
    sys.exit(main())
