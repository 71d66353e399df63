"""What the workers of `ebbgate demo` noted, and what follows from it: no process, no store, no clock."""

from collections.abc import Sequence
from typing import Final, NamedTuple

SECOND_NS: Final = 1_000_000_000

APART_NS: Final = 250_000_000
"""Asked so far apart by the workers' own clocks, two asked in that order; nearer, the store's count tells."""


class Visit(NamedTuple):
    """Slots that a worker held, from `entered_ns`, noted inside, to `left_ns`, noted before it left."""

    worker: int
    slots: int
    asked_ns: int
    entered_ns: int
    left_ns: int
    token: int
    arrival: int
    killed: bool = False  # at `left_ns`


class Down(NamedTuple):
    """When the server was killed, and when it served again."""

    killed_ns: int
    back_ns: int


class Finding(NamedTuple):
    """One thing to be proven, and whether it is."""

    what: str
    seen: str
    proven: bool


def inside(visits: Sequence[Visit]) -> list[tuple[int, int]]:
    """Return when the number of slots in use changed, and that number; leaving goes before entering."""
    changes = [(visit.entered_ns, visit.slots) for visit in visits]
    changes += [(visit.left_ns, -visit.slots) for visit in visits]
    steps: list[tuple[int, int]] = []
    slots = 0
    for at_ns, change in sorted(changes):
        slots += change
        steps.append((at_ns, slots))
    return steps


def never_too_many(visits: Sequence[Visit], limit: int) -> Finding:
    """The highest number of slots in use is the limit, never more."""
    highest = max((slots for _, slots in inside(visits)), default=0)
    return Finding(
        "never too many", f"at most {highest} slots in use at once, limit {limit}", highest == limit
    )


def passed_on(visits: Sequence[Visit], limit: int) -> Finding:
    """The slots of the killed worker are in use by others soon after."""
    what = "nothing leaks"
    dead = next((visit for visit in visits if visit.killed), None)
    if dead is None:
        return Finding(what, "no worker was killed while it held slots", proven=False)
    left = limit - dead.slots  # until its slots pass on, the living have only these
    living = [visit for visit in visits if not visit.killed]
    again_ns = next((at for at, slots in inside(living) if at > dead.left_ns and slots > left), None)
    if again_ns is None:
        return Finding(what, f"the killed worker's {dead.slots} slots were never used again", proven=False)
    after_ms = (again_ns - dead.left_ns) / 1e6
    seen = f"the killed worker's {dead.slots} slots passed on after {after_ms:.0f} ms"
    return Finding(what, seen, proven=after_ms < 5_000)


def in_order(visits: Sequence[Visit], down: Down | None = None) -> Finding:
    """Grants come in the order of asking; counted are those after one that was asked later.

    Who asked while the server was `down` stood in line when it was heard: there only the store's count tells.
    """
    overtaken = last_arrival = last_asked_ns = 0
    for visit in sorted(visits, key=lambda visit: visit.token):
        overtaken += visit.arrival < last_arrival
        last_arrival = max(last_arrival, visit.arrival)
        if down is None or not down.killed_ns - APART_NS < visit.asked_ns < down.back_ns + SECOND_NS:
            overtaken += visit.asked_ns + APART_NS < last_asked_ns
            last_asked_ns = max(last_asked_ns, visit.asked_ns)
    seen = f"{len(visits)} grants, {overtaken} out of the order of asking"
    return Finding("first come, first served", seen, proven=bool(visits) and not overtaken)


def most_within(calls_ns: Sequence[int], window_ns: int) -> int:
    """Return how many calls any window of this length holds at most; `calls_ns` is sorted."""
    most = first = 0
    for index, at_ns in enumerate(calls_ns):
        while calls_ns[first] < at_ns - window_ns:
            first += 1
        most = max(most, index - first + 1)
    return most


def at_the_rate(
    calls_ns: Sequence[int], limit: int, rate: float, callers: int = 0, down: Down | None = None
) -> list[Finding]:
    """After the first burst calls come at the rate, and no window of a second holds more than allowed.

    What was lost while the server was `down` is not counted, beyond what the limit gives back in one burst. Who
    waited then is granted its call the moment the server is back, and notes it when it is back itself.
    """
    calls_ns = sorted(calls_ns)
    allowed = int(limit + rate + 0.1) + (callers if down else 0)
    most = most_within(calls_ns, SECOND_NS)
    low, high = (
        (0.9, 1.05) if down else (0.95, 1.02)
    )  # how long it was down for each of them is known roughly
    seconds = (calls_ns[-1] - calls_ns[0]) / SECOND_NS if calls_ns else 0.0
    if down is not None:
        again_ns = next((at_ns for at_ns in calls_ns if at_ns > down.back_ns), down.back_ns)
        seconds -= max((again_ns - down.killed_ns) / SECOND_NS - limit / rate, 0.0)
    seen = (len(calls_ns) - limit) / seconds if seconds else 0.0
    return [
        Finding(
            "the whole rate",
            f"{len(calls_ns)} calls: {limit} at once, then {seen:.2f} a second, limit {rate:g}",
            low * rate <= seen <= high * rate,
        ),
        Finding("and no more", f"at most {most} calls in any second, allowed {allowed}", 0 < most <= allowed),
    ]


def survives(visits: Sequence[Visit], down: Down) -> Finding:
    """Who held slots while the server was down kept them, and soon after it was back others were let in."""
    held = sum(1 for visit in visits if visit.entered_ns < down.killed_ns and visit.left_ns > down.killed_ns)
    after = [visit.entered_ns for visit in visits if visit.entered_ns > down.back_ns]
    what = "outlives the server"
    if not after:
        return Finding(what, "nobody was let in after the server was killed", proven=False)
    down_ms, after_ms = (down.back_ns - down.killed_ns) / 1e6, (min(after) - down.back_ns) / 1e6
    seen = f"killed, back after {down_ms:.0f} ms; {held} kept their slots; the next was let in {after_ms:.0f} ms later"
    return Finding(what, seen, proven=after_ms < 2_000)


def nothing_left(held: int, waiting: int, failed: int) -> Finding:
    """In the end nothing is held, nobody waits, and no worker failed but the one that was killed."""
    seen = f"{held} slots held, {waiting} waiting, {failed} workers failed"
    return Finding("clean at the end", seen, not (held or waiting or failed))
