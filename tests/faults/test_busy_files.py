"""Another program holds the file's lock, or another thread decides: nobody waits longer for it than promised."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ebbgate import AsyncClient, Client, errors
from ebbgate.wire.questions import ReadLimit
from tests.embedded import embedded
from tests.interface.helpers import held_elsewhere, wait_until

LOCKS = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    file.execute(line)
    print(flush=True)
"""


class Locker:
    """Another program that can hold SQLite's lock."""

    def __init__(self, path: Path) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-c", LOCKS, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def _do(self, statement: str) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(f"{statement}\n")
        assert self._program.stdout.readline() == "\n"

    def lock(self) -> None:
        self._do("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        self._do("ROLLBACK")

    def clean_up(self) -> None:
        self._program.communicate()


@pytest.fixture
def client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    url = f"sqlite:///{folder}/limits.db"
    monkeypatch.setenv("EBBGATE_URL", url)
    with Client(url) as client:
        client.create_limit("db", 1)
        yield client


@pytest.fixture
def locker(client: Client, folder: Path) -> Iterator[Locker]:
    program = Locker(folder / "limits.db")
    yield program
    program.clean_up()


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_task_that_leaves_while_the_file_is_locked_keeps_no_slot(
    client: Client, locker: Locker, cancelled: bool
) -> None:
    async def use() -> None:
        async with AsyncClient(client.url).concurrency("db"):
            locker.lock()

    async def leave() -> None:
        task = asyncio.create_task(use())
        if cancelled:
            gate = embedded(client)
            while not any(port._turn._in_thread for port in gate._loops.values()):
                await asyncio.sleep(0.001)
            task.cancel()
        begun = time.monotonic()
        await asyncio.wait([task])
        assert time.monotonic() - begun < 1
        assert task.cancelled() is cancelled
        await asyncio.sleep(0.2)  # until the release has failed
        locker.unlock()

    asyncio.run(leave())
    wait_until(lambda: client.read_limit("db").held_slots == 0)


def test_a_cancelled_task_whose_asking_was_not_carried_out_yet_is_forgotten(client: Client) -> None:
    gate = embedded(client)
    mine = AsyncClient(client.url)

    async def enter() -> None:
        async with mine.concurrency("db"):
            pytest.fail("it was let in")

    async def cancel() -> None:
        async with mine.concurrency("db"):
            with gate._mutex.lock:
                task = asyncio.create_task(enter())
                while not any(port._turn._in_thread for port in gate._loops.values()):
                    await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.sleep(0.001)
            await asyncio.wait([task])
            assert client.read_limit("db").waiting == 0
            assert not gate.waiters

    asyncio.run(cancel())


def test_a_waiting_thread_keeps_to_its_timeout_while_another_one_waits_for_the_lock(
    client: Client, locker: Locker
) -> None:
    took: list[float] = []

    def wait() -> None:
        begun = time.monotonic()
        with pytest.raises(errors.AcquireTimeout):
            client.concurrency("db", timeout_seconds=0.5).__enter__()
        took.append(time.monotonic() - begun)

    def change() -> None:
        client.update_limit("db", description="changed")

    with held_elsewhere("db"):
        threads = [threading.Thread(target=wait), threading.Thread(target=change)]
        threads[0].start()
        wait_until(lambda: client.read_limit("db").waiting == 1)
        locker.lock()
        threads[1].start()
        threads[0].join(10)
        locker.unlock()
        threads[1].join(10)
    assert 0.5 <= took[0] < 1.5


def test_a_question_does_not_block_the_loop_while_a_thread_decides(client: Client) -> None:
    gate = embedded(client)

    async def see() -> None:
        place = gate.loop_place()
        with gate._mutex.lock:
            asking = asyncio.create_task(place.see(ReadLimit("db")))
            await asyncio.sleep(0.02)
            assert not asking.done()
        assert await asking is not None

    asyncio.run(see())


def test_where_no_thread_can_wait_for_the_others_a_task_is_told(client: Client) -> None:
    gate = embedded(client)
    mine = AsyncClient(client.url)

    async def ask() -> None:
        await mine.rate_limit("db", timeout_seconds=0)  # opens the gate for the loop
        threads = ThreadPoolExecutor(1)
        threads.shutdown()
        asyncio.get_running_loop().set_default_executor(threads)
        with gate._mutex.lock, pytest.raises(errors.StoreUnavailable, match="no thread to wait"):
            await mine.rate_limit("db", timeout_seconds=0)
        await mine.rate_limit("db", timeout_seconds=10)  # the renewer may be looking right now

    client.update_limit("db", limit=5, slot_decay_per_second=1)
    asyncio.run(ask())
