"""Dask's `Semaphore`: leases kept by the scheduler, asked for by messages to it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from bench.background import free_port, listens
from bench.crew import Result, Start, Task
from bench.handover import gaps_ms_of, lines_of, taken
from bench.pairs import counted, waiting
from bench.peers.environments import environment, peer
from bench.report import Line, Options, Remark


def pairs(task: Task, start: Start) -> Result:
    """Acquire and release one semaphore in one thread."""
    from distributed import Client, Semaphore

    with Client(task["address"], set_as_default=True):
        semaphore = Semaphore(max_leases=10_000, name="pairs")

        def pair() -> None:
            assert semaphore.acquire(), "there is room"
            semaphore.release()

        return counted(pair, task, start)


def turns(task: Task, start: Start) -> Result:
    """Take turns with other processes."""
    from distributed import Client, Semaphore

    with Client(task["address"], set_as_default=True):
        semaphore = Semaphore(max_leases=1, name="turns")

        @contextmanager
        def slot() -> Iterator[None]:
            semaphore.acquire()
            try:
                yield
            finally:
                semaphore.release()

        def turn() -> AbstractContextManager[object]:
            return slot()

        return taken(turn, task, start)


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure pairs and hand-overs."""
    where = environment("dask", "distributed")
    port = free_port()
    command = [where.python, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--no-dashboard"]
    address = f"tcp://127.0.0.1:{port}"
    with peer(command, lambda: listens(port)):
        yield Remark(where.versions("distributed"))
        task = {"address": address, "seconds": options.scaled(2, 0.5), "warm_up": 100}
        results = [where.crew(pairs, [task])[0] for _ in range(options.repeats)]
        rates = [r["rate"] for r in results]
        yield Line("Dask, one process, sync, pairs", rates, "/s", note=waiting(results))
        tasks = [{"address": address, "seconds": options.scaled(3, 1)}] * 3
        gaps = [gaps_ms_of(where.crew(turns, tasks)) for _ in range(options.repeats)]
        yield from lines_of("Dask, hand-over, 2 waiting processes", gaps)
