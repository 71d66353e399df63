"""A small world in virtual time: processes that may crash at every yield, and one store they share.

Everything that happens follows from one seed: which process goes next, how long a step takes, what is lost,
who dies. A process is a generator. It yields what it wants done (`Sleep`, or a request to the store) and is
resumed with the answer, so every yield is a place where the world may let time pass, fail the request, or
end the process.

Known limit: time passes only at a yield; code between two yields takes no time at all.
"""

import heapq
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import EMPTY, Conflict, Delta, Row, Snapshot, TooOld, Version


class Sleep(NamedTuple):
    """Let this much virtual time pass."""

    duration_us: int


class Request(NamedTuple):
    """One call of a method of the store, by name."""

    method: str
    arguments: tuple[object, ...]


# What a process is sent depends on what it yielded, so the reply cannot be typed more narrowly.
Process = Generator[Sleep | Request, Any, None]


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong; each a probability per step."""

    crash: float = 0.0  # the process ends at this yield; a request under way may still be carried out
    lost_answer: float = 0.0  # the store did it, the process is told that it is unavailable
    lost_request: float = 0.0  # the store never saw it, the process is told that it is unavailable
    latency_max_us: int = 1_000


class SimulatedStore:
    """A store in memory with every promise of `Store`, whose whole history can be looked at."""

    def __init__(self, *, keep: int = 1_000) -> None:
        """Keep the last `keep` commits for `changes_since`."""
        self.version = EMPTY
        self.head = Head()
        self.rows: dict[tuple[str, str], bytes] = {}
        self.log: list[tuple[Version, Head, list[Row]]] = []
        self._keep = keep

    def load(self) -> Snapshot:
        """See `Store.load`."""
        return Snapshot(self.version, self.head, [Row(k, i, body) for (k, i), body in self.rows.items()])

    def commit(self, base: Version, tag: str, head: Head, rows: list[Row]) -> Version:
        """See `Store.commit`."""
        if base != self.version:
            raise Conflict
        if not rows:
            return base
        for row in rows:
            if row.body is None or not row.keep:
                self.rows.pop((row.kind, row.id), None)
            else:
                self.rows[row.kind, row.id] = row.body
        self.version = Version(base.number + 1, tag)
        self.head = head
        self.log.append((self.version, head, list(rows)))
        del self.log[: -self._keep]
        return self.version

    def changes_since(self, version: Version) -> Delta:
        """See `Store.changes_since`."""
        if version == self.version:
            return Delta(self.version, self.head, [])
        known = [entry[0] for entry in self.log]
        if version in known:
            later = self.log[known.index(version) + 1 :]
        elif version == EMPTY and known and known[0].number == 1:
            later = self.log
        else:
            raise TooOld
        return Delta(self.version, self.head, [row for _, _, rows in later for row in rows])

    def find(self, tag: str, base: Version) -> Version | None:
        """See `Store.find`."""
        made = Version(base.number + 1, tag)
        return made if any(version == made for version, _, _ in self.log) else None


@dataclass(slots=True)
class World:
    """Virtual time, a queue of what happens next, and the seeded randomness behind every choice."""

    seed: int
    faults: Faults = field(default_factory=Faults)
    store: SimulatedStore = field(default_factory=SimulatedStore)
    now_us: int = 1_700_000_000_000_000
    history: list[str] = field(default_factory=list)
    crashes: int = 0
    steps: int = 0
    _random: random.Random = field(init=False)
    _queue: list[tuple[int, int, str, Process, object]] = field(default_factory=list)
    _order: int = 0

    def __post_init__(self) -> None:
        """Seed the one source of randomness."""
        self._random = random.Random(self.seed)  # noqa: S311 - reproducible on purpose

    def spawn(self, name: str, process: Process) -> None:
        """Start a process; its first step happens now."""
        self._push(self.now_us, name, process, None)

    def clock(self) -> int:
        """Return the virtual time in microseconds since 1970."""
        return self.now_us

    def run(self, *, steps_max: int, after_step: Callable[["World"], None] | None = None) -> None:
        """Run until nothing is left to do or `steps_max` steps were made; call `after_step` after each."""
        while self._queue and self.steps < steps_max:
            due_us, _, name, process, reply = heapq.heappop(self._queue)
            self.now_us = max(self.now_us, due_us)
            self.steps += 1
            self._step(name, process, reply)
            if after_step is not None:
                after_step(self)

    def _step(self, name: str, process: Process, reply: object) -> None:
        try:
            wanted = process.throw(reply) if isinstance(reply, Exception) else process.send(reply)
        except StopIteration:
            self._note(name, "ends")
            return
        if self._happens(self.faults.crash):
            if isinstance(wanted, Request) and self._happens(0.5):
                self._answer(wanted)
            self.crashes += 1
            self._note(name, f"crashes at {wanted}")
            # Dropped, not closed: a killed process runs no clean-up.
            process_frames.append(process)
            return
        if isinstance(wanted, Sleep):
            self._push(self.now_us + wanted.duration_us, name, process, None)
            return
        answer = self._answer_or_fault(wanted)
        self._note(name, f"{wanted.method} -> {answer!r}")
        self._push(self.now_us + self._random.randint(1, self.faults.latency_max_us), name, process, answer)

    def _answer_or_fault(self, wanted: Request) -> object:
        if self._happens(self.faults.lost_request):
            return StoreUnavailable("simulated: the request was lost")
        answer = self._answer(wanted)
        if self._happens(self.faults.lost_answer):
            return StoreUnavailable("simulated: the answer was lost")
        return answer

    def _answer(self, wanted: Request) -> object:
        try:
            return getattr(self.store, wanted.method)(*wanted.arguments)
        except (Conflict, TooOld) as error:
            return error

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _push(self, due_us: int, name: str, process: Process, reply: object) -> None:
        self._order += 1
        heapq.heappush(self._queue, (due_us, self._order, name, process, reply))

    def _note(self, name: str, what: str) -> None:
        self.history.append(f"{self.now_us} {name} {what}")


process_frames: list[Process] = []
"""Crashed processes: kept so that the interpreter does not close them, which would run their clean-up."""
