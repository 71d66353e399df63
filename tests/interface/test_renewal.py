"""Leases are kept alive in the background, and their loss is told."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from ebbgate import Client, errors
from ebbgate.asyncio import concurrency as async_concurrency
from ebbgate.sync import concurrency
from tests.interface.helpers import wait_until

BRIEF = 4.5
"""Seconds a lease lasts here: it is renewed every third of it, so a machine may stand still for the rest."""


def test_a_lease_is_renewed_for_as_long_as_its_block_runs(client: Client) -> None:
    """Again and again, while somebody waits for it."""
    client.create_limit("db", 1)
    waiting = threading.Thread(target=_enter_and_leave)
    with concurrency("db", lease_duration=BRIEF) as lease:
        waiting.start()
        for _ in range(2):
            before = lease.expires_at
            wait_until(lambda before=before: lease.expires_at > before)  # type: ignore[misc]
        assert not lease.lost
        assert client.read_limit("db").waiting == 1
    waiting.join(10)
    assert client.read_limit("db").held_slots == 0


def _enter_and_leave() -> None:
    with concurrency("db"):
        pass


@pytest.mark.asyncio
async def test_a_blocked_event_loop_loses_no_lease(client: Client) -> None:
    """The renewer has a thread of its own."""
    client.create_limit("db", 1)
    async with async_concurrency("db", lease_duration=BRIEF) as lease:
        first = lease.expires_at
        wait_until(lambda: lease.expires_at > first)  # the loop is blocked meanwhile
        assert not lease.lost


def test_many_leases_are_renewed_in_few_commits(client: Client, commits: Callable[[], int]) -> None:
    """One batch a process, not one commit a lease."""
    client.create_limit("db", 100)
    blocks = [concurrency("db", lease_duration=3) for _ in range(50)]
    leases = [block.__enter__() for block in blocks]
    before = [lease.expires_at for lease in leases]
    earlier = commits()
    wait_until(lambda: all(lease.expires_at > first for lease, first in zip(leases, before, strict=True)))
    assert commits() - earlier < 10
    for block in blocks:
        block.__exit__(None, None, None)


def test_a_lost_lease_warns_and_the_block_goes_on(client: Client) -> None:
    """The default: the body's result is kept."""
    client.create_limit("db", 1)
    warned: list[str] = []
    with pytest.warns(errors.LeaseLostWarning) as caught, concurrency("db") as lease:
        client.revoke_lease(lease.id)
        wait_until(lambda: bool(caught.list))
        warned.append(str(caught.list[0].message))
    assert "revoked" in warned[0]


def test_a_strict_block_raises_on_leaving_after_a_loss(client: Client) -> None:
    """Sync code sees `lost` at once, and `LeaseLost` at the end."""
    client.create_limit("db", 1)
    done = False
    with pytest.raises(errors.LeaseLost), concurrency("db", strict=True) as lease:
        client.revoke_lease(lease.id)
        wait_until(lambda: lease.lost)
        done = True
    assert done


def test_a_strict_block_does_not_hide_the_bodys_own_exception(client: Client) -> None:
    """What the body raised is what comes out."""
    client.create_limit("db", 1)
    with pytest.raises(ZeroDivisionError), concurrency("db", strict=True) as lease:
        client.revoke_lease(lease.id)
        wait_until(lambda: lease.lost)
        raise ZeroDivisionError


@pytest.mark.asyncio
async def test_a_cancellation_from_outside_wins_over_a_loss(client: Client) -> None:
    """Whoever cancels a strict task gets it cancelled."""
    client.create_limit("db", 1)
    entered = asyncio.Event()

    async def work() -> None:
        async with async_concurrency("db", strict=True):
            entered.set()
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.read_limit("db").held_slots == 0


def test_leaving_a_block_takes_no_renewal_with_it(client: Client) -> None:
    """A lease whose block was left is never renewed."""
    client.create_limit("db", 1)
    with concurrency("db", lease_duration=0.6) as lease:
        pass
    expires_at = lease.expires_at
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 0.6)  # it would be renewed after a third of this
    assert lease.expires_at == expires_at
    assert client.read_limit("db").held_slots == 0
