"""Leases are kept alive in the background, and their loss is told."""

import asyncio
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from ebbgate import Client, errors
from ebbgate.asyncio import concurrency as async_concurrency
from ebbgate.sync import Lease, concurrency
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


def test_a_hook_for_warnings_that_fails_stops_no_renewal(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client.create_limit("db", 2)
    failed = threading.Event()

    def show(*_: object) -> None:
        failed.set()
        raise OSError("there is no stderr")

    with warnings.catch_warnings():
        warnings.simplefilter("always", errors.LeaseLostWarning)
        monkeypatch.setattr(warnings, "_showwarnmsg_impl", show)
        with concurrency("db", lease_duration=3) as kept, concurrency("db") as lease:
            first = kept.expires_at
            client.revoke_lease(lease.id)
            assert failed.wait(10)
            wait_until(lambda: kept.expires_at > first)
    assert "the renewer failed; it goes on" in caplog.text


def test_without_a_thread_to_renew_it_no_lease_is_given_until_there_is_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_limit("db", 1)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "ebbgate-renewer":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(errors.StoreUnavailable, match="thread"):
        concurrency("db").__enter__()
    assert client.read_limit("db").held_slots == 0
    monkeypatch.setattr(threading.Thread, "start", start)
    with concurrency("db", lease_duration=BRIEF) as lease:
        first = lease.expires_at
        wait_until(lambda: lease.expires_at > first)


def test_a_lease_that_begins_while_the_next_renewal_is_planned_is_renewed_in_time(client: Client) -> None:
    client.create_limit("db", 2)
    first, second = concurrency("db", lease_duration=BRIEF), concurrency("db", lease_duration=BRIEF)
    begun: list[Lease] = []
    upkeep: Any = client.gate.renewer._upkeep
    plan = upkeep.next_us

    def aside(act: Callable[[], object]) -> None:
        thread = threading.Thread(target=act)
        thread.start()
        thread.join(10)

    def plan_while_they_change(now_us: int) -> int:
        upkeep.next_us = plan
        aside(lambda: first.__exit__(None, None, None))
        planned_us: int = plan(now_us)
        aside(lambda: begun.append(second.__enter__()))
        return planned_us

    first.__enter__()
    wait_until(lambda: client.gate.renewer._planned_us > 0)
    upkeep.next_us = plan_while_they_change
    wait_until(lambda: bool(begun))
    (lease,) = begun
    before = lease.expires_at
    wait_until(lambda: lease.lost or lease.expires_at > before)
    assert not lease.lost
    second.__exit__(None, None, None)
