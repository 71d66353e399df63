"""Three servers on one store, as one server to those who lay siege to it: whatever is done is done to one of them."""

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from tests.client.remote.support import pass_time
from tests.faults.server_process import ServerProcess
from tests.faults.server_siege import FLAGS, ServerSiege
from tests.faults.server_worker import Habits
from tests.stores.servers import Postgres, Redis

SERVERS = 3


class SharedServers:
    """The part of `ServerProcess` that a siege needs."""

    def __init__(self, folder: Path, store: str, chance: random.Random) -> None:
        """Start nothing yet."""
        self.all: list[ServerProcess] = []
        for number in range(SERVERS):
            home = folder / f"server-{number}"
            home.mkdir()
            server = ServerProcess(home, *FLAGS)
            server.store = store
            self.all.append(server)
        self._chance = chance
        self._running: set[int] = set()
        self._stopped = -1

    @property
    def url(self) -> str:
        """All of them."""
        return ",".join(server.url for server in self.all)

    @property
    def port(self) -> int:
        """Of the first one."""
        return self.all[0].port

    def start(self) -> int:
        """Start those that do not run; return when the last of them serves."""
        ready_us = 0
        for number in set(range(SERVERS)) - self._running:
            ready_us = self.all[number].start()
            self._running.add(number)
        return ready_us

    def _one(self) -> int:
        return self._chance.choice(sorted(self._running))

    def kill(self) -> None:
        """Kill one without a word."""
        number = self._one()
        self._running.discard(number)
        self.all[number].kill()

    def end(self) -> None:
        """End one in order."""
        number = self._one()
        self._running.discard(number)
        self.all[number].end()

    def end_all(self) -> None:
        """End all of them."""
        while self._running:
            self.end()

    def stop(self) -> None:
        """Stop one."""
        self._stopped = self._one()
        self.all[self._stopped].stop()

    def go_on(self) -> None:
        """Let it go on."""
        self.all[self._stopped].go_on()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave no process behind."""
        for server in self.all:
            with suppress(ProcessLookupError):
                server.__exit__(RuntimeError, None, None)  # that the store was away is a complaint


class SharedSiege(ServerSiege):
    """A siege of three servers and their database."""

    def __init__(self, folder: Path, seed: int, database: Postgres | Redis, *, workers: int) -> None:
        """Begin nothing yet."""
        habits = Habits(timeouts=(None, None, 25.0))
        super().__init__(folder, seed, workers=workers, habits=habits)
        self.database = database
        self.shared = SharedServers(folder, database.url(), self.chance)
        self.server = self.shared  # type: ignore[assignment]  # as far as a siege needs it

    def _ports(self) -> Sequence[int]:
        return [server.port for server in self.shared.all]

    def kill_database(self, away_seconds: float) -> None:
        """Kill the database and start it again, after so long."""
        self._end_database("killed", signal.SIGKILL, away_seconds)

    def restart_database(self) -> None:
        """Have the database end in order, and start it again at once."""
        self._end_database("restarted", signal.SIGINT, 0.0)

    def _end_database(self, how: str, with_signal: int, away_seconds: float) -> None:
        with self.without_server(f"database {how}"):
            self.database.end(with_signal)
            pass_time(away_seconds)
            self.database.start()
            pass_time(1.0)

    def cut_database_off(self) -> None:
        """Cut the connections of all servers to the database; they make new ones."""
        with self.without_server("cut off from the database"):
            self.database.cut_connections()
            pass_time(0.5)

    def _see_that_nothing_is_left(self) -> None:
        self.shared.end_all()


@contextmanager
def siege_of_servers(
    folder: Path, seed: int, database: Postgres | Redis, *, workers: int = 8
) -> Iterator[SharedSiege]:
    """Have a siege that leaves no process behind."""
    laid = SharedSiege(folder, seed, database, workers=workers)
    try:
        yield laid
    finally:
        try:
            laid.end()
        finally:
            laid.shared.__exit__(None, None, None)
