"""A process is stopped in the middle of SQLite's commit: the others keep to their timeouts, and recover."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebbgate import AsyncClient, Client, errors
from ebbgate.stores.base import Busy
from tests.embedded import embedded
from tests.interface.helpers import quick, wait_until
from tests.processes.conftest import Program

STOPS = """
gate = gate_for(os.environ["EBBGATE_URL"])
with concurrency("db"):
    pass

def stop():
    say(stopping=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    return False

gate.store._guard._cursor.connection.set_commit_hook(stop)
with concurrency("db", timeout_seconds=5) as lease:
    gate.store._guard._cursor.connection.set_commit_hook(None)
    say(token=lease.fencing_token)
"""


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with Client(f"sqlite:///{folder}/store/limits.db") as client:
        client.create_limit("db", 3)
        yield client


@pytest.fixture
def stopped(client: Client) -> Iterator[Program]:
    """Return a process that sits on SQLite's write lock."""
    program = Program(STOPS, client.url)
    try:
        assert program.hear()["stopping"]
        stat = Path(f"/proc/{program.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        yield program
    finally:
        program.clean_up()


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [0.0, 0.3, 1.0])
def test_others_keep_to_their_timeouts_and_are_told_who_is_in_the_way(
    client: Client, stopped: Program, timeout: float
) -> None:
    def gives_up() -> float:
        begun = time.monotonic()
        with pytest.raises(errors.ConcurrencySlotAcquisitionError) as raised:
            client.concurrency("db", timeout_seconds=timeout).__enter__()
        took = time.monotonic() - begun
        assert isinstance(raised.value, errors.AcquireTimeout | errors.StoreUnavailable)
        if timeout == 0.3:  # else another thread of this process may have had its turn
            assert str(stopped.process.pid) in str(raised.value)
        return took

    quick(gives_up, timeout + 0.5)  # timeout_seconds bounds everything
    stopped.signal(signal.SIGCONT)
    assert stopped.hear()["token"]
    with client.concurrency("db", occupy=3, timeout_seconds=5):
        pass


@pytest.mark.slow
def test_who_waits_and_who_holds_goes_on_when_it_goes_on(client: Client, stopped: Program) -> None:
    tokens: list[int] = []

    def enter() -> None:
        with client.concurrency("db") as lease:
            tokens.append(lease.fencing_token)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.5)
    assert tokens == []
    stopped.signal(signal.SIGCONT)
    for thread in threads:
        thread.join(10)
    assert len(set(tokens)) == 4
    wait_until(lambda: client.read_limit("db").held_slots == 0)


@pytest.mark.slow
def test_leaving_a_block_takes_a_moment_only_and_is_made_up_for(client: Client) -> None:
    block = client.concurrency("db", occupy=2)
    block.__enter__()
    program = Program(STOPS, client.url)
    try:
        assert program.hear()["stopping"]
        begun = time.monotonic()
        block.__exit__(None, None, None)
        assert time.monotonic() - begun < 5, (
            "leaving a block blocks for 100 ms at most, on a machine that is not busy"
        )
        program.signal(signal.SIGCONT)
        assert program.hear()["token"]
        wait_until(lambda: client.read_limit("db").held_slots == 0)
    finally:
        program.clean_up()


@pytest.mark.slow
def test_who_is_killed_in_a_commit_is_no_longer_in_the_way(client: Client, stopped: Program) -> None:
    stopped.process.kill()
    stopped.process.wait(10)
    with client.concurrency("db", occupy=3, timeout_seconds=5):
        pass


@pytest.mark.slow
def test_tasks_keep_to_their_timeouts_too(client: Client, stopped: Program) -> None:
    async def tries() -> float:
        begun = time.monotonic()
        with pytest.raises(errors.ConcurrencySlotAcquisitionError):
            await AsyncClient(client.url).concurrency("db", timeout_seconds=0.3).__aenter__()
        return time.monotonic() - begun

    quick(lambda: asyncio.run(tries()), 0.8)
    stopped.signal(signal.SIGCONT)
    assert stopped.hear()["token"]
    wait_until(lambda: client.read_limit("db").held_slots == 0)


def test_a_task_that_finds_the_file_locked_has_its_command_carried_out_by_a_thread(client: Client) -> None:
    """SQLite says busy though the turn was free: the one before gave up its turn, or never took it."""
    store: Any = embedded(client).store
    real = store.commit
    busy: list[bool] = []

    def commit(*arguments: object, **named: object) -> object:
        if named.get("patience_us") == 0:
            busy.append(True)
            raise Busy
        return real(*arguments, **named)

    store.commit = commit

    async def enters() -> int:
        async with AsyncClient(client.url).concurrency("db", timeout_seconds=5) as lease:
            return lease.fencing_token

    assert asyncio.run(enters()) > 0
    assert busy
    assert client.read_limit("db").held_slots == 0
