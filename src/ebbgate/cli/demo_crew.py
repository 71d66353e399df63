"""The worker processes of `ebbgate demo`: started, listened to, and all of them gone in the end."""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from ebbgate.cli.demo_proof import Visit
from ebbgate.cli.demo_worker import Event

Role = Literal["hold", "call"]

_END_SECONDS: Final = 2.0
_EVENTS: Final = msgspec.json.Decoder(Event)


class Worker:
    """One process, and what it has told so far."""

    def __init__(self, number: int, role: Role, environment: Mapping[str, str], stderr: Path) -> None:
        """Start it."""
        self.number = number
        self.role = role
        self.asked: Event | None = None  # since then it waits
        self.entered: Event | None = None  # since then it is inside
        self.visits: list[Visit] = []
        self.calls_ns: list[int] = []
        self.ready = False
        self.killed = False
        self._rest = b""
        # -P: a file beside the user that is called like one of ours must not take its place.
        command = [sys.executable, "-P", "-m", "ebbgate.cli.demo_worker", role, str(number)]
        with stderr.open("ab") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then sees to its workers
            )

    def say(self, word: str) -> None:
        """Tell it what to do; a worker that has died does not hear."""
        assert self.process.stdin is not None, "it was started with a pipe"
        with suppress(OSError):
            self.process.stdin.write(f"{word}\n".encode())

    def hear(self) -> bool:
        """Take in what it has written; False when it has nothing more to say."""
        assert self.process.stdout is not None, "it was started with a pipe"
        data = os.read(self.process.stdout.fileno(), 65_536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take_in(_EVENTS.decode(line))
        return bool(data)

    def _take_in(self, event: Event) -> None:
        match event.kind:
            case "ready":
                self.ready = True
            case "asked":
                self.asked = event
            case "entered":
                self.entered = event
            case "left":
                self._left(self._visit(event.at_ns))
            case "called":
                self.calls_ns.append(event.at_ns)

    def _visit(self, left_ns: int, *, killed: bool = False) -> Visit:
        asked, entered = self.asked, self.entered
        assert asked is not None, "who is inside has asked before"
        assert entered is not None, "who is inside has entered before"
        return Visit(
            worker=self.number,
            slots=entered.slots,
            asked_ns=asked.at_ns,
            entered_ns=entered.at_ns,
            left_ns=left_ns,
            token=entered.token,
            arrival=entered.arrival,
            killed=killed,
        )

    def _left(self, visit: Visit) -> None:
        self.visits.append(visit)
        self.asked = self.entered = None

    def visits_until(self, now_ns: int) -> list[Visit]:
        """Return all its visits, one that goes on included."""
        return [*self.visits, self._visit(now_ns)] if self.entered is not None else self.visits

    def exit_code(self) -> int | None:
        """Return with which code it has ended, None if it goes on."""
        try:
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill it while it is inside: it cannot clean up."""
        self.killed = True
        visit = self._visit(time.monotonic_ns(), killed=True)
        self.process.kill()
        self._left(visit)


class Crew:
    """All worker processes; leaving the block leaves none."""

    def __init__(self, roles: list[Role], url: str, folder: Path) -> None:
        """Start one process for each role, on the store at `url`."""
        self._stderr = folder / "stderr"
        self._selector = selectors.DefaultSelector()
        self.workers: list[Worker] = []
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EBBGATE_")}
        environment["EBBGATE_URL"] = url
        try:
            for number, role in enumerate(roles, start=1):
                worker = Worker(number, role, environment, self._stderr)
                self.workers.append(worker)
                assert worker.process.stdout is not None, "it was started with a pipe"
                self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        """Return the crew itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill whoever is still there."""
        self._end()

    def _end(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.wait()
            for pipe in (worker.process.stdin, worker.process.stdout):
                assert pipe is not None, "it was started with pipes"
                with suppress(OSError):
                    pipe.close()
        self._selector.close()

    @property
    def holders(self) -> list[Worker]:
        """Those who visit the workshop."""
        return [worker for worker in self.workers if worker.role == "hold"]

    @property
    def callers(self) -> list[Worker]:
        """Those who call the API."""
        return [worker for worker in self.workers if worker.role == "call"]

    def visits(self) -> list[Visit]:
        """Return all visits that are over, and those that go on as if they ended now."""
        now_ns = time.monotonic_ns()
        return [visit for worker in self.workers for visit in worker.visits_until(now_ns)]

    def calls_ns(self) -> list[int]:
        """Return when the API was called."""
        return [at_ns for worker in self.workers for at_ns in worker.calls_ns]

    def say(self, word: str) -> None:
        """Tell everybody what to do."""
        for worker in self.workers:
            worker.say(word)

    def listen(self, seconds: float) -> None:
        """Take in what the workers tell within so many seconds, or until all are gone."""
        until = time.monotonic() + seconds
        while self._selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                worker: Worker = key.data
                if not worker.hear():
                    self._selector.unregister(key.fileobj)

    def gone(self) -> bool:
        """Tell whether every worker has said all it will."""
        return not self._selector.get_map()

    def ended_badly(self) -> int:
        """Return how many have not ended as they were told to, the killed one apart."""
        return sum(1 for worker in self.workers if not worker.killed and worker.exit_code() != 0)

    def complaints(self) -> str:
        """Return what the workers wrote to their standard error."""
        return self._stderr.read_text(encoding="utf-8", errors="replace") if self._stderr.exists() else ""
