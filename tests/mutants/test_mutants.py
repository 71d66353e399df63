"""The proof can fail: bugs that are planted are caught, by the simulation and by the history checker alone.

`make mutants` prints how: by which law, at which seed, after how many.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.hunt import hunt, judge, watched
from tests.mutants.mutants import MAIN, MUTANTS, Mutant
from tests.mutants.worlds import WORLDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS])
def test_a_planted_bug_is_caught_in_a_world_that_passes_without_it(mutant: Mutant) -> None:
    caught = hunt(mutant)
    assert caught.by, f"survives {caught.seeds} seeds: {mutant.breaks}"
    with watched(alone=False):
        by, laws, _ = judge(WORLDS[mutant.world](caught.seed), mutant.steps)
    assert (by, laws) == ("", ())


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MAIN])
def test_the_history_checker_alone_catches_it_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    """Without a single assertion, nor any look at a book: from what clients saw."""
    command = [sys.executable, "-O", "-m", "tests.mutants.hunt", "--alone", "--json", mutant.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=100)
    assert not done.returncode, done.stdout.decode() + done.stderr.decode()
    _, _, laws, *_ = json.loads(done.stdout)
    assert mutant.laws.intersection(laws), f"caught by {laws}, not by {sorted(mutant.laws)}"


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_in_which_bugs_are_looked_for_passes_without_one(world: str) -> None:
    with watched(alone=False):
        for seed in range(4):
            by, laws, _ = judge(WORLDS[world](seed), 3_000)
            assert (by, laws) == ("", ()), f"seed {seed}"
