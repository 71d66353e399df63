"""Virtual time, and processes that may be stopped or killed between any two of their steps.

Everything that happens follows from one seed. A task is a generator: it yields what it waits for (`Sleep`,
`Until`, or a `StoreCall` of the engine) and is resumed with the answer, so every yield is a place where time
may pass, others may run, and its process may be stopped or die.

Known limit: time passes only at a yield; code between two yields takes no time at all.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple

from ebbgate.engine.engine import StoreCall

STARTED_US: Final = 1_700_000_000_000_000
SHOWN: Final = 50
"""How many steps are kept to be shown when something fails."""


class Bell:
    """Something that tasks wait for."""

    __slots__ = ("sleepers",)

    def __init__(self) -> None:
        self.sleepers: list[Callable[[], None]] = []

    def ring(self) -> None:
        """Wake all that wait now."""
        sleepers, self.sleepers = self.sleepers, []
        for wake in sleepers:
            wake()


class Sleep(NamedTuple):
    """Let this much true time pass."""

    duration_us: int


class Until(NamedTuple):
    """Wait for the bell, until this instant of true time at most; None: for ever."""

    bell: Bell
    until_us: int | None


# What a task is sent depends on what it yielded, so the reply cannot be typed more narrowly.
Task = Generator[Sleep | Until | StoreCall, Any, None]
Answer = Callable[[object, int], None]  # what, and after how long


class Kernel:
    """The one clock, the one source of chance, and the queue of what happens next."""

    def __init__(self, seed: int) -> None:
        """Begin at a fixed instant."""
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.now_us = STARTED_US
        self.steps = 0
        self.notes: deque[tuple[int, int, str, tuple[object, ...]]] = deque(maxlen=SHOWN)
        self._queue: list[tuple[int, int, Callable[[], bool | None]]] = []
        self._order = 0
        self._ids = 0

    def after(self, delay_us: int, action: Callable[[], bool | None]) -> None:
        """Have `action` happen later; one that returns False was not worth a step."""
        self._order += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._order, action))

    def step(self) -> bool:
        """Let the next thing happen; False when nothing is left."""
        while self._queue:
            due_us, _, action = heapq.heappop(self._queue)
            self.now_us = max(self.now_us, due_us)
            if action() is not False:
                self.steps += 1
                return True
        return False

    def note(self, who: str, *what: object) -> None:
        """Note what happened; it is made readable only when it must be shown."""
        self.notes.append((self.now_us, self.steps, who, what))

    def shown(self) -> list[str]:
        """Return the last notes, readable."""
        return [
            f"{(now_us - STARTED_US) / 1e6:14.6f} s  step {step:6}  {who:10}  {' '.join(map(str, what))}"
            for now_us, step, who, what in self.notes
        ]

    def happens(self, probability: float) -> bool:
        """Decide by chance."""
        return probability > 0 and self.random.random() < probability

    def between(self, low_us: int, high_us: int) -> int:
        """Return a random number, small ones as likely as large ones of another order of magnitude."""
        exponent = self.random.random()
        return int(low_us * math.pow(high_us / low_us, exponent))

    def new_id(self) -> str:
        """Return an id never given before, which reads as a UUID."""
        self._ids += 1
        return f"{self._ids:08x}-0000-4000-a000-{self.random.getrandbits(48):012x}"


class Process:
    """Something that runs tasks, and may be stopped, continued and killed as a whole."""

    def __init__(
        self, kernel: Kernel, name: str, call_store: Callable[["Process", StoreCall, Answer], None]
    ) -> None:
        """Run nothing yet; `call_store` carries out what the engine wants of the store."""
        self.kernel = kernel
        self.name = name
        self.alive = True
        self.stopped = False
        self.ran = False  # since somebody set it back
        self._call_store = call_store
        self._deferred: list[Callable[[], bool | None]] = []
        self._tasks: dict[int, Task] = {}
        self._serial = 0

    def start(self, task: Task) -> int:
        """Run a task; its first step happens now. Returns its number, for `throw`."""
        self._serial += 1
        number = self._serial
        self._tasks[number] = task
        self.soon(lambda: self._advance(number, None))
        return number

    def soon(self, action: Callable[[], bool | None], delay_us: int = 0) -> None:
        """Have `action` happen in this process, if it lives then, when it runs."""
        self.kernel.after(delay_us, lambda: self._do(action))

    def _do(self, action: Callable[[], bool | None]) -> bool | None:
        if not self.alive:
            return False
        if self.stopped:
            self._deferred.append(action)
            return False
        self.ran = True
        return action()

    def _advance(self, number: int, reply: object) -> bool | None:
        task = self._tasks.get(number)
        if task is None:
            return False
        try:
            wanted = task.throw(reply) if isinstance(reply, BaseException) else task.send(reply)
        except StopIteration:
            self._tasks.pop(number, None)
            return None
        answered = False

        def answer(value: object, delay_us: int) -> None:
            nonlocal answered
            if not answered:
                answered = True
                self.soon(lambda: self._advance(number, value), delay_us)

        if isinstance(wanted, Sleep):
            answer(None, wanted.duration_us)
        elif isinstance(wanted, Until):
            wanted.bell.sleepers.append(lambda: answer(None, 0))
            if wanted.until_us is not None:
                delay_us = max(wanted.until_us - self.kernel.now_us, 0)

                def time_out() -> bool:
                    if answered:
                        return False
                    answer(None, 0)
                    return False

                self.kernel.after(delay_us, time_out)
        else:
            self._call_store(self, wanted, answer)
        return None

    def stop(self) -> None:
        """Let it do nothing any more, until `cont`."""
        self.stopped = True

    def cont(self) -> None:
        """Let it go on: what came meanwhile is there at once, in order."""
        self.stopped = False
        deferred, self._deferred = self._deferred, []
        for action in deferred:
            self.soon(action)

    def kill(self) -> None:
        """End it: it runs no more code, no clean-up either."""
        self.alive = False

    def bury(self) -> None:
        """Close what a killed process left behind, after the run, so that the interpreter need not."""
        self.alive = False
        for task in self._tasks.values():
            task.close()
        self._tasks.clear()
