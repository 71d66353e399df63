"""One of the client processes of the fault test of the server: threads or tasks that take and give back slots.

    python -m tests.faults.server_worker URL HISTORY NAME SEED FACE HABITS

FACE is "threads" or "tasks", HABITS is JSON (see `Habits`). Beside those who take slots at random until SIGTERM,
one asks for a slot that is always free, again and again (the pulse: it tells how soon a client is served again),
and one holds a slot for long (the keeper: it tells whether leases survive).

Who set no timeout must never hear that the server cannot be reached; if it does, the process ends with an error.
"""

import asyncio
import contextlib
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ebbgate import AsyncClient, Client, errors
from ebbgate.client.connect import gate_for, is_remote
from ebbgate.core.model import Settings
from ebbgate.testing.recorder import recording
from tests.faults.worker import GIVEN_UP, SHORTEST_US, Choice

PULSE = "pulse"
KEPT = "kept"
OUT_OF_REACH = (errors.ServerUnavailable, errors.StoreUnavailable)


class Habits(msgspec.Struct, frozen=True):
    """What the callers of a process do."""

    callers: int = 4
    durations: tuple[float, ...] = (2.0, 2.0, 4.0, 10.0)  # seconds, of leases
    timeouts: tuple[float | None, ...] = (None, None, None, 20.0, 5.0, 0.5, 0.05, 0.0)
    kept_seconds: float = 30.0  # the lease of the keeper
    kept_for_seconds: float = 5.0  # about how long it holds
    pulse_seconds: float = 0.1


class Wish(Choice):
    """What one caller does next, by the habits of its process."""

    def __init__(self, seed: str, habits: Habits) -> None:
        super().__init__(seed)
        self._habits = habits

    def timeout(self) -> float | None:
        return self.chance.choice(self._habits.timeouts)

    def duration(self) -> float:
        return self.chance.choice(self._habits.durations)

    def strict(self) -> bool:
        return self.chance.random() < 0.3

    def kept_for(self) -> float:
        return self._habits.kept_for_seconds * self.chance.uniform(0.2, 1.8)


class Threads:
    """Callers in threads."""

    def __init__(self, url: str, name: str, seed: str, habits: Habits) -> None:
        self._client = Client(url)
        self._name, self._seed, self._habits = name, seed, habits
        self._failures: list[BaseException] = []

    def run(self, stopping: threading.Event) -> None:
        """Return when all of them have ended."""
        tellings: list[Callable[[Wish, threading.Event], None]] = [self._pulse, self._keep]
        tellings += [self._take] * self._habits.callers
        threads = [
            threading.Thread(
                target=self._told, args=(telling, f"{self._seed} {self._name} t{number}", stopping)
            )
            for number, telling in enumerate(tellings)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)  # so that signals are heard
        self._client.close()
        if self._failures:
            raise self._failures[0]

    def _told(
        self, telling: Callable[[Wish, threading.Event], None], seed: str, stopping: threading.Event
    ) -> None:
        try:
            telling(Wish(seed, self._habits), stopping)
        except BaseException as error:
            traceback.print_exc()
            self._failures.append(error)

    def _take(self, wish: Wish, stopping: threading.Event) -> None:
        while not stopping.is_set():
            timeout = wish.timeout()
            with contextlib.suppress(*GIVEN_UP), out_of_reach(timeout):
                if wish.chance.random() < 0.2:
                    self._client.rate_limit("rate", wish.chance.choice([1, 1, 2]), timeout_seconds=timeout)
                    continue
                with self._client.concurrency(
                    wish.want(), timeout_seconds=timeout, lease_duration=wish.duration(),
                    priority=wish.priority(), strict=wish.strict(),
                ) as lease:  # fmt: skip
                    stopping.wait(wish.work())
                    assert lease.lost in {True, False}

    def _keep(self, wish: Wish, stopping: threading.Event) -> None:
        while not stopping.is_set():
            with (
                contextlib.suppress(*GIVEN_UP),
                self._client.concurrency(KEPT, lease_duration=self._habits.kept_seconds) as lease,
            ):
                stopping.wait(wish.kept_for())
                assert lease.lost in {True, False}

    def _pulse(self, _: Wish, stopping: threading.Event) -> None:
        while not stopping.wait(self._habits.pulse_seconds):
            with contextlib.suppress(*GIVEN_UP), self._client.concurrency(PULSE, lease_duration=10):
                pass


class Tasks:
    """Callers that are tasks of one event loop; some are cancelled wherever they may be."""

    def __init__(self, url: str, name: str, seed: str, habits: Habits) -> None:
        self._client = AsyncClient(url)
        self._name, self._seed, self._habits = name, seed, habits

    def run(self, stopping: threading.Event) -> None:
        """Return when all of them have ended."""
        asyncio.run(self._run(stopping))

    async def _run(self, stopping: threading.Event) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        waiting = threading.Thread(target=lambda: (stopping.wait(), loop.call_soon_threadsafe(stop.set)))
        waiting.start()
        seed = f"{self._seed} {self._name} a"
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pulse(stop))
            group.create_task(self._keep(Wish(f"{seed}k", self._habits), stop))
            for number in range(self._habits.callers):
                group.create_task(self._take(Wish(f"{seed}{number}", self._habits), stop))
        waiting.join()
        await self._client.close()

    async def _take(self, wish: Wish, stop: asyncio.Event) -> None:
        while not stop.is_set():
            timeout = wish.timeout()
            with contextlib.suppress(*GIVEN_UP, TimeoutError), out_of_reach(timeout):
                # Cancelled from outside, wherever it may be: asking, waiting, holding, leaving.
                async with asyncio.timeout(wish.chance.choice([None, None, 0.02, 0.3])):
                    if wish.chance.random() < 0.2:
                        await self._client.rate_limit("rate", timeout_seconds=timeout)
                        continue
                    async with self._client.concurrency(
                        wish.want(), timeout_seconds=timeout, lease_duration=wish.duration(),
                        priority=wish.priority(), strict=wish.strict(),
                    ) as lease:  # fmt: skip
                        await asyncio.sleep(wish.work())
                        assert lease.lost in {True, False}

    async def _keep(self, wish: Wish, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(*GIVEN_UP):
                async with self._client.concurrency(KEPT, lease_duration=self._habits.kept_seconds) as lease:
                    await until(stop, wish.kept_for())
                    assert lease.lost in {True, False}

    async def _pulse(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(*GIVEN_UP):
                async with self._client.concurrency(PULSE, lease_duration=10):
                    pass
            await until(stop, self._habits.pulse_seconds)


async def until(stop: asyncio.Event, seconds: float) -> None:
    """Wait for so long, or until all is to end."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


@contextlib.contextmanager
def out_of_reach(timeout: float | None) -> Iterator[None]:
    """Let those hear that the server cannot be reached who wait for so long only."""
    try:
        yield
    except OUT_OF_REACH:
        if timeout is None:
            raise


def main(url: str, history: str, name: str, seed: str, face: str, habits: str) -> None:
    warnings.simplefilter("ignore", errors.EbbgateWarning)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with recording(Path(history), name):
        if not is_remote(url):
            gate_for(url, settings=Settings(lease_duration_min_us=SHORTEST_US))
        made = Threads if face == "threads" else Tasks
        made(url, name, seed, msgspec.json.decode(habits, type=Habits)).run(stopping)


if __name__ == "__main__":
    main(*sys.argv[1:])
