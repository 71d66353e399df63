"""A file that a server owns: its users go over the server while it lives, and use the file when it has died."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from ebbgate import AsyncClient, Client, errors
from ebbgate.client.connect import close_gate
from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.client.owned.gate import OwnedGate
from tests.client.remote.conftest import Serve
from tests.client.remote.support import PATIENCE_SECONDS, Served, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def server(serve: Serve) -> Iterator[Served]:
    """Return a server that owns a file."""
    made = serve()
    yield made
    close_gate(made.store)


def owned(client: Client) -> OwnedGate:
    gate = client.gate
    assert isinstance(gate, OwnedGate)
    return gate


def test_a_limit_used_through_the_file_and_through_the_server_is_one_limit(server: Served) -> None:
    near, far = Client(server.store), Client(server.url)
    near.create_limit("db", 1)
    assert owned(near).embedded is None
    with (
        near.concurrency("db"),
        pytest.raises(errors.AcquireTimeout),
        far.concurrency("db", timeout_seconds=0),
    ):
        pytest.fail("it is held")
    with far.concurrency("db"), pytest.raises(errors.AcquireTimeout):
        near.concurrency("db", timeout_seconds=0).__enter__()


def test_who_uses_the_file_needs_no_key_of_the_server(serve: Serve) -> None:
    """It could read the file itself."""
    server = serve()
    client = Client(server.store)
    client.create_limit("db", 1)
    client.close()
    keys = server.folder / "keys"
    keys.write_text("one=a-key-of-some-length-one\n")
    keys.chmod(0o600)
    server.end()
    server._flags = ("--api-keys-file", str(keys))
    server.start()
    assert Client(server.store).read_limit("db").limit == 1
    close_gate(server.store)


@pytest.mark.parametrize("how", ["killed", "drained"])
def test_when_the_owner_dies_holders_and_waiters_go_on_with_the_file(server: Served, how: str) -> None:
    client = Client(server.store)
    client.create_limit("db", 1)
    order: list[str] = []

    def wait() -> None:
        with client.concurrency("db"):
            order.append("thread")

    async def wait_in_task() -> None:
        async with AsyncClient(server.store).concurrency("db"):
            order.append("task")

    threads = [threading.Thread(target=wait), threading.Thread(target=asyncio.run, args=(wait_in_task(),))]
    with client.concurrency("db", lease_duration=4.5) as lease:
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda count=count: client.read_limit("db").waiting == count)  # type: ignore[misc]
        places = [waiter.id for waiter in client.list_waiters("db")]
        server.kill() if how == "killed" else server.end()
        begun = time.monotonic()
        assert client.read_limit("db").held_slots == 1
        assert time.monotonic() - begun < 20, "nobody tries until the time to connect is over: 30 s"
        assert owned(client).embedded is not None
        wait_until(lambda: [waiter.id for waiter in client.list_waiters("db")] == places)
        first = client.read_lease(lease.id).expires
        wait_until(lambda: client.read_lease(lease.id).expires != first)  # it is renewed
        assert not lease.lost
    for thread in threads:
        thread.join(10)
    assert order == ["thread", "task"]
    assert client.read_limit("db").held_slots == 0

    async def once_more() -> None:
        async with AsyncClient(server.store).concurrency("db", timeout_seconds=5):
            assert (await AsyncClient(server.store).read_limit("db")).held_slots == 1

    asyncio.run(once_more())


def test_an_owner_that_comes_back_before_anybody_asks_is_the_owner_again(server: Served) -> None:
    client = Client(server.store)
    client.create_limit("db", 1)
    with client.concurrency("db"):
        wait_until(lambda: owned(client).remote.renewals._connection)  # else it notices by itself
    server.kill()
    server.start()
    with client.concurrency("db"):
        assert client.read_limit("db").held_slots == 1
    assert owned(client).embedded is None


def test_who_was_on_the_file_before_a_server_owned_it_just_goes_on(serve: Serve) -> None:
    """Commits are checked against each other, whoever makes them."""
    server = serve()
    server.end()
    client = Client(server.store)
    client.create_limit("db", 1)
    assert isinstance(client.gate, EmbeddedGate)
    with client.concurrency("db"):
        server.start()
        far = Client(server.url)
        with pytest.raises(errors.AcquireTimeout), far.concurrency("db", timeout_seconds=0):
            pytest.fail("it is held")
        entered = threading.Event()

        def wait() -> None:
            with far.concurrency("db", timeout_seconds=10):
                entered.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: far.read_limit("db").waiting == 1)
    assert entered.wait(10)
    waiting.join()
    close_gate(server.store)


def test_processes_on_the_file_never_hold_more_than_its_slots_while_owners_come_and_go(
    server: Served,
) -> None:
    """Four processes; the server is killed again and again, and each of them goes over to the file in its time."""
    client = Client(server.url)
    client.create_limit("db", 1)
    client.close()
    program = """
        import os, sys
        from ebbgate.sync import concurrency

        path, rounds = sys.argv[1], int(sys.argv[2])
        for _ in range(rounds):
            with concurrency("db", timeout_seconds=60) as lease:
                inside = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # fails if somebody else is inside
                os.close(inside)
                os.unlink(path)
        print("done", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(server.folder / "inside"), "400"]
    environment = {**os.environ, "EBBGATE_URL": server.store}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(4)
    ]
    for _ in range(2):
        if all(process.poll() is not None for process in processes):
            break
        server.kill()
        server.start()
    server.kill()
    for process in processes:
        assert process.communicate(timeout=PATIENCE_SECONDS)[0] == "done\n"
