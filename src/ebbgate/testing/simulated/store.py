"""The store of a simulated world: every promise of `Store`, an unreliable way there, and a past to fall back to."""

from collections.abc import Callable, Sequence
from typing import Final

from ebbgate.core.model import SECOND, Head, Lease
from ebbgate.engine.engine import StoreCall
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import EMPTY, Conflict, Delta, Row, Snapshot, TooOld, Version
from ebbgate.stores.codec import decode
from ebbgate.stores.network_clock import SLEW, NetworkClock
from ebbgate.testing.simulated.kernel import STARTED_US, Answer, Kernel, Process

MEASURED_US: Final = SECOND
"""How often a server of a network store measures its clock when nothing else asks the store."""

KEPT: Final = 400
"""How many commits can be told or undone."""


class SimulatedStore:
    """Rows in memory, with compare-and-swap; what was committed last can get lost."""

    def __init__(self, *, keep: int = KEPT) -> None:
        """Start empty; the last `keep` commits can be told or undone."""
        self._keep = keep
        self.spent: Callable[[Lease], None] = _tell_nobody  # called with each spend that is committed
        self.version = EMPTY
        self.head = Head()
        self.rows: dict[tuple[str, str], Row] = {}
        self._log: list[tuple[Version, Head, Sequence[Row], dict[tuple[str, str], Row | None], Head]] = []
        self._first = EMPTY  # the version before the first commit of the log

    def load(self) -> Snapshot:
        """See `Store.load`."""
        return Snapshot(self.version, self.head, list(self.rows.values()))

    def commit(self, base: Version, tag: str, head: Head, rows: Sequence[Row]) -> Version:
        """See `Store.commit`."""
        if base != self.version:
            raise Conflict
        if not rows:
            return base
        before = {(row.kind, row.id): self.rows.get((row.kind, row.id)) for row in rows}
        for row in rows:
            if row.keep:
                self.rows[row.kind, row.id] = row
            else:
                self.rows.pop((row.kind, row.id), None)
        self.version = Version(base.number + 1, tag)
        self._log.append((self.version, head, tuple(rows), before, self.head))
        self.head = head
        for row in rows:
            if row.kind == "lease" and b'"why":"spent"' in (row.body or b""):
                (stored,) = decode([row])
                assert isinstance(stored.record, Lease), "decoded from the row of a lease"
                self.spent(stored.record)
        if len(self._log) > self._keep:
            self._first = self._log.pop(0)[0]
        return self.version

    def _place(self, version: Version) -> int | None:
        if version == self._first:
            return -1
        place = version.number - self._first.number - 1
        known = 0 <= place < len(self._log) and self._log[place][0] == version
        return place if known else None

    def changes_since(self, version: Version) -> Delta:
        """See `Store.changes_since`."""
        place = self._place(version)
        if place is None:
            raise TooOld
        return Delta(self.version, self.head, [row for entry in self._log[place + 1 :] for row in entry[2]])

    def find(self, tag: str, base: Version) -> Version | None:
        """See `Store.find`."""
        made = Version(base.number + 1, tag)
        if self._place(made) is not None:
            return made
        if made.number <= self._first.number:
            raise TooOld
        return None

    def lose_tail(self, commits: int) -> int:
        """Fall back to what was there some commits ago; return how many are gone."""
        lost = min(commits, len(self._log))
        for _ in range(lost):
            version, _, _, before, head = self._log.pop()
            for key, row in before.items():
                if row is None:
                    self.rows.pop(key, None)
                else:
                    self.rows[key] = row
            self.version = self._log[-1][0] if self._log else self._first
            assert self.version.number == version.number - 1, "versions have no gaps"
            self.head = head
        return lost


OSCILLATORS: Final = 200e-6
"""How much the monotonic clock of a server differs from true time."""

ALLOWED: Final = OSCILLATORS + 2 / SLEW
"""How much the time of decisions may differ from true time, in parts: the slew, and what that runs after."""

ROUND_TRIPS_US: Final = SECOND // 4
"""What servers that start one after the other may add, each by its first measurement."""


class TimeLaw:
    """The law of clocks: a step of the store's clock counts for nothing while a server runs.

    A step counts only if a server starts before any running one has measured it: then it is downtime for all that
    anybody can know.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Allow no difference from true time yet."""
        self._kernel = kernel
        self._low_us = self._high_us = 0  # how far the time may differ from true time
        self._unseen: list[int] = []  # steps that no server has measured
        self.counted: Callable[[int], None] = _keep_to_itself  # called with each step that counts as downtime

    def stepped(self, by_us: int) -> None:
        """Note a step of the store's clock."""
        self._unseen.append(by_us)

    def measured(self) -> None:
        """Note that a running server measured the clock: from now on the steps before are known as such."""
        self._unseen.clear()

    def started(self) -> None:
        """Note that a server read the time for the first time."""
        for by_us in self._unseen:
            self.counted(by_us)
        self._low_us += sum(min(by_us, 0) for by_us in self._unseen)
        self._high_us += sum(max(by_us, 0) for by_us in self._unseen)
        self._unseen.clear()

    def check(self, time_us: int) -> None:
        """Check the time that a server reads now.

        Raises:
            AssertionError: a step of the store's clock was taken for time that passed.
        """
        ahead_us = time_us - self._kernel.now_us
        allowed_us = (self._kernel.now_us - STARTED_US) * ALLOWED + ROUND_TRIPS_US
        assert self._low_us - allowed_us <= ahead_us <= self._high_us + allowed_us, (
            f"time is {ahead_us / SECOND:g} s ahead of true time; allowed are {self._low_us / SECOND:g} to "
            f"{self._high_us / SECOND:g} s, and {allowed_us / SECOND:g} s for the slew"
        )


class Access:
    """The way from processes to the store: slow, and unreliable as the world has it."""

    def __init__(self, kernel: Kernel, store: SimulatedStore, *, far: bool = False) -> None:
        """Lead to `store` without any fault; set the probabilities.

        Args:
            kernel: has the true time.
            store: at the end of the way.
            far: it is behind a network: each process disciplines the store's clock by its own, as servers do.
        """
        self.kernel = kernel
        self.store = store
        self.time = TimeLaw(kernel)
        self.step_us = 0  # by how much the store's clock is ahead of true time
        self._far = far
        self._behind_us = 0  # what is on record in the store
        self._clocks: dict[Process, NetworkClock] = {}
        self.down = False
        self.lost_request = 0.0
        self.lost_answer = 0.0
        self.late_commit = 0.0
        self.crash = 0.0
        self.latency_us = (10, 500)
        self.faults: dict[str, int] = {}
        self.ambush: dict[str, Callable[[], None]] = {}  # what happens when this process commits next
        self._cut_off: dict[str, int] = {}  # process -> until when it reaches nothing
        self.spared = ""  # the process that does not crash
        self.crashed: list[Process] = []  # by a fault of theirs at a commit; the world sees to them

    def clock(self) -> int:
        """Return the store's own time."""
        return self.kernel.now_us + self.step_us

    def time_of(self, process: Process) -> int:
        """Return the time that decisions of a process use."""
        if not self._far:
            return self.clock()
        clock = self._clocks.get(process)
        if clock is None:
            drift = self.kernel.random.uniform(-OSCILLATORS, OSCILLATORS)
            clock = NetworkClock(lambda: round((self.kernel.now_us - STARTED_US) * (1 + drift)))
            self._clocks[process] = clock
            self._measure(clock)
            clock.recorded(self._behind_us)
            self.time.started()
        now_us = clock.now_us()
        self.time.check(now_us)
        return now_us

    def measure(self, process: Process) -> None:
        """Have a process measure the clock of the store, as it does when nothing else asks the store."""
        if self._reaches(process):
            self.time_of(process)
            self._answered(process)

    def step(self, by_us: int) -> None:
        """Step the store's clock."""
        self.step_us += by_us
        if self._far:
            self.time.stepped(by_us)
        else:
            self.time.counted(by_us)

    def _measure(self, clock: NetworkClock) -> None:
        now_us = clock.elapsed_us()
        clock.measured(now_us - self.kernel.random.randint(0, self.latency_us[1]), self.clock())

    def _answered(self, process: Process, reply: object = None) -> None:
        clock = self._clocks.get(process)
        if clock is None:
            return
        self._measure(clock)
        if isinstance(reply, Snapshot | Delta):
            clock.committed(reply.head.instant_us)
        self.time.measured()
        if (behind_us := clock.to_record()) is not None:
            self._behind_us = behind_us
        clock.recorded(self._behind_us)

    def _reaches(self, process: Process) -> bool:
        return not self.down and self._cut_off.get(process.name, 0) <= self.kernel.now_us

    def count(self, fault: str) -> None:
        """Count a fault that was injected."""
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def call(self, process: Process, wanted: StoreCall, answer: Answer) -> None:
        """Carry out one call for a process."""
        delay_us = self.kernel.between(*self.latency_us)
        if wanted.method == "clock":
            answer(self.time_of(process), 0)  # at once: the offset to it was measured before
            return
        if wanted.method == "commit" and (ambush := self.ambush.pop(process.name, None)) is not None:
            ambush()
        if not self._reaches(process) or self.kernel.happens(self.lost_request):
            self.count("request to the store lost")
            if wanted.method == "commit" and not self.down and self.kernel.happens(self.late_commit):
                self.count("commit late, after its process gave it up")
                late = self.kernel.between(1_000, 3_000_000)
                self.kernel.after(late, lambda: self._carry_out_late(wanted))
            self.kernel.note(process.name, wanted.method, "-> lost")
            answer(StoreUnavailable("simulated: the request was lost"), delay_us)
            return
        crash = wanted.method == "commit" and process.name != self.spared and self.kernel.happens(self.crash)
        when = self.kernel.random.choice(("before", "within", "after")) if crash else ""
        if when == "before":
            self._crash(process, when)
            return
        reply = self._carry_out(wanted)
        self.kernel.note(process.name, wanted.method, _short(wanted, reply))
        if when == "within":
            self._crash(process, when)
        elif self.kernel.happens(self.lost_answer):
            self.count("answer of the store lost")
            if self.kernel.happens(0.5):  # and it stays out of reach, so that nobody knows what became of it
                self._cut_off[process.name] = self.kernel.now_us + self.kernel.between(10_000, 3_000_000)
            answer(StoreUnavailable("simulated: the answer was lost"), delay_us)
        else:
            self._answered(process, reply)
            answer(reply, delay_us)
            if when == "after":
                process.soon(lambda: self._crash(process, when), delay_us + self.kernel.between(1, 2_000))

    def _carry_out(self, wanted: StoreCall) -> object:
        try:
            return getattr(self.store, wanted.method)(*wanted.arguments)
        except (Conflict, TooOld) as error:
            if isinstance(error, Conflict):
                self.count("conflict")
            return error

    def _carry_out_late(self, wanted: StoreCall) -> None:
        reply = self._carry_out(wanted)
        self.kernel.note("store", "late commit", _short(wanted, reply))

    def _crash(self, process: Process, when: str) -> None:
        self.count(f"crash {when} a commit")
        self.crashed.append(process)


def _tell_nobody(_lease: Lease) -> None:
    """Judge no spend."""


def _keep_to_itself(_by_us: int) -> None:
    """Tell nobody of a step."""


def _short(wanted: StoreCall, reply: object) -> str:
    if isinstance(reply, Version):
        return f"-> {reply.number}"
    if isinstance(reply, Exception):
        return f"-> {type(reply).__name__}"
    if isinstance(reply, Snapshot | Delta):
        return f"-> {reply.version.number}, {len(reply.rows)} rows"
    return f"{wanted.method} -> {reply}"
