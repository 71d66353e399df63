"""Servers of one store die, stop, drain and come back: nobody who lives loses what it holds, or its place."""

import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from ebbgate import Client
from ebbgate.errors import AcquireTimeout
from ebbgate.server import others
from tests.client.remote.support import wait_until
from tests.scale.conftest import Launch, Serve, ServerProcess, several

pytestmark = pytest.mark.slow


class Waiters:
    """Threads of one client that wait for a limit, and when each got in."""

    def __init__(self, client: Client, name: str, count: int) -> None:
        self.order: list[int] = []
        self.at: list[float] = []
        self._client, self._name = client, name
        self._threads = [threading.Thread(target=self._take, args=(number,)) for number in range(count)]
        for number, thread in enumerate(self._threads):
            thread.start()
            wait_until(lambda number=number: client.read_limit(name).waiting == number + 1)  # type: ignore[misc]

    def _take(self, number: int) -> None:
        with self._client.concurrency(self._name):
            self.order.append(number)
            self.at.append(time.monotonic())

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize("how", ["killed", "drained", "stopped"])
def test_clients_of_a_server_that_goes_move_to_another_with_leases_and_places(
    launch: Launch, how: str
) -> None:
    here, there = launch(), launch()
    with Client(several(here, there)) as client, Client(there.url) as witness:
        client.create_limit("db", 1)
        with client.concurrency("db", lease_duration=60) as lease:
            waiters = Waiters(client, "db", 4)
            before = [waiter.id for waiter in witness.list_waiters("db")]
            {"killed": here.kill, "drained": here.end, "stopped": here.stop}[how]()
            assert [held.id for held in witness.list_leases("db", "held")] == [lease.id]
            assert [waiter.id for waiter in witness.list_waiters("db")] == before
            began = time.monotonic()
            client.read_limit("db")
            assert time.monotonic() - began < 10, "a lease lasts a minute, and nobody waits for that"
        waiters.join()
        assert not lease.lost
        assert waiters.order == [0, 1, 2, 3]
        assert witness.read_limit("db").held_slots == 0


def test_a_client_moves_within_a_second(launch: Launch) -> None:
    """A busy machine may take longer now and then, but not every other time."""
    servers = [launch(), launch()]
    took: list[float] = []
    with Client(several(*servers)) as client:
        client.create_limit("db", 5)
        for number in range(5):
            gone = servers[number % 2]
            gone.kill()
            began = time.monotonic()
            with client.concurrency("db"):
                took.append(time.monotonic() - began)
            if number < 4:
                gone.start()
    assert sorted(took)[2] < 1, took


def test_a_rolling_restart_loses_nothing(launch: Launch) -> None:
    servers = [launch() for _ in range(3)]
    over = threading.Event()
    with Client(several(*servers)) as client, Client(several(*servers)) as other:
        client.create_limit("db", 2)
        done: list[int] = []

        def work(who: Client) -> None:
            while not over.is_set():
                with who.concurrency("db", strict=True, lease_duration=6) as lease:
                    assert not lease.lost
                    done.append(lease.fencing_token)

        with ThreadPoolExecutor(6) as pool:
            working = [pool.submit(work, who) for who in (client, other) * 3]
            with client.concurrency("db", lease_duration=6) as kept:
                for server in servers:
                    server.end()
                    seen = len(done)
                    wait_until(lambda seen=seen: len(done) > seen + 20)  # type: ignore[misc]
                    server.start()
                assert not kept.lost
            over.set()
            for each in working:
                each.result(20)
        assert len(set(done)) == len(done), "every grant has a token of its own"
        assert client.read_limit("db").held_slots == 0


def test_a_server_that_was_stopped_commits_nothing_stale(launch: Launch) -> None:
    here, there = launch("--recovery-grace", "0"), launch("--recovery-grace", "0")
    with Client(here.url) as stopped, Client(there.url) as client:
        client.create_limit("db", 1)
        stopped.read_limit("db")
        block = stopped.concurrency("db", lease_duration=1)
        lease = block.__enter__()
        here.stop()
        with client.concurrency("db", timeout_seconds=20) as next_one:
            assert next_one.fencing_token > lease.fencing_token
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(_try, stopped)
                here.go_on()
                assert asked.result(20) is False, "it has taken in what it missed"
            assert lease.lost
            assert [held.id for held in client.list_leases("db", "held")] == [next_one.id]
        block.__exit__(None, None, None)


def _try(client: Client) -> bool:
    try:
        with client.concurrency("db", timeout_seconds=0):
            return True
    except AcquireTimeout:
        return False


WAITS = """
import sys
from ebbgate import Client
with Client(sys.argv[1]).concurrency("db"):
    pass
"""


@contextmanager
def waiting_process(url: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", WAITS, url])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_clients_that_died_with_their_server_leave_the_queue(
    serve: Serve, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else knows that they are gone."""
    monkeypatch.setattr(others, "SILENT_SECONDS", 3.0)
    dies = launch()
    with Client(serve(recovery_grace_seconds=1.0).url) as client, waiting_process(dies.url) as waits:
        client.create_limit("db", 1)
        with client.concurrency("db"):
            wait_until(lambda: client.read_limit("db").waiting == 1)
            dies.kill()
            waits.kill()
            assert client.read_limit("db").waiting == 1, "it may be back in a moment"
            wait_until(lambda: client.read_limit("db").waiting == 0)


def test_those_of_a_server_that_lives_keep_their_places_when_another_one_starts(
    serve: Serve, launch: Launch
) -> None:
    here = launch("--recovery-grace", "0")
    with Client(here.url) as client:
        client.create_limit("db", 1)
        with client.concurrency("db") as lease, waiting_process(here.url):
            wait_until(lambda: client.read_limit("db").waiting == 1)
            (before,) = client.list_waiters("db")
            with Client(serve(recovery_grace_seconds=0.0).url) as late:
                beats = 0
                until = time.monotonic() + 3 * others.BEAT_SECONDS
                while time.monotonic() < until:
                    assert [waiter.id for waiter in late.list_waiters("db")] == [before.id]
                    assert [held.id for held in late.list_leases("db", "held")] == [lease.id]
                    beats += 1
                    threading.Event().wait(0.1)
                assert beats


def ready(server: ServerProcess) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
