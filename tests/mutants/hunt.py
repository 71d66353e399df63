"""Looks for a planted bug, seed by seed, until the simulation or its history checker catches it.

    python -m tests.mutants.hunt                 every mutant, with everything that watches: a table
    python -O -m tests.mutants.hunt --alone      every mutant, with the history checker alone
    python -m tests.mutants.hunt barging ...     only these

Alone means: the assertions of the core and the engine are off (that is what -O does), so are the checks after
every step; a process that fails is not held against the mutant. Only a law of `check`, broken by what clients
saw, counts.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

import pytest

from ebbgate.core.commands import Command
from ebbgate.engine.engine import Engine
from ebbgate.testing import invariants
from ebbgate.testing.checker import check
from ebbgate.testing.simulated import world as simulated
from ebbgate.testing.simulated.run import Run
from tests.mutants.mutants import MUTANTS, Mutant
from tests.mutants.planting import planted
from tests.mutants.worlds import WORLDS


class Caught(NamedTuple):
    """How a bug was caught."""

    mutant: str
    by: str  # the law of the history checker, or what an assertion said; "": it was not caught
    laws: tuple[str, ...]  # all laws that were seen broken
    seed: int
    seeds: int  # how many it took
    steps: int  # of the last one
    seconds: float


def hunt(mutant: Mutant, *, alone: bool = False) -> Caught:
    """Run one seed after the other with the bug planted until it is caught."""
    begun = time.perf_counter()
    steps = 0
    for tried, seed in enumerate(mutant.seeds, start=1):
        with planted(mutant.edits), watched(alone):
            by, laws, steps = judge(WORLDS[mutant.world](seed), mutant.steps, alone=alone)
        if by:
            return Caught(mutant.name, by, laws, seed, tried, steps, time.perf_counter() - begun)
    return Caught(mutant.name, "", (), -1, len(mutant.seeds), steps, time.perf_counter() - begun)


def judge(run: Run, steps: int, *, alone: bool = False) -> tuple[str, tuple[str, ...], int]:
    """Run a world; return what is wrong with it first, all laws that are broken, and the steps it took."""
    try:
        result = run.run(steps)
        laws = tuple(dict.fromkeys(violation.law for violation in check(result.history)))
    except ValueError as error:  # events that contradict each other
        return "" if alone else f"history: {error}", (), run.world.kernel.steps
    failed = next((text for text in result.failures if text.startswith("Traceback")), "")
    if failed and not alone:
        return failed.strip().splitlines()[-1], laws, result.steps
    return (f"law {laws[0]}" if laws else ""), laws, result.steps


@contextmanager
def watched(alone: bool) -> Iterator[None]:
    """With `alone`, check nothing after a step; else have no assertion of the core pass as a refused command."""
    with pytest.MonkeyPatch.context() as patch:
        if not alone:
            patch.setattr(Engine, "_decide_one_by_one", _fail)
            yield
            return
        patch.setattr(invariants, "check", lambda *_arguments: None)
        patch.setattr(simulated, "_check_equal", lambda *_arguments: None)
        yield


def _fail(_engine: Engine, _commands: Sequence[Command], _now_us: int) -> NoReturn:
    raise  # noqa: PLE0704 - what the book has just failed with


def shown(caught: Caught) -> str:
    """Return one line of the table."""
    by = caught.by or "SURVIVES"
    extra = f" (also {', '.join(caught.laws[1:])})" if len(caught.laws) > 1 and by.startswith("law") else ""
    return (
        f"{caught.mutant:44} {caught.seed:5} {caught.seeds:5} {caught.steps:7} {caught.seconds:6.1f}  "
        f"{by[:110]}{extra}"
    )


def main() -> int:
    """Print the table, or one JSON line a mutant; fail when one survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*")
    parser.add_argument(
        "--alone", action="store_true", help="with the history checker alone; needs python -O"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.alone and __debug__:
        parser.error("--alone: assertions are on; use python -O")
    wanted = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if options.names and len(wanted) != len(options.names):
        parser.error(f"known are: {', '.join(mutant.name for mutant in MUTANTS)}")
    survivors = 0
    if not options.json:
        print(f"{'mutant':44} {'seed':>5} {'seeds':>5} {'steps':>7} {'s':>6}  caught by")
    for mutant in wanted:
        if options.alone and not mutant.laws:
            continue
        try:
            caught = hunt(mutant, alone=options.alone)
        except Exception:
            traceback.print_exc()
            return 2
        survivors += not caught.by
        print(json.dumps(caught) if options.json else shown(caught), flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
