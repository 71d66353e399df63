"""Eight processes on one file, killed and stopped at any moment: what they saw breaks no promise."""

import os
import random
from pathlib import Path

import msgspec
import pytest

from ebbgate.testing import history as h
from ebbgate.testing.checker import check
from tests.faults.siege import siege

SECONDS = float(os.environ.get("EBBGATE_FAULT_SECONDS", "12"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 150)
def test_no_promise_is_broken_by_kills_and_stops(folder: Path) -> None:
    seed = int(os.environ.get("EBBGATE_FAULT_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"replay with the same chances: EBBGATE_FAULT_SEED={seed} EBBGATE_FAULT_SECONDS={SECONDS:g}")
    with siege(folder, seed, workers=8) as laid:
        report = laid.run(SECONDS)
    print(report)
    violations = check(report.events)
    assert not violations, "\n".join(map(str, violations[:20]))
    assert check(with_less_room(report.events)), "the proof can fail"
    assert report.kills > SECONDS / 4
    assert report.stops > SECONDS / 2
    assert report.handed_over_us, "slots of killed processes passed on"


def with_less_room(events: list[h.AnyEvent]) -> list[h.AnyEvent]:
    """Return the history of a world in which one limit had one slot less than it was treated to."""
    return [
        msgspec.structs.replace(event, limit=2)
        if isinstance(event, h.ChangeCalled) and event.which == "plain"
        else event
        for event in events
    ]
