"""Who changes limits and takes leases away: noted before it is decided, looked up when it is told of.

Known limit: who does it at another server, or in a process beside this one, is not known here.
"""

import time
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from ebbgate.server.front import KEY

Way = Literal["page", "rest", "prefect", "client"]

_NOTES_MAX: Final = 256
_NOTED_SECONDS: Final = 10.0
"""For so long a note is believed: a command that was refused leaves one behind."""


class Doer(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a change, and how."""

    way: Way
    key: str = ""  # the id of the API key; "" when none is needed
    host: str = ""  # the client's own word, or else its address
    pid: int = 0


class Doers:
    """Those who have asked for a change lately, by what they want to change."""

    def __init__(self) -> None:
        """Nobody has."""
        self._notes: dict[str, tuple[Doer, float]] = {}
        self._told: set[str] = set()  # notes of what has been told of

    def note(self, target: str, doer: Doer) -> None:
        """Note who is about to change a limit, by name or id, or to end a lease, by id."""
        self._notes.pop(target, None)
        if len(self._notes) >= _NOTES_MAX:
            oldest = next(iter(self._notes))
            del self._notes[oldest]
            self._told.discard(oldest)
        self._told.discard(target)
        self._notes[target] = (doer, time.monotonic())

    def of(self, *targets: str) -> Doer | None:
        """Return who has changed what goes by one of these names just now; it is told once."""
        notes = [self._notes.get(target) for target in targets if target not in self._told]
        self._told.update(self._notes.keys() & targets)
        for note in notes:
            if note is not None and time.monotonic() - note[1] < _NOTED_SECONDS:
                return note[0]
        return None

    def of_past(self, ago_seconds: float, *targets: str) -> Doer | None:
        """Return who made the last change of what goes by one of these names, so many seconds ago."""
        changed_at = time.monotonic() - ago_seconds
        for target in targets:
            doer, noted_at = self._notes.get(target, (None, 0.0))
            if doer is not None and 0.0 <= changed_at - noted_at < _NOTED_SECONDS:
                return doer
        return None


def doer_of(scope: Mapping[str, Any], way: Way = "rest") -> Doer:
    """Return who has sent a request; what a browser says of it tells one of our pages from other programs."""
    if way == "rest" and (b"sec-fetch-site", b"same-origin") in scope["headers"]:
        way = "page"
    client = scope.get("client")
    return Doer(way=way, key=str(scope.get(KEY, "")), host=str(client[0]) if client else "")
