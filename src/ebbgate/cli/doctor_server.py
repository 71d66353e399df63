"""What `ebbgate doctor` finds where limits live on a server."""

import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from ebbgate.cli.findings import Finding
from ebbgate.client.management import Management
from ebbgate.version import version

CLOCKS_APART_MAX_SECONDS: Final = 5.0
_PINGS: Final = 5


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself."""

    version: str
    round_trip_ms: float  # the median of some
    clock_ahead_seconds: float  # of the store's clock, against this machine's
    limits: int
    held: int
    waiting: int
    sessions: int
    away: int


def server_facts(client: Management) -> ServerFacts:
    """Ask the server some times, and return what it says.

    Raises:
        ServerUnavailable: nobody answers.
        NotAuthorized: the API key is missing or unknown.
    """
    trips: list[float] = []
    ahead: list[float] = []
    status = client.status()  # connects, which is no round trip
    for _ in range(_PINGS):
        sent, wall = time.perf_counter(), datetime.now(UTC)
        status = client.status()
        trips.append(time.perf_counter() - sent)
        ahead.append((status.now - wall).total_seconds() - trips[-1] / 2)
    trips.sort()
    return ServerFacts(
        version=status.version,
        round_trip_ms=round(trips[_PINGS // 2] * 1_000, 3),
        clock_ahead_seconds=round(sorted(ahead)[_PINGS // 2], 3),
        limits=status.limits,
        held=status.held,
        waiting=status.waiting,
        sessions=status.sessions,
        away=status.away,
    )


def judge_server(facts: ServerFacts) -> list[Finding]:
    """Return what a person should know of it."""
    notes = []
    if abs(facts.clock_ahead_seconds) > CLOCKS_APART_MAX_SECONDS:
        notes.append(Finding(
            "clocks_apart",
            f"the store's clock and this machine's are {abs(facts.clock_ahead_seconds):.0f} s apart: "
            "leases are right all the same, instants that people read are off by so much",
            "set this machine's clock: timedatectl status",
        ))  # fmt: skip
    if facts.version != version():
        notes.append(Finding(
            "versions_differ",
            f"the server is version {facts.version}, this is {version()}",
            "nothing, unless something is amiss; then upgrade the older one",
        ))  # fmt: skip
    return notes


def server_fields(facts: ServerFacts, *, owns_file: bool) -> list[tuple[str, str]]:
    """Return what is shown to people, as (name, text)."""
    owner = ", which owns the file: everybody decides through it" if owns_file else ""
    away = f", {facts.away} of them away" if facts.away else ""
    return [
        ("server", f"version {facts.version}{owner}"),
        ("round trip", f"{facts.round_trip_ms:.1f} ms"),
        ("limits", str(facts.limits)),
        ("leases", f"{facts.held} held, {facts.waiting} waiting"),
        ("clients", f"{facts.sessions}{away}"),
    ]
