"""Faulty worlds in which every promise is kept; one seed is one history."""

import itertools
import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from ebbgate.core.live import Live
from ebbgate.core.model import SECOND
from ebbgate.testing import history as h
from ebbgate.testing import simulate
from ebbgate.testing.simulated.plan import plan_of
from ebbgate.testing.simulated.run import Run

STEPS = 2_500
FIXED = range(60)
FRESH = 20
BATCH = 5


@pytest.mark.slow
@pytest.mark.parametrize("first", FIXED[::BATCH])
def test_every_promise_is_kept_whatever_goes_wrong(first: int) -> None:
    for seed in range(first, first + BATCH):
        summary = simulate.run(seed, STEPS)
        assert not summary.failures, simulate.failure_text(summary)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(FRESH // BATCH))
def test_every_promise_is_kept_in_worlds_never_seen_before(batch: int) -> None:
    for _ in range(BATCH):
        summary = simulate.run(random.SystemRandom().getrandbits(40), STEPS)
        assert not summary.failures, simulate.failure_text(summary)


def written(seed: int, steps: int) -> bytes:
    run = Run(seed)
    result = run.run(steps)
    assert result.steps >= steps
    return b"".join(h.line(event) for event in result.history) + repr(sorted(result.faults.items())).encode()


@pytest.mark.parametrize("seed", [2, 5, 8])
def test_one_seed_gives_one_history_byte_for_byte(seed: int) -> None:
    assert written(seed, 1_500) == written(seed, 1_500)


def test_a_history_does_not_depend_on_how_python_hashes() -> None:
    program = (
        "from tests.simulation.test_worlds import written;"
        "import hashlib; print(hashlib.sha256(written(11, 1500)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.slow
def test_everything_that_can_go_wrong_does() -> None:
    faults: Counter[str] = Counter()
    shapes = set()
    for seed in range(100, 137):
        faults.update(simulate.run(seed, 1_500).faults)
        shapes.add(plan_of(seed).shape)
    expected = {
        "request to the store lost", "answer of the store lost", "commit late, after its process gave it up",
        "conflict", "crash before a commit", "crash within a commit", "crash after a commit", "message lost",
        "message late",
        "message doubled", "message lost in a partition", "message stuck in a partition", "connection reset",
        "hint lost", "killed", "client stopped", "client parted", "server stopped", "server down", "server drained",
        "partition", "clock an hour ahead", "store down", "clock stepped", "tail lost", "limit changed in use",
        "revoked", "cancelled",
    }  # fmt: skip
    assert set(faults) == expected
    assert shapes == {"machine", "servers", "both"}


def test_a_calm_world_is_a_busy_one() -> None:
    """Without this, a world in which nobody gets anything would keep every promise."""
    calm = plan_of(1)._replace(
        shape="both", embedded=4, servers=2, remotes=3, channels=2, rests=1, callers=2, long_holds=0.05, hour_holds=0.0,
        faults_every_us=10**15, lost_request=0.0, lost_answer=0.0, crash=0.0, message_lost=0.0,
        message_late=0.0, message_doubled=0.0, hint_lost=0.0, clock_steps=False, loses_tail=False,
    )  # fmt: skip
    result = Run(1, calm).run(8_000)
    seen = Counter(type(event) for event in result.history)
    assert not result.failures
    assert seen[h.Granted] > 100
    assert seen[h.Queued] > 50
    assert seen[h.Renewed] > 0
    assert seen[h.Granted] > seen[h.Asked] // 2


@pytest.mark.slow
def test_a_tenant_that_is_held_for_an_hour_does_not_keep_others_from_a_shared_limit() -> None:
    """Waiters of both are stepped over while the tenant is held, and get in when it is free."""
    held = plan_of(1)._replace(
        shape="machine", embedded=5, servers=0, remotes=0, callers=2, tenants=1, think_us=SECOND, hold_us=2 * SECOND,
        long_holds=0.0, hour_holds=0.003, faults_every_us=10**15, lost_request=0.0, lost_answer=0.0, crash=0.0,
        clock_steps=False, loses_tail=False,
    )  # fmt: skip
    result = Run(21, held).run(8_000)
    assert not result.failures, result.failures
    asked = {e.lease: e for e in result.history if isinstance(e, h.Asked)}
    granted = {e.lease: e.when_us for e in result.history if isinstance(e, h.Granted)}
    released = {e.lease: e.when_us for e in result.history if isinstance(e, h.ReleaseCalled)}
    assert any(
        list(asked[lease].slots) == ["tenant0"] and released[lease] - at_us > 3_000 * SECOND
        for lease, at_us in granted.items()
        if lease in released
    )
    assert any(len(asked[lease].slots) == 2 for lease in granted)
    alone = [lease for lease in granted if list(asked[lease].slots) == ["shared"]]
    assert max(granted[lease] - asked[lease].when_us for lease in alone) < 60 * SECOND


def test_a_planted_bug_is_caught_and_shown_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = Live.room
    monkeypatch.setattr(Live, "room", lambda live, now_us: room(live, now_us) + 1)
    failed = (summary for seed in itertools.count() if (summary := simulate.run(seed, 1_000)).failures)
    summary = next(failed)
    text = simulate.failure_text(summary)
    replay = f"make simulate SEED={summary.seed}@{simulate.version()} STEPS=1000"
    assert text.endswith(replay)
    assert len(summary.shown) == 50
    assert simulate.run(simulate.seed_of(f"{summary.seed}@{simulate.version()}"), 1_000) == summary


def test_a_seed_of_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--seed", "7@0.0.1-00000000"]) == 2
    assert "belongs to version 0.0.1-00000000" in capsys.readouterr().err
    assert simulate.main(["--seed", "seven"]) == 2
    assert simulate.main(["--seed", f"7@{simulate.version()}", "--steps", "200"]) == 0


def test_many_seeds_run_on_several_processes_and_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--seed", "1", "--seeds", "3", "--steps", "200", "--jobs", "2"]) == 0
    assert "3 seeds" in capsys.readouterr().out
