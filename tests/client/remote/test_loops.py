"""Thousands of tasks share the one connection of their event loop, and loops come and go."""

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from ebbgate import AsyncClient, Client, errors
from ebbgate.client.remote.gate import RemoteGate
from tests.client.remote.support import wait_until
from tests.client.remote.test_threads import connections
from tests.serving import ServedInThread

Run = Callable[[Coroutine[Any, Any, None]], object]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a coroutine on a new event loop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


def test_a_thousand_tasks_share_one_connection(client: Client, server: ServedInThread, run: Run) -> None:
    client.create_limit("db", 10)
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        async with AsyncClient(client.url).concurrency("db"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async def main() -> None:
        await asyncio.gather(*[work() for _ in range(1_000)])
        assert connections(server) <= 3  # of the threads, of this loop, of the renewer

    run(main())
    assert most == 10
    assert client.read_limit("db").held_slots == client.read_limit("db").waiting == 0


def test_several_loops_in_several_threads_have_a_connection_each(
    client: Client, server: ServedInThread, run: Run
) -> None:
    client.create_limit("db", 3)
    together = threading.Barrier(4)

    async def main() -> None:
        async def work() -> None:
            async with AsyncClient(client.url).concurrency("db"):
                await asyncio.sleep(0.001)

        await asyncio.gather(*[work() for _ in range(20)])
        await asyncio.to_thread(together.wait, 20)
        assert 5 <= connections(server) <= 6
        await asyncio.to_thread(together.wait, 20)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(run, main()) for _ in range(4)]:
            future.result(30)
    assert client.read_limit("db").held_slots == 0


def test_a_loop_that_has_ended_leaves_nothing_behind(
    client: Client, server: ServedInThread, run: Run
) -> None:
    """Its connection is closed when the next one begins, without a warning, and its session is over."""
    client.create_limit("db", 2)

    async def main() -> None:
        async with AsyncClient(client.url).concurrency("db"):
            pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            run(main())
            gc.collect()
    assert connections(server) <= 3
    gate = client.gate
    assert isinstance(gate, RemoteGate)
    gate.reap()
    wait_until(lambda: connections(server) <= 2)
    wait_until(lambda: not gate.renewals._newest)


def test_a_lease_of_a_loop_that_was_stopped_lasts_until_its_block_is_left(client: Client) -> None:
    """A loop that runs piece by piece, as some frameworks do."""
    client.create_limit("db", 1)
    loop = asyncio.new_event_loop()
    block = AsyncClient(client.url).concurrency("db", lease_duration=4.5)
    lease = loop.run_until_complete(block.__aenter__())
    first = lease.expires_at
    wait_until(lambda: lease.expires_at > first)
    assert client.read_limit("db").held_slots == 1
    loop.run_until_complete(block.__aexit__(None, None, None))
    assert client.read_limit("db").held_slots == 0
    loop.close()


def test_a_lease_of_a_loop_that_has_ended_is_kept_until_it_is_dropped(client: Client) -> None:
    """Its block may still be left, on another loop."""
    client.create_limit("db", 1)
    block = AsyncClient(client.url).concurrency("db", lease_duration=4.5)
    lease = asyncio.run(block.__aenter__())
    first = lease.expires_at
    wait_until(lambda: lease.expires_at > first)
    asyncio.run(block.__aexit__(None, None, None))
    wait_until(lambda: client.read_limit("db").held_slots == 0, 5)


@pytest.mark.parametrize("turns", range(8))
def test_a_cancellation_at_any_moment_of_a_first_call_leaks_nothing(client: Client, turns: int) -> None:
    """While the connection is being made, too."""
    client.create_limit("db", 1)

    async def main() -> None:
        async def work() -> None:
            async with AsyncClient(client.url).concurrency("db"):
                await asyncio.sleep(0)

        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0.0005 * turns)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with AsyncClient(client.url).concurrency("db", timeout_seconds=10):
            pass

    asyncio.run(main())
    wait_until(lambda: client.read_limit("db").held_slots == 0)


def test_a_blocked_loop_keeps_its_place_and_its_lease(client: Client) -> None:
    """The renewer's connection speaks for it."""
    client.create_limit("db", 1)

    async def main() -> None:
        async with AsyncClient(client.url).concurrency("db", lease_duration=4.5) as lease:
            first = lease.expires_at
            wait_until(lambda: lease.expires_at > first)  # the loop is blocked meanwhile
            assert not lease.lost

    asyncio.run(main())


def test_a_grant_to_a_loop_that_was_blocked_too_long_is_counted_from_when_it_was_made(client: Client) -> None:
    """Or renewed first: no lease is believed in for longer than it lasts."""
    client.create_limit("db", 1)

    async def main() -> None:
        async def wait() -> float:
            async with AsyncClient(client.url).concurrency("db", lease_duration=0.8) as lease:
                assert not lease.lost
                seen = await asyncio.to_thread(client.read_lease, lease.id)
                assert seen.state == "held"
                assert seen.expires is not None
                return lease.waited_seconds

        block = client.concurrency("db")
        await asyncio.to_thread(block.__enter__)
        task = asyncio.create_task(wait())
        while (await asyncio.to_thread(client.read_limit, "db")).waiting == 0:
            await asyncio.sleep(0.01)
        threading.Timer(0.01, block.__exit__, (None, None, None)).start()
        threading.Event().wait(0.5)  # the loop hears of the grant when much of its time is over
        assert await task >= 0.4

    asyncio.run(main())


def test_closing_from_within_the_loop_ends_its_tasks(client: Client) -> None:
    client.create_limit("db", 1)

    async def main() -> None:
        async with AsyncClient(client.url) as other:
            block = other.concurrency("db")
            await block.__aenter__()

            async def wait() -> None:
                async with other.concurrency("db", suppress_warnings=True):
                    pytest.fail("it is held")

            task = asyncio.create_task(wait())
            while (await other.read_limit("db")).waiting == 0:
                await asyncio.sleep(0.01)
            begun = time.monotonic()
            await other.close()
            assert time.monotonic() - begun < 10
            with pytest.raises(errors.WaiterRemoved):
                await task

    asyncio.run(main())
    assert client.read_limit("db").held_slots == client.read_limit("db").waiting == 0


def test_an_answer_that_takes_many_reads_and_a_question_of_many_writes_pass(client: Client) -> None:
    """Ten thousand tasks ask in one turn of the loop: more than a socket takes at once."""
    client.create_limit("db", 10_000)

    async def main() -> None:
        blocks = [
            AsyncClient(client.url).concurrency("db", labels={"text": "x" * 200}) for _ in range(10_000)
        ]
        leases = await asyncio.gather(*[block.__aenter__() for block in blocks])
        assert len({lease.fencing_token for lease in leases}) == 10_000
        await asyncio.gather(*[block.__aexit__(None, None, None) for block in blocks])

    asyncio.run(main())
    wait_until(lambda: client.read_limit("db").held_slots == 0)
