"""Many real processes on one file, some of which are killed or stopped at any moment."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ebbgate import Client
from ebbgate.testing import history as h
from ebbgate.testing.recorder import clock_us
from tests.embedded import embedded

WAL_WRITE_LOCK = (
    120  # the byte of the -shm file that who commits has locked, https://sqlite.org/walformat.html
)
SECOND = 1_000_000


@dataclass(slots=True)
class Report:
    """What happened."""

    events: list[h.AnyEvent] = field(default_factory=list)
    seconds: float = 0.0
    kills: int = 0
    stops: int = 0
    long_stops: int = 0
    stopped_in_a_commit: int = 0
    handed_over_us: list[int] = field(default_factory=list)  # after a kill, until the slots passed on

    def __str__(self) -> str:
        kinds = Counter(type(event).__name__ for event in self.events)
        refused = Counter(event.why for event in self.events if isinstance(event, h.NotGranted))
        lost = Counter(event.why for event in self.events if isinstance(event, h.LossNoticed))
        slowest = max(self.handed_over_us, default=0) / 1000
        median = statistics.median(self.handed_over_us or [0]) / 1000
        return (
            f"{self.seconds:.0f} s, {len(self.events)} events, {kinds['Granted']} grants "
            f"({kinds['Granted'] / self.seconds:.0f}/s), {kinds['Renewed']} renewals; "
            f"{self.kills} kills, {self.stops} stops ({self.long_stops} longer than a short lease, "
            f"{self.stopped_in_a_commit} in a commit), {kinds['ChangeDone']} changes, "
            f"{kinds['RevokeCalled']} revoked; not granted: {dict(refused)}; lost: {dict(lost)}; "
            f"{len(self.handed_over_us)} leases of killed processes passed on, "
            f"median {median:.0f} ms, slowest {slowest:.0f} ms"
        )


class Child:
    """One process, and its name in the history."""

    def __init__(self, module: str, url: str, folder: Path, name: str, seed: int, *more: str) -> None:
        self.name = name
        self.history = folder / f"{name}.jsonl"
        self.complaints = folder / f"{name}.err"
        with self.complaints.open("wb") as complaints:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"tests.faults.{module}",
                    url,
                    str(self.history),
                    name,
                    str(seed),
                    *more,
                ],
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        self.stopped_until_us = 0

    def waits_until_stopped(self) -> None:
        """Return when the kernel has stopped it."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] not in "TZ":
            pass

    def ends(self) -> None:
        """Tell it to end, and see that it does so in peace."""
        self.process.terminate()
        self.has_ended()

    def has_ended(self) -> None:
        """See that it ends in peace; it was told to."""
        code = self.process.wait(60)
        before_it_began = code == -signal.SIGTERM and not self.history.exists()
        assert code == 0 or before_it_began, f"{self.name} ended with {code}: {self.complaints.read_text()}"

    def commits(self, shm: Path) -> bool:
        """Tell whether it is in the middle of a commit: whether it has the lock of the one who writes."""
        try:
            inode = shm.stat().st_ino
        except FileNotFoundError:
            return False
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[1] == "->" or words[3] != "WRITE" or int(words[4]) != self.process.pid:
                continue
            end = 1 << 62 if words[7] == "EOF" else int(words[7])
            if int(words[5].split(":")[2]) == inode and int(words[6]) <= WAL_WRITE_LOCK <= end:
                return True
        return False


class Siege:
    """Starts processes, kills and stops some, starts them again, and ends them all."""

    def __init__(self, folder: Path, seed: int, workers: int) -> None:
        self.folder, self.seed = folder, seed
        self.path = folder / "store" / "limits.db"
        self.url = f"sqlite:///{self.path}"
        self.chance = random.Random(f"{seed} siege")
        self.recorder = h.Recorder(folder / "siege.jsonl", clock_us)
        self.children: list[Child] = []
        self.everybody: list[Child] = []
        self.lives = [0] * workers
        self.report = Report()

    def start(self, number: int) -> None:
        self.lives[number] += 1
        name = f"w{number}.{self.lives[number]}"
        child = Child("worker", self.url, self.folder, name, self.seed)
        self.children.append(child)
        self.everybody.append(child)

    def run(self, seconds: float) -> Report:
        self.recorder.write(h.Setting(when_us=clock_us(), starved_us=60 * SECOND))
        buried = self.folder / "buried.json"
        operator = Child("operator", self.url, self.folder, "operator", self.seed, str(buried))
        self.everybody.append(operator)
        assert operator.process.stdout is not None
        assert operator.process.stdout.readline() == b"ready\n", operator.complaints.read_text()
        begun = time.monotonic()
        for number in range(len(self.lives)):
            self.start(number)
        self.harass(begun + seconds)
        operator.ends()
        for child in self.children:
            child.ends()
        self.report.seconds = time.monotonic() - begun
        self.finish()
        self.report.events = h.merged(h.read(path) for path in self.folder.glob("*.jsonl"))
        self.measure(json.loads(buried.read_text()))
        return self.report

    def harass(self, until: float) -> None:
        pause = threading.Event()
        while time.monotonic() < until:
            pause.wait(self.chance.uniform(0.02, 0.25))
            self.let_go_on(clock_us())
            running = [child for child in self.children if not child.stopped_until_us]
            if len(running) <= len(self.children) // 2:
                continue
            child = self.chance.choice(running)
            if self.chance.random() < 0.35:
                self.kill(child)
            else:
                self.stop(child)
        self.let_go_on(1 << 62)

    def kill(self, child: Child) -> None:
        self.recorder.write(h.Killed(when_us=clock_us(), client=child.name))
        child.process.kill()
        self.report.kills += 1
        child.process.wait(10)
        self.children.remove(child)
        self.start(int(child.name[1:].partition(".")[0]))

    def stop(self, child: Child) -> None:
        begun_us = clock_us()
        self.recorder.write(h.Stopped(when_us=begun_us, client=child.name))
        child.process.send_signal(signal.SIGSTOP)
        child.waits_until_stopped()
        self.report.stops += 1
        length_us = self.chance.choice([20_000, 200_000, 200_000, 1_500_000, 3_000_000])
        if child.commits(self.path.with_name("limits.db-shm")):
            self.report.stopped_in_a_commit += 1
            self.recorder.write(h.TroubleBegan(when_us=begun_us, what=f"{child.name} sits on a commit"))
        self.report.long_stops += length_us > SECOND
        child.stopped_until_us = clock_us() + length_us

    def let_go_on(self, now_us: int) -> None:
        for child in self.children:
            if 0 < child.stopped_until_us <= now_us:
                child.process.send_signal(signal.SIGCONT)
                child.stopped_until_us = 0
                self.recorder.write(h.Continued(when_us=clock_us(), client=child.name))
                self.recorder.write(h.TroubleEnded(when_us=clock_us(), what=f"{child.name} sits on a commit"))

    def finish(self) -> None:
        """See that nothing is left, and write it down."""
        with Client(self.url) as client:
            held = {
                lease.id: {slots.name: slots.slots for slots in lease.limits}
                for lease in client.list_leases(state="held")
            }
            waiting = tuple(lease.id for lease in client.list_waiters())
            self.recorder.write(h.Listed(when_us=clock_us(), held=held, waiting=waiting, final=True))
            for limit in client.list_limits():
                assert (limit.held_slots, limit.waiting) == (0, 0), limit.name
            assert len(embedded(client).book.sessions) <= 1, "a dead process is remembered"
        assert not (self.path.parent / "limits.db-wake").exists(), "sockets are left"

    def measure(self, buried: dict[str, int]) -> None:
        """Find out how long it took until the slots of a killed process passed on."""
        killed = {event.client: event.when_us for event in self.report.events if isinstance(event, h.Killed)}
        client_of = {
            event.lease: event.client for event in self.report.events if isinstance(event, h.Granted)
        }
        self.report.handed_over_us = sorted(
            ended_us - killed[client_of[lease]]
            for lease, ended_us in buried.items()
            if client_of.get(lease) in killed
        )

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        self.recorder.close()
        for child in self.everybody:
            if child.process.poll() is None:
                os.kill(child.process.pid, signal.SIGCONT)
                child.process.kill()
            child.process.wait(10)
            assert child.process.stdout is not None
            child.process.stdout.close()


@contextmanager
def siege(folder: Path, seed: int, workers: int) -> Iterator[Siege]:
    """Have a siege that leaves no process behind."""
    laid = Siege(folder, seed, workers)
    try:
        yield laid
    finally:
        laid.end()
