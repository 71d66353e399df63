"""Many real processes at one server that is killed, as are some of them, over a network that misbehaves."""

import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ebbgate import Client
from ebbgate.testing import history as h
from ebbgate.testing.recorder import clock_us
from tests.client.remote.support import pass_time, wait_until
from tests.faults.server_process import ServerProcess
from tests.faults.server_proxy import Network, Proxy
from tests.faults.server_report import Report, Trouble, measure_backs
from tests.faults.server_worker import KEPT, Habits
from tests.faults.siege import SECOND, Child

SERVER = "server"
AWAY_SECONDS = 4.0
RECOVERY_SECONDS = 3.0
FLAGS = (
    "--away-grace", str(AWAY_SECONDS), "--recovery-grace", str(RECOVERY_SECONDS), "--lease-duration-min", "0.5",
)  # fmt: skip
STOPS_US = (
    20_000,
    200_000,
    200_000,
    1_000_000,
    2_500_000,
)  # longer than the shortest lease, shorter than the grace
SILENT_SECONDS = (0.1, 0.3, 1.0, 1.5)
LEFT_SECONDS = 60.0


def is_served(child: Child) -> bool:
    """Tell whether a client holds what it keeps."""
    try:
        history = h.read(child.history)
    except FileNotFoundError:
        return False
    kept = {event.lease for event in history if isinstance(event, h.Asked) and KEPT in event.slots}
    return any(isinstance(event, h.Granted) and event.lease in kept for event in history)


@dataclass(slots=True)
class Place:
    """Where one client process after the other is."""

    number: int
    face: str
    proxy: Proxy | None
    lives: int = 0
    child: Child | None = None
    silences: int = 0  # under way
    heals: list[tuple[int, str]] = field(default_factory=list)  # (when, the trouble that ends then)


class ServerSiege:
    """A server, its clients, and what is done to them."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        workers: int = 8,
        flags: Sequence[str] = FLAGS,
        module: str = "ebbgate",
        habits: Habits | None = None,
        proxied: bool = True,
        embedded: Sequence[int] = (),
    ) -> None:
        """Begin nothing yet.

        Args:
            folder: of everything.
            seed: of all chances.
            workers: how many client processes.
            flags: of the server.
            module: see `ServerProcess`.
            habits: of the clients.
            proxied: whether every other pair of clients is behind a proxy.
            embedded: numbers of workers that name the file instead of the server.
        """
        self.folder, self.seed = folder, seed
        self.server = ServerProcess(folder, *flags, module=module)
        self.chance = random.Random(f"{seed} siege of a server")
        self.recorder = h.Recorder(folder / "siege.jsonl", clock_us)
        self.report = Report(seed)
        self.habits = habits or Habits()
        self.everybody: list[Child] = []
        self.operator: Child | None = None
        self.places: list[Place] = []
        self.cuts: list[tuple[str, int]] = []  # whose connections, and when
        self.network: Network | None = None
        self._workers, self._proxied, self._embedded = workers, proxied, frozenset(embedded)
        self._stack = ExitStack()
        self._over = threading.Event()
        self._harasser: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._began = 0.0

    # --- begin

    def begin(self, *, operated: bool = True) -> None:
        """Start the server, the operator and the clients."""
        told_us, starved_us = 5 * SECOND, 60 * SECOND
        self.recorder.write(
            h.Setting(when_us=clock_us(), starved_us=starved_us, told_us=told_us, returned_us=30 * SECOND)
        )
        self.server.start()
        self.network = self._stack.enter_context(Network(*self._ports()))
        self.operator = self._child("server_operator", self.server.url, "operator")
        assert self.operator.process.stdout is not None
        assert self.operator.process.stdout.readline() == b"ready\n", self.operator.complaints.read_text()
        if not operated:
            self.operator.ends()
        for number in range(self._workers):
            proxy = self.network.proxy() if self._proxied and number % 4 >= 2 else None
            place = Place(number, "threads" if number % 2 else "tasks", proxy)
            self.places.append(place)
            self.start(place)
        wait_until(
            lambda: all(place.child is not None and is_served(place.child) for place in self.places), 60
        )
        self._began = time.monotonic()

    def _ports(self) -> Sequence[int]:
        return (self.server.port,)

    def start(self, place: Place) -> None:
        """Start another client."""
        place.lives += 1
        if place.number in self._embedded:
            url = self.server.store
        else:
            url = self.server.url if place.proxy is None else place.proxy.url
        habits = msgspec.json.encode(self.habits).decode()
        name = f"w{place.number}.{place.lives}"
        place.child = self._child("server_worker", url, name, place.face, habits)

    def _child(self, module: str, url: str, name: str, *more: str) -> Child:
        child = Child(module, url, self.folder, name, self.seed, *more)
        self.everybody.append(child)
        return child

    # --- what is done to the server

    @contextmanager
    def without_server(self, what: str) -> Iterator[None]:
        """Note that the server does not serve meanwhile."""
        trouble = Trouble(what, clock_us(), 0)
        self.recorder.write(h.TroubleBegan(when_us=trouble.from_us, what=SERVER))
        yield
        trouble.ready_us = trouble.ready_us or clock_us()
        self.recorder.write(h.TroubleEnded(when_us=clock_us(), what=SERVER))
        self.report.troubles.append(trouble)
        self.report.done[f"server {what}"] += 1

    def kill_server(self, away_seconds: float = 0.0) -> None:
        """Kill it and start it again, after so long."""
        with self.without_server("killed"):
            self.server.kill()
            pass_time(away_seconds)
            ready_us = self.server.start()
        self.report.troubles[-1].ready_us = ready_us

    def drain_server(self) -> None:
        """Have it end in order, and start another one at once."""
        with self.without_server("drained"):
            begun_us = clock_us()
            self.server.end()
            self.report.drained_us.append(clock_us() - begun_us)
            ready_us = self.server.start()
        self.report.troubles[-1].ready_us = ready_us

    def stop_server(self, seconds: float) -> None:
        """Stop it for so long."""
        with self.without_server("stopped"):
            self.server.stop()
            pass_time(seconds)
            self.server.go_on()

    # --- what is done to the clients

    def harass(self, *, kills: float = 1.0) -> None:
        """Have clients killed, stopped and cut off from now on; `kills` is how often they are killed."""
        self._harasser = threading.Thread(target=self._harass, args=(kills,), name="harasser")
        self._harasser.start()

    def _harass(self, kills: float) -> None:
        try:
            while not self._over.wait(self.chance.uniform(0.1, 0.5)):
                self._relieve(clock_us())
                place = self.chance.choice(self.places)
                assert place.child is not None
                if place.child.stopped_until_us:
                    continue
                does = [(self._kill, 0.3 * kills), (self._stop, 1.2)]
                if place.proxy is not None:
                    does += [(self._cut, 4.0), (self._silence, 2.0), (self._delay, 2.0)]
                self.chance.choices([do for do, _ in does], [weight for _, weight in does])[0](place)
        except BaseException as error:
            self._failure = error
        finally:
            self._relieve(1 << 62)

    def _kill(self, place: Place) -> None:
        child = place.child
        assert child is not None
        self.recorder.write(h.Killed(when_us=clock_us(), client=child.name))
        child.process.kill()
        child.process.wait(10)
        self.report.done["killed"] += 1
        self.start(place)

    def _stop(self, place: Place) -> None:
        child = place.child
        assert child is not None
        self.recorder.write(h.Stopped(when_us=clock_us(), client=child.name))
        child.process.send_signal(signal.SIGSTOP)
        child.waits_until_stopped()
        child.stopped_until_us = clock_us() + self.chance.choice(STOPS_US)
        self.report.done["stopped"] += 1

    def _cut(self, place: Place) -> None:
        assert place.proxy is not None
        proxy, network = place.proxy, self.network
        assert network is not None
        how = self.chance.choice(["fin", "reset"])
        all_ = self.chance.random() < 0.3

        def cut() -> int:
            wires = list(proxy.wires)
            chosen = wires if all_ else wires[:1]
            for wire in chosen:
                wire.cut("fin" if how == "fin" else "reset")
            return len(chosen)

        self.report.done[f"cut ({how})"] += network.within(cut)
        assert place.child is not None
        self.cuts.append((place.child.name, clock_us()))

    def _silence(self, place: Place) -> None:
        assert place.proxy is not None
        assert place.child is not None
        assert self.network is not None
        proxy = place.proxy
        place.silences += 1
        up, down = self.chance.choice([(True, True), (True, False), (False, True)])
        what = f"silence {place.lives}.{place.silences}"
        one = self.chance.random() < 0.5
        self.recorder.write(h.TroubleBegan(when_us=clock_us(), client=place.child.name, what=what))

        def silence() -> None:
            for wire in list(proxy.wires)[: 1 if one else None]:
                wire.silence(up=up, down=down)

        self.network.within(silence)
        self.report.done["silenced"] += 1
        place.heals.append((clock_us() + round(self.chance.choice(SILENT_SECONDS) * SECOND), what))

    def _delay(self, place: Place) -> None:
        assert place.proxy is not None
        assert self.network is not None
        proxy, seconds = place.proxy, self.chance.choice([0.0, 0.001, 0.01, 0.05])

        def delay() -> None:
            proxy.delay_seconds = seconds
            for wire in proxy.wires:
                wire.up.delay_seconds = wire.down.delay_seconds = seconds

        self.network.within(delay)
        self.report.done["delayed"] += 1

    def _relieve(self, now_us: int) -> None:
        """Let those go on whose time has come."""
        for place in self.places:
            child = place.child
            if child is not None and 0 < child.stopped_until_us <= now_us:
                child.process.send_signal(signal.SIGCONT)
                child.stopped_until_us = 0
                self.recorder.write(h.Continued(when_us=clock_us(), client=child.name))
            if place.heals and max(when_us for when_us, _ in place.heals) <= now_us:
                self._heal(place)

    def _heal(self, place: Place) -> None:
        assert place.proxy is not None
        assert self.network is not None
        proxy = place.proxy

        def heal() -> None:
            for wire in list(proxy.wires):
                wire.silence()

        self.network.within(heal)
        for _, what in place.heals:
            client = f"w{place.number}.{what.split()[1].split('.')[0]}"
            self.recorder.write(h.TroubleEnded(when_us=clock_us(), client=client, what=what))
        place.heals.clear()

    # --- end

    def leave_in_peace(self) -> None:
        """Harass nobody any more."""
        self._over.set()
        if self._harasser is not None:
            self._harasser.join(30)
            assert not self._harasser.is_alive()
        if self._failure is not None:
            raise self._failure

    def finish(self) -> Report:
        """End all processes; see that nothing is left of them, and put their histories together."""
        self.leave_in_peace()
        assert self.operator is not None
        if self.operator.process.poll() is None:
            self.operator.ends()
        running = [place.child for place in self.places if place.child is not None]
        for child in running:
            child.process.terminate()
        for child in running:
            child.has_ended()
        self.report.seconds = time.monotonic() - self._began
        for child in self.everybody:
            said = child.complaints.read_text()
            assert "Traceback" not in said, f"{child.name}: {said}"
        self._see_that_nothing_is_held()
        self.server.end()
        self._see_that_nothing_is_left()
        self.report.events = h.merged(h.read(path) for path in self.folder.glob("*.jsonl"))
        proxied = {place.number for place in self.places if place.proxy is not None}
        measure_backs(self.report, self.cuts, proxied)
        return self.report

    def _see_that_nothing_is_held(self) -> None:
        """What was held by those who were killed while the server was away ends when its countdown does."""
        with Client(self.server.url) as client:
            until = time.monotonic() + LEFT_SECONDS
            while client.list_leases(state="held") or client.list_waiters():
                if time.monotonic() > until:
                    break
                pass_time(0.2)
            held = {
                lease.id: {slots.name: slots.slots for slots in lease.limits}
                for lease in client.list_leases(state="held")
            }
            waiting = tuple(lease.id for lease in client.list_waiters())
            self.recorder.write(h.Listed(when_us=clock_us(), held=held, waiting=waiting, final=True))
            for limit in client.list_limits():
                assert (limit.held_slots, limit.waiting) == (0, 0), limit
            while client.status().sessions > 1 and time.monotonic() < until:
                pass_time(0.2)
            assert client.status().sessions <= 1, "a dead process is remembered"

    def _see_that_nothing_is_left(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", self.server.port))
        left = {path.name for path in self.server.path.parent.iterdir()}
        allowed = {
            "limits.db",
            "limits.db-lock",
            "limits.db-owner",
            "limits.db-presence",
            "limits.db-checkpoint",
            "limits.db-history",
        }
        assert left <= allowed, left - allowed

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        self._over.set()
        if self._harasser is not None:
            self._harasser.join(30)
        for child in self.everybody:
            if child.process.poll() is None:
                os.kill(child.process.pid, signal.SIGCONT)
                child.process.kill()
            child.process.wait(10)
            assert child.process.stdout is not None
            child.process.stdout.close()
        self._stack.close()
        self.recorder.close()
        kept = os.environ.get("EBBGATE_FAULT_KEEP")
        if kept:
            sockets = shutil.ignore_patterns("*-wake", "*.sock")
            shutil.copytree(self.folder, Path(kept) / f"{self.folder.name}-{self.seed}", ignore=sockets)


@contextmanager
def siege_of_server(folder: Path, seed: int, **more: object) -> Iterator[ServerSiege]:
    """Have a siege that leaves no process behind."""
    laid = ServerSiege(folder, seed, **more)  # type: ignore[arg-type]  # as `ServerSiege` has them
    try:
        yield laid
    finally:
        try:
            laid.end()
        finally:
            laid.server.__exit__(None, None, None)
