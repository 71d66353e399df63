"""Nobody is expired for time in which nobody could renew: a server that was stopped, a clock that ran ahead."""

import signal
import threading

import pytest

from ebbgate.core.model import SECOND
from ebbgate.wire.stream import EndedItem, HeldItem, HurryItem, WaitingItem
from tests.server.conftest import Launch, Serve, Talk
from tests.server.streaming import Core


def test_a_server_that_was_stopped_expires_nothing_before_everybody_could_renew(
    launch: Launch, talk: Talk
) -> None:
    server = launch(recovery_grace_seconds=2.5)
    holder, waiter = talk(server.port, "holder"), talk(server.port, "waiter")
    renewer = talk(server.port, "holder", role="renewer")
    holder.limit()
    lease = holder.held(duration_us=3 * SECOND // 2).id
    assert isinstance(waiter.acquire(), WaitingItem)
    server.process.send_signal(signal.SIGSTOP)
    threading.Event().wait(2.0)  # longer than the lease
    server.process.send_signal(signal.SIGCONT)
    for line in (holder, renewer):
        line.push(HurryItem)
    assert isinstance(renewer.renew(lease, duration_us=SECOND // 20), HeldItem)
    granted = waiter.push(HeldItem)  # when the grace is over, for nobody renewed it again
    ended = holder.push(EndedItem)
    assert (ended.id, ended.why) == (lease, "expired")
    assert granted.at_us >= ended.at_us


def test_a_clock_that_runs_ahead_expires_nothing_before_everybody_could_renew(
    serve: Serve, talk: Talk
) -> None:
    server = serve(recovery_grace_seconds=2.0)
    holder, waiter = talk(server.port, "holder"), talk(server.port, "waiter")
    holder.limit()
    lease = holder.held().id
    assert isinstance(waiter.acquire(), WaitingItem)

    def run_ahead(core: Core) -> int:
        store, clock = core.decider.store, core.decider.store.clock
        store.clock = lambda: clock() + 3600 * SECOND  # type: ignore[method-assign]
        return store.clock()

    ahead_us = server.within(run_ahead)
    for line in (holder, waiter):
        line.push(HurryItem)
    with pytest.raises(TimeoutError):
        waiter.receive(0.05)
    renewed = holder.renew(lease)
    assert isinstance(renewed, HeldItem)
    assert renewed.expires_us > ahead_us
    with pytest.raises(TimeoutError):
        waiter.receive(2.2)  # longer than the grace


def test_a_clock_that_runs_ahead_while_a_decision_begins_expires_nothing_either(
    serve: Serve, talk: Talk
) -> None:
    server = serve(recovery_grace_seconds=2.0)
    holder, other = talk(server.port, "holder"), talk(server.port, "other")
    holder.limit()
    lease = holder.held().id

    def run_ahead_at_the_next_decision(core: Core) -> None:
        store, clock, try_lock = core.decider.store, core.decider.store.clock, core.decider.store.try_lock

        def locked() -> bool:
            store.clock = lambda: clock() + 3600 * SECOND  # type: ignore[method-assign]
            store.try_lock = try_lock  # type: ignore[method-assign]
            return try_lock()

        store.try_lock = locked  # type: ignore[method-assign]

    server.within(run_ahead_at_the_next_decision)
    assert isinstance(other.acquire(), WaitingItem)
    holder.push(HurryItem)
    assert isinstance(holder.renew(lease), HeldItem)
    with pytest.raises(TimeoutError):
        other.receive(2.2)  # longer than the grace


def test_a_lease_that_nobody_renews_expires_when_its_countdown_ends(serve: Serve, talk: Talk) -> None:
    server = serve()
    holder, waiter = talk(server.port, "holder"), talk(server.port, "waiter")
    holder.limit()
    held = holder.held(duration_us=SECOND // 5)
    assert isinstance(waiter.acquire(), WaitingItem)
    granted = waiter.push(HeldItem)
    assert granted.at_us >= held.expires_us
    assert holder.push(EndedItem).why == "expired"
