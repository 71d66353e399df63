"""Run simulated worlds: `python -m ebbgate.testing.simulate --seed 4711 --steps 2000`, or `make simulate`.

A seed may carry the version it belongs to, as in `4711@0.1.0-1f3a9c20`, which is how a failure prints it: the
same seed is another world in another version, so that one is refused rather than replayed as something else.
"""

import argparse
import hashlib
import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Final, NamedTuple

import ebbgate
from ebbgate.testing.simulated.run import Result, Run

REPORT_SECONDS: Final = 10.0
SHOWN_LENGTH: Final = 300


class Summary(NamedTuple):
    """What is told of one run; small, so that it travels between processes."""

    seed: int
    steps: int
    asked_steps: int
    virtual_seconds: float
    events: int
    faults: dict[str, int]
    failures: list[str]
    shown: list[str]


def version() -> str:
    """Return what a seed belongs to: the version of the package, and a mark of its exact source."""
    folder = Path(ebbgate.__file__).parent
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{ebbgate.__version__}-{digest.hexdigest()}"


def seed_of(text: str) -> int:
    """Return the seed that `text` names.

    Raises:
        ValueError: it is no seed, or one of another version.
    """
    number, _, belongs_to = text.partition("@")
    if not number.isascii() or not number.isdigit():
        raise ValueError(f"a seed is a whole number, perhaps with @VERSION behind it, got {text!r}")
    if belongs_to and belongs_to != version():
        raise ValueError(
            f"seed {number} belongs to version {belongs_to}, this is {version()}: the same seed would be "
            f"another world. Check that version out, or leave the version away to run seed {number} here"
        )
    return int(number)


def run(seed: int, steps: int) -> Summary:
    """Run one world."""
    result: Result = Run(seed).run(steps)
    return Summary(
        seed,
        result.steps,
        steps,
        result.virtual_us / 1e6,
        len(result.history),
        result.faults,
        result.failures,
        result.shown,
    )


def failure_text(summary: Summary) -> str:
    """Return what is printed of a failure: what was broken, the last steps, and how to replay it."""
    shown = [line if len(line) <= SHOWN_LENGTH else f"{line[:SHOWN_LENGTH]}..." for line in summary.shown]
    return "\n".join(
        [
            f"seed {summary.seed} failed after {summary.steps} steps:",
            *(f"  {failure}" for failure in summary.failures[:20]),
            f"the last {len(shown)} steps:",
            *shown,
            f"version: {version()}",
            f"replay: make simulate SEED={summary.seed}@{version()} STEPS={summary.asked_steps}",
        ]
    )


def main(arguments: Iterable[str] | None = None) -> int:
    """Run what the command line asks for; 0: every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m ebbgate.testing.simulate", description=__doc__)
    parser.add_argument("--seed", default="1", help="a number, or number@version")
    parser.add_argument("--steps", type=int, default=2_000, help="per seed, before everything is given back")
    parser.add_argument(
        "--seeds", type=int, default=1, help="how many seeds, from --seed on; 0: until stopped"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        first = seed_of(options.seed)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.seeds == 1:
        return _one(run(first, options.steps))
    seeds: Iterator[int] = itertools.count(first)
    if options.seeds:
        seeds = itertools.islice(seeds, options.seeds)
    return _many(seeds, options.steps, options.jobs)


def _one(summary: Summary) -> int:
    if summary.failures:
        print(failure_text(summary))
        return 1
    faults = ", ".join(f"{count} {what}" for what, count in sorted(summary.faults.items()))
    print(
        f"seed {summary.seed}: {summary.steps} steps, {summary.virtual_seconds:.0f} s of virtual time, "
        f"{summary.events} events seen by clients, every promise kept\nfaults: {faults or 'none'}"
    )
    return 0


class _Tally:
    """What many runs came to so far."""

    def __init__(self) -> None:
        self.began = self.told = time.monotonic()
        self.seeds = self.steps = self.failed = 0
        self.faults: Counter[str] = Counter()

    def add(self, summary: Summary) -> None:
        self.seeds += 1
        self.steps += summary.steps
        self.faults.update(summary.faults)
        if summary.failures:
            self.failed += 1
            print(failure_text(summary), flush=True)

    def line(self) -> str:
        minutes = (time.monotonic() - self.began) / 60
        return (
            f"{self.seeds} seeds, {self.steps:,} steps, {self.faults.total():,} faults, {self.failed} failed; "
            f"a minute: {self.seeds / minutes:,.0f} seeds, {self.steps / minutes:,.0f} steps, "
            f"{self.faults.total() / minutes:,.0f} faults"
        )

    def report(self) -> None:
        if time.monotonic() - self.told > REPORT_SECONDS:
            self.told = time.monotonic()
            print(self.line(), flush=True)


def _leave_stopping_to_the_parent() -> None:
    """Ctrl-C goes to the whole group of processes; one of them answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _many(seeds: Iterator[int], steps: int, jobs: int) -> int:
    tally = _Tally()
    try:
        with ProcessPoolExecutor(jobs, initializer=_leave_stopping_to_the_parent) as pool:
            try:
                running = {pool.submit(run, seed, steps) for seed in itertools.islice(seeds, 2 * jobs)}
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        tally.add(future.result())
                    running |= {pool.submit(run, seed, steps) for seed in itertools.islice(seeds, len(done))}
                    tally.report()
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
    except KeyboardInterrupt:
        pass
    print(tally.line())
    for what, number in tally.faults.most_common():
        print(f"  {number:8,} {what}")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
