"""How long a client is without a server when its own is killed: from the kill until it has done a pair begun after it.

Two servers take turns to be killed and started again. All clients are at the one that is left, so from the second
kill on each meets all of them.
"""

import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from bench.background import HOST, free_port
from bench.crew import Result, Start, Task, crew
from bench.report import Line, Options, Remark, at_most, percentile
from bench.server.serving import Server, serving
from bench.stores.sharing import any_of, conditions, databases

CLIENTS = 8
SETTLED_S = 1.0
"""From the moment at which both servers are ready to the next kill."""

LAST_S = 3.0
"""So long before the end nobody is killed any more."""


def take(task: Task, start: Start) -> Result:
    """Take and give back a slot, over and over; tell when each pair was begun and done."""
    from ebbgate.sync import concurrency

    with concurrency("a"):
        pass
    found: list[tuple[float, float]] = []
    until = start() + task["seconds"]
    while (begun := time.monotonic()) < until:
        with concurrency("a"):
            time.sleep(0.001)
        found.append((begun, time.monotonic()))
    return {"pairs": found}


def away_ms(kills: Sequence[float], results: Sequence[Result]) -> list[float]:
    """Return, for each kill and client, how long after it that client was served again, in milliseconds."""
    return [
        1000 * (min(served) - kill)
        for kill in kills
        for result in results
        if (served := [done for begun, done in result["pairs"] if begun >= kill])
    ]


class _Two:
    """Two servers on one namespace, each at its address for good."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lives = [ExitStack(), ExitStack()]
        self.servers = [self._started(each, free_port()) for each in (0, 1)]

    def _started(self, which: int, port: int) -> Server:
        return self._lives[which].enter_context(serving(self._url, port=port))

    def kill(self, which: int) -> float:
        """Kill one; return when."""
        at = time.monotonic()
        os.kill(self.servers[which].pid, signal.SIGKILL)
        with suppress(RuntimeError):  # it ended while it was in use
            self._lives[which].close()
        return at

    def start(self, which: int) -> None:
        """Start it again."""
        self.servers[which] = self._started(which, self.servers[which].port)

    def end(self) -> None:
        """End both."""
        for life in self._lives:
            life.close()

    def clients(self) -> int:
        """Return how many clients are connected."""
        return sum(_clients(server.port) for server in self.servers)


def _clients(port: int) -> int:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
        found = re.search(rb"^ebbgate_clients (\d+)", answer.read(), re.MULTILINE)
    assert found is not None, "a server tells it"
    return int(found[1])


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure threads of as many processes."""
    from ebbgate.client.client import Client

    yield from conditions(options)
    seconds = options.scaled(30, 10)
    with databases() as found:
        for database in found:
            samples: list[list[float]] = []
            for _ in range(options.repeats):
                with ExitStack() as stack:
                    two = _Two(database.namespace())
                    stack.callback(two.end)
                    with Client(two.servers[0].url) as client:
                        client.create_limit("a", 100)
                    samples.append(_measured(two, seconds))
            what = f"{database.name}: served again after its server was killed"
            note = f"{sum(map(len, samples))} times, {CLIENTS} clients"
            yield Line(f"{what}, p50", [percentile(row, 0.5) for row in samples], "ms", note=note)
            yield Line(f"{what}, p99", [percentile(row, 0.99) for row in samples], "ms", at_most(1_000))


def _measured(two: _Two, seconds: float) -> list[float]:
    kills: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        tasks = [{"seconds": seconds}] * CLIENTS
        working = pool.submit(crew, take, tasks, any_of(two.servers))
        while not working.done() and two.clients() < CLIENTS:
            time.sleep(0.05)
        until = time.monotonic() + seconds - LAST_S
        while not working.done():
            time.sleep(SETTLED_S)
            if time.monotonic() > until:
                break
            which = len(kills) % 2
            kills.append(two.kill(which))
            two.start(which)
        return away_ms(kills[1:], working.result())
