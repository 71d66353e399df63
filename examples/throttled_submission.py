"""Two programs submit work to pools of threads, at ten pieces a second together.

    python examples/throttled_submission.py

Whoever gets the work can take ten pieces a second, and no more than three at once, however many programs submit.
Each program wraps its `concurrent.futures` pool in a `LimitedExecutor`: `submit` returns when a piece may be
handed on, and a piece holds its slot while it runs. Every piece notes when it was handed on, begun and done.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ebbgate import Client
from ebbgate.integrations.executor import LimitedExecutor

PACE = "example-submissions"
ROOM = "example-workers"
RATE = 10.0  # submissions a second, for all programs together
AT_ONCE = 3
PROGRAMS = 2
PIECES = 15  # of each program
LATE_SECONDS = 0.5  # a busy machine may note that late when a piece was handed on


class Piece(NamedTuple):
    """When a piece was handed on, begun and done, by the clock that all processes of a machine share."""

    submitted: float
    begun: float
    done: float


def work() -> tuple[float, float]:
    """Be one piece of work."""
    begun = time.monotonic()
    time.sleep(0.35)
    return begun, time.monotonic()


def program() -> None:
    """Be one of the programs, and print what became of its pieces."""
    with LimitedExecutor(ThreadPoolExecutor(PIECES), ROOM, rate_limit=PACE) as pool:
        futures = [(pool.submit(work), time.monotonic()) for _ in range(PIECES)]
    for future, submitted in futures:
        print(submitted, *future.result())


def pieces_of_all() -> list[Piece]:
    """Run the programs at once."""
    command = [sys.executable, __file__, "program"]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROGRAMS)]
    outputs = [process.communicate()[0] for process in programs]
    return [Piece(*map(float, line.split())) for output in outputs for line in output.splitlines()]


def most_within(moments: list[float], window: float) -> int:
    """Return how many of these moments fall into one window, at most."""
    ordered = sorted(moments)
    return max(sum(begin <= moment < begin + window for moment in ordered) for begin in ordered)


def most_at_once(pieces: list[Piece]) -> int:
    """Walk through all notes in order of time and count what runs; what is done goes before what begins."""
    events = [(piece.begun, +1) for piece in pieces] + [(piece.done, -1) for piece in pieces]
    running = highest = 0
    for _, change in sorted(events):
        running += change
        highest = max(highest, running)
    return highest


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as client:
            client.put_limit(PACE, 1, slot_decay_per_second=RATE)
            client.put_limit(ROOM, AT_ONCE)
            pieces = pieces_of_all()
            held = client.read_limit(ROOM).held_slots
            client.delete_limit(PACE)
            client.delete_limit(ROOM)

    submitted = [piece.submitted for piece in pieces]
    seconds = max(submitted) - min(submitted)
    allowed = 1 + RATE * (1 + LATE_SECONDS) + 1
    most, running = most_within(submitted, 1.0), most_at_once(pieces)
    print(f"{len(pieces)} pieces of {PROGRAMS} programs, handed on within {seconds:.1f} s")
    print(
        f"  the rate alone takes {(len(pieces) - 1) / RATE:.1f} s; in no second were there more than {most}"
    )
    print(f"  at most {running} ran at once, limit {AT_ONCE}")
    print(f"{held} slots still held at the end")
    proven = (
        len(pieces) == PROGRAMS * PIECES
        and seconds >= (len(pieces) - 1) / RATE - LATE_SECONDS
        and most <= allowed
        and 0 < running <= AT_ONCE
        and held == 0
    )
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["program"]:
        program()
    else:
        sys.exit(main())
