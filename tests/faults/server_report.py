"""What happened in a siege of a server, in numbers."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from ebbgate.testing import history as h
from tests.faults.server_worker import PULSE
from tests.faults.siege import SECOND

SETTLED_US = 50_000  # so long after a kill of the server its last answers may still arrive


@dataclass(slots=True)
class Trouble:
    """A time in which the server did not serve."""

    what: str
    from_us: int
    ready_us: int


@dataclass(slots=True)
class Report:
    """What happened."""

    seed: int = 0
    events: list[h.AnyEvent] = field(default_factory=list)
    seconds: float = 0.0
    troubles: list[Trouble] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)  # faults, by their kind
    back_us: dict[str, list[int]] = field(default_factory=lambda: {"direct": [], "proxied": []})
    never_back: list[str] = field(default_factory=list)
    drained_us: list[int] = field(default_factory=list)

    def backs(self) -> list[int]:
        """Return how long after the server was ready each client was served, the soonest first."""
        return sorted(self.back_us["direct"] + self.back_us["proxied"])

    def __str__(self) -> str:
        kinds = Counter(type(event).__name__ for event in self.events)
        refused = Counter(event.why for event in self.events if isinstance(event, h.NotGranted))
        lost = Counter(event.why for event in self.events if isinstance(event, h.LossNoticed))
        downs = sorted((trouble.ready_us - trouble.from_us) / 1000 for trouble in self.troubles)
        down = f", server away for {downs[0]:.0f}-{downs[-1]:.0f} ms" if downs else ""
        backs = "; ".join(
            f"back ({kind}) {quantiles(found)}" for kind, found in self.back_us.items() if found
        )
        drained = f"; drained in {quantiles(self.drained_us)}" if self.drained_us else ""
        return (
            f"seed {self.seed}: {self.seconds:.0f} s, {len(self.events)} events, {kinds['Granted']} grants "
            f"({kinds['Granted'] / max(self.seconds, 1):.0f}/s), {kinds['Renewed']} renewals, "
            f"{kinds['Queued']} waited; {dict(self.done)}{down}; {kinds['ChangeDone']} changes, "
            f"{kinds['RevokeCalled']} revoked; not granted: {dict(refused)}; lost: {dict(lost)}; {backs}{drained}"
        )


def quantiles(found: Sequence[int]) -> str:
    """Return a distribution of microseconds in one line."""
    ordered = sorted(found)
    last = len(ordered) - 1
    p50, p99 = (ordered[round(last * share)] / 1000 for share in (0.5, 0.99))
    return f"n={len(ordered)} p50 {p50:.0f} ms p99 {p99:.0f} ms max {ordered[-1] / 1000:.0f} ms"


def measure_backs(report: Report, cuts: Iterable[tuple[str, int]], proxied: Container[int]) -> None:
    """Find out how soon after the server was ready each client was served again that nothing else hindered.

    Args:
        report: gets it.
        cuts: whose connections were cut, and when.
        proxied: the numbers of the clients behind a proxy.
    """
    served: dict[str, list[int]] = defaultdict(list)
    pulses = {event.lease for event in report.events if isinstance(event, h.Asked) and PULSE in event.slots}
    began: dict[str, int] = {}
    hindered: dict[str, list[tuple[int, int]]] = defaultdict(list)
    open_: dict[tuple[str, str], int] = {}
    for event in report.events:
        match event:
            case h.Granted() if event.lease in pulses:
                served[event.client].append(event.when_us)
            case h.Started():
                began[event.client] = event.when_us
            case h.Killed():
                hindered[event.client].append((event.when_us, 1 << 62))
            case h.Stopped():
                open_[event.client, ""] = event.when_us
            case h.TroubleBegan(what=what):
                open_[event.client, what] = event.when_us
            case h.Continued():
                hindered[event.client].append((open_.pop((event.client, "")), event.when_us))
            case h.TroubleEnded(what=what):
                hindered[event.client].append((open_.pop((event.client, what)), event.when_us))
            case _:
                pass
    for client, when_us in cuts:
        hindered[client].append((when_us, when_us))
    troubles = [trouble for trouble in report.troubles if trouble.what != "stopped"]
    for place, trouble in enumerate(troubles):
        next_us = troubles[place + 1].from_us if place + 1 < len(troubles) else report.events[-1].when_us
        for client, instants in served.items():
            if began[client] >= trouble.from_us - SECOND or not instants[0] < trouble.from_us:
                continue  # it began just then
            found = bisect_left(instants, trouble.from_us + SETTLED_US)
            back_us = instants[found] if found < len(instants) else next_us + 1
            if any(from_us <= back_us and to_us >= trouble.ready_us for from_us, to_us in hindered[client]):
                continue
            if back_us > next_us:
                if next_us - trouble.ready_us > 2 * SECOND:
                    report.never_back.append(f"{client} at {trouble}")
                continue
            kind = "proxied" if int(client[1:].partition(".")[0]) in proxied else "direct"
            report.back_us[kind].append(max(back_us - trouble.ready_us, 0))
