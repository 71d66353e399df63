"""Who looks for a server, and how soon it tries again."""

import threading
import time
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.client.remote import connecting, thread_channel
from ebbgate.client.remote.addresses import addresses_of
from ebbgate.client.remote.connecting import Connector
from ebbgate.client.remote.dialling import Connection, Dialler
from ebbgate.client.remote.gate import _tls
from ebbgate.client.remote.host import GREETING, greeting
from ebbgate.errors import EbbgateError
from ebbgate.wire.ids import new_id
from ebbgate.wire.stream import HelloItem
from tests.client.remote.support import PATIENCE_SECONDS, wait_until
from tests.serving import served

NOTICED_SECONDS = 1.5  # less than after which a waiter looks by itself


class Seeker:
    """What is connected: one session, by greetings under one epoch after the other."""

    def __init__(self, dialler: Dialler, session: str, epoch: int) -> None:
        self.session, self.epoch = session, epoch
        self.connector = Connector(self, dialler)
        self.is_refused = threading.Event()
        self.found = threading.Event()
        self.connection: Connection | None = None

    def hello(self) -> HelloItem | None:
        return None if self.connection else greeting(GREETING, self.session, self.epoch, "main", 0)

    def stale(self, hello: HelloItem, newest: int) -> None:
        self.epoch = newest + 1

    def connected(self, connection: Connection, hello: HelloItem) -> None:
        self.connection = connection
        self.found.set()

    def not_connected(self, error: EbbgateError) -> None:
        self.is_refused.set()

    def close(self) -> None:
        self.connector.stop()
        if self.connection is not None:
            self.connection.close()


@pytest.fixture(autouse=True)
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everybody pause for so long after a failure that a test would not live to see the end."""
    monkeypatch.setattr(connecting, "PAUSE_FIRST_SECONDS", 1_000.0)
    monkeypatch.setattr(connecting, "PAUSE_MAX_SECONDS", 1_000.0)


def test_a_server_that_knows_a_session_under_a_higher_epoch_is_greeted_again_at_once(tmp_path: Path) -> None:
    session = new_id()
    with served(f"sqlite:///{tmp_path / 'limits.db'}") as server:
        dialler = Dialler(addresses_of(server.url), None, _tls)
        first, second = Seeker(dialler, session, 7), Seeker(dialler, session, 3)
        for seeker in (first, second):
            seeker.connector.start()
            assert seeker.found.wait(PATIENCE_SECONDS)
        assert second.epoch > 7
        first.close()
        second.close()


def test_when_one_has_found_a_server_the_others_of_its_process_look_at_once(tmp_path: Path) -> None:
    with served(f"sqlite:///{tmp_path / 'limits.db'}") as server:
        port = server.port
    dialler = Dialler(addresses_of(f"ebbgate://127.0.0.1:{port}"), None, _tls)
    waiting, finder = Seeker(dialler, new_id(), 1), Seeker(dialler, new_id(), 1)
    waiting.connector.start()
    assert waiting.is_refused.wait(PATIENCE_SECONDS)  # and pauses
    with served(f"sqlite:///{tmp_path / 'limits.db'}", port=port):
        begun = time.monotonic()
        finder.connector.start()
        assert waiting.found.wait(PATIENCE_SECONDS)
        assert time.monotonic() - begun < PATIENCE_SECONDS
        waiting.close()
        finder.close()


def test_whoever_read_for_all_reads_again_as_soon_as_there_is_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not sleep until it is time to look around."""
    monkeypatch.setattr(connecting, "PAUSE_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(connecting, "PAUSE_MAX_SECONDS", 0.05)
    monkeypatch.setattr(thread_channel, "LOOK_US", 1_000_000_000)
    store = f"sqlite:///{tmp_path / 'limits.db'}"
    is_in = threading.Event()
    with served(store) as server:
        url, port = server.url, server.port
        holder, waiter = (Client(url, api_key=who) for who in ("holder", "waiter"))
        holder.create_limit("db", 1)
        taken = holder.concurrency("db")
        taken.__enter__()

        def wait() -> None:
            with waiter.concurrency("db", timeout_seconds=60):
                is_in.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: holder.list_waiters("db"))
    with served(store, port=port):
        taken.__exit__(None, None, None)
        assert is_in.wait(NOTICED_SECONDS)
        waiting.join()
        holder.close()
        waiter.close()


def test_clients_that_lost_their_server_come_back_soon_and_never_in_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connecting, "PAUSE_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(connecting, "PAUSE_MAX_SECONDS", 0.4)
    addresses = addresses_of("ebbgate://127.0.0.1:1")
    seekers = [Seeker(Dialler(addresses, None, _tls), new_id(), 1) for _ in range(50)]

    def pauses(failures: int) -> set[float]:
        for seeker in seekers:
            seeker.connector._failures = failures
        return {seeker.connector._pause_seconds() for seeker in seekers}

    assert pauses(0) == {0.0}, "the first try is at once"
    for failures in (1, 2, 4, 100, 10_000):
        found = pauses(failures)
        assert len(found) == len(seekers), "each has a pause of its own"
        assert max(found) <= 0.6, "and is back within a second of the server, however long it was away"
        assert max(found) > 1.5 * min(found)
    assert sum(pauses(100)) > 2 * sum(pauses(1)), "who fails again and again asks more rarely"

    leaving = [seeker.connector._dialler for seeker in seekers]
    for dialler in leaving:
        dialler.leave(addresses[0], 100.0)
    back = [dialler.pause_seconds() for dialler in leaving]
    assert len(set(back)) == len(back), "nor do those come back in step that were asked to"
    assert 90 < min(back) < max(back) <= 150
