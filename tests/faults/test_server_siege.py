"""Eight client processes at a server that is killed every few seconds: what they saw breaks no promise."""

import os
import random
import time
from pathlib import Path

import pytest

from ebbgate.testing import history as h
from ebbgate.testing.checker import check
from tests.client.remote.support import pass_time
from tests.faults.server_report import Report
from tests.faults.server_siege import siege_of_server
from tests.faults.siege import SECOND
from tests.faults.test_processes import with_less_room

SECONDS = float(os.environ.get("EBBGATE_FAULT_SECONDS", "7"))


def seed_of(name: str) -> int:
    """Return the seed of this run, and say how to have it again."""
    seed = int(os.environ.get("EBBGATE_FAULT_SEED") or random.SystemRandom().randrange(1 << 32))
    print(
        f"\n{name}: replay with the same chances: EBBGATE_FAULT_SEED={seed} EBBGATE_FAULT_SECONDS={SECONDS:g}"
    )
    return seed


def judge(report: Report) -> None:
    """See that no promise was broken that a history can show."""
    violations = check(report.events)
    assert not violations, "\n".join(map(str, violations[:20]))
    assert not places_lost(report.events)
    unheard = [
        event for event in report.events
        if isinstance(event, h.NotGranted) and event.why == "unavailable" and waits_for_ever(event, report.events)
    ]  # fmt: skip
    assert not unheard, unheard[:5]


def places_lost(events: list[h.AnyEvent]) -> list[str]:
    """Return the leases that were told one place in the queue, and let in from another one.

    When the store's clock steps ahead, spends that clients have not heard of are forgotten before their time.
    """
    told = {event.lease: event.arrival for event in events if isinstance(event, h.Queued)}
    if any(isinstance(event, h.ClockStepped) for event in events):
        spends = {event.lease for event in events if isinstance(event, h.Asked) and event.kind == "spend"}
        told = {lease: arrival for lease, arrival in told.items() if lease not in spends}
    return [
        f"{event.lease} of {event.client} had number {told[event.lease]}, then {event.arrival}"
        for event in events
        if isinstance(event, h.Granted) and event.lease in told and event.arrival != told[event.lease]
    ]


def waits_for_ever(event: h.NotGranted, events: list[h.AnyEvent]) -> bool:
    """Tell whether the call had no timeout."""
    asked = next(asked for asked in events if isinstance(asked, h.Asked) and asked.lease == event.lease)
    return asked.wait_us is None


def see_that_clients_come_back_soon(report: Report) -> None:
    """Within a second of the server; in the brief siege, beside which other tests run, the machine may delay some."""
    backs = report.backs()
    assert backs[len(backs) // 2] <= SECOND
    assert backs[-1] <= (SECOND if SECONDS >= 30 else 5 * SECOND)
    assert not report.never_back, report.never_back


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_no_promise_is_broken_when_the_server_is_killed_every_few_seconds(folder: Path) -> None:
    with siege_of_server(folder, seed_of("kills")) as laid:
        laid.begin()
        until = time.monotonic() + SECONDS
        laid.harass()
        while time.monotonic() < until:
            pass_time(laid.chance.uniform(1.5, 2.5 if SECONDS < 30 else 4.0))
            if laid.chance.random() < 0.75:
                laid.kill_server(laid.chance.choice([0.0, 0.0, 0.5, 1.5]))
            elif laid.chance.random() < 0.5:
                laid.drain_server()
            else:
                laid.stop_server(1.5)
        report = laid.finish()
    print(report)
    judge(report)
    assert check(with_less_room(report.events)), "the proof can fail"
    see_that_clients_come_back_soon(report)
    assert report.done["server killed"] >= SECONDS / 12
