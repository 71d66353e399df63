"""`ebbgate.asyncio`: the same promises on an event loop."""

import asyncio
import time

import pytest

from ebbgate import AsyncClient, Client, errors
from ebbgate.asyncio import concurrency, rate_limit
from tests.interface.helpers import held_elsewhere

pytestmark = pytest.mark.asyncio


async def test_never_more_tasks_inside_than_slots(client: Client) -> None:
    """A hundred tasks through three slots."""
    client.create_limit("db", 3)
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        async with concurrency("db") as lease:
            assert lease.protected
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.002)
            inside -= 1

    await asyncio.gather(*[work() for _ in range(100)])
    assert most == 3
    assert client.read_limit("db").held_slots == 0


async def test_tasks_get_in_in_the_order_of_their_asking(client: Client) -> None:
    """First come, first served."""
    client.create_limit("db", 1)
    order: list[int] = []

    async def work(number: int) -> None:
        async with concurrency("db"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*[work(number) for number in range(20)])
    assert order == list(range(20))


async def test_a_timeout_bounds_the_wait_and_leaves_nothing(client: Client) -> None:
    """Afterwards nobody waits."""
    client.create_limit("db", 1)
    with held_elsewhere("db"):
        for timeout in (0, 0.05):
            begun = time.monotonic()
            with pytest.raises(errors.AcquireTimeout):
                async with concurrency("db", timeout_seconds=timeout):
                    pytest.fail("the slot is taken")
            assert time.monotonic() - begun < 5
        assert client.read_limit("db").waiting == 0


async def test_a_cancelled_waiter_leaves_the_queue(client: Client) -> None:
    """And does not take the slot that comes free."""
    client.create_limit("db", 1)

    async def work() -> None:
        async with concurrency("db"):
            pytest.fail("cancelled before")

    with held_elsewhere("db"):
        tasks = [asyncio.create_task(work()) for _ in range(5)]
        while client.read_limit("db").waiting < 5:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert client.read_limit("db").waiting == 0
    assert client.read_limit("db").held_slots == 0


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_at_any_moment_leaks_nothing(client: Client, turns: int) -> None:
    """Cancelled after so many turns of the loop, inside or outside of the block."""
    client.create_limit("db", 2)

    async def work() -> None:
        async with concurrency("db"):
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(work()) for _ in range(8)]
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(1000):
        if client.read_limit("db").held_slots == client.read_limit("db").waiting == 0:
            break
        await asyncio.sleep(0.002)
    assert client.read_limit("db").held_slots == 0
    assert client.read_limit("db").waiting == 0


async def test_a_rate_limit_gives_its_burst_and_then_its_rate(client: Client) -> None:
    """Limit 5 at 100/s: 25 calls take 0.2 s; a busy machine may take longer for one round, but not for each."""
    taken = [1.0]
    while taken[-1] >= 0.5:
        assert len(taken) < 5, taken
        name = f"api {len(taken)}"
        client.create_limit(name, 5, slot_decay_per_second="100/s")
        begun = time.monotonic()
        await asyncio.gather(*[rate_limit(name) for _ in range(25)])
        taken.append(time.monotonic() - begun)
        assert taken[-1] >= 0.199


async def test_it_decorates_async_and_sync_functions(client: Client) -> None:
    """Each call in a block of its own."""
    client.create_limit("db", 1)

    @concurrency("db")
    async def double(number: int) -> int:
        assert client.read_limit("db").held_slots == 1
        return 2 * number

    @concurrency("db")
    def triple(number: int) -> int:
        assert client.read_limit("db").held_slots == 1
        return 3 * number

    assert await double(2) == 4
    with pytest.warns(errors.BlockingCallWarning, match="write: async def triple"):
        assert triple(2) == 6
    assert client.read_limit("db").held_slots == 0


async def test_unknown_limits_warn_or_raise(client: Client) -> None:
    """As in the sync face."""
    client.create_limit("database", 1)
    with pytest.warns(errors.UnknownLimitWarning, match="did you mean 'database'"):
        async with concurrency("databas"):
            pass
    with pytest.raises(errors.LimitNotFound):
        async with concurrency("databas", strict=True):
            pytest.fail("it does not exist")
    with pytest.raises(errors.LimitNotFound):
        await rate_limit("databas", strict=True)


async def test_waiting_for_what_one_holds_oneself_is_warned_of(client: Client) -> None:
    """The task chain's own slots keep it out."""
    client.create_limit("db", 1)
    async with concurrency("db"):
        with pytest.warns(errors.NestedWaitWarning), pytest.raises(errors.AcquireTimeout):
            async with concurrency("db", timeout_seconds=0.05):
                pytest.fail("it can never get in")


async def test_a_strict_block_is_stopped_when_its_lease_is_revoked(client: Client) -> None:
    """It is cancelled inside and `LeaseLost` is raised there."""
    client.create_limit("db", 1)
    with pytest.raises(errors.LeaseLost, match="revoked"):
        async with concurrency("db", strict=True) as lease:
            await asyncio.to_thread(client.revoke_lease, lease.id)
            await asyncio.sleep(10)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_async_client_manages_limits(url: str) -> None:
    """Every method of `Client`, awaited."""
    async with AsyncClient(url) as client:
        assert (await client.create_limit("db", 2)).limit == 2
        assert (await client.update_limit("db", limit=3)).limit == 3
        assert (await client.put_limit("db", 4)).limit == 4
        assert [info.name for info in await client.list_limits()] == ["db"]
        async with client.concurrency("db") as lease:
            assert [info.id for info in await client.list_leases("db")] == [lease.id]
            assert (await client.read_lease(lease.id)).state == "held"
            assert await client.list_waiters() == []
        await client.delete_limit("db")
        with pytest.raises(errors.LimitNotFound):
            await client.read_limit("db")


async def test_an_event_loop_can_end_and_another_begin(url: str) -> None:
    """`asyncio.run` twice in one process, with waiters in both."""
    client = Client(url)
    client.create_limit("db", 1)

    async def contend() -> None:
        async def work() -> None:
            async with concurrency("db"):
                await asyncio.sleep(0.001)

        await asyncio.gather(*[work() for _ in range(5)])

    for _ in range(2):
        await asyncio.to_thread(asyncio.run, contend())
    assert client.read_limit("db").held_slots == 0


async def test_a_spend_that_waits_is_asked_once(client: Client) -> None:
    """Asked again after its grant, it would be a second one, for which nobody waits."""
    client.create_limit("api", 5, slot_decay_per_second=2000.0)
    begun = time.monotonic()
    await asyncio.gather(*[rate_limit("api") for _ in range(300)])
    assert client.read_limit("api").waiting == 0
    assert time.monotonic() - begun < 15  # at 2,000 a second it takes 0.15 s
    tokens = [lease.fencing_token for lease in client.list_leases("api", "ended")]
    assert len(tokens) == len(set(tokens)) == 300
