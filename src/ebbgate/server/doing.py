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

    def note(self, target: str, doer: Doer) -> None:
        """Note who is about to change a limit, by name or id, or to end a lease, by id."""
        if len(self._notes) >= _NOTES_MAX:
            del self._notes[next(iter(self._notes))]
        self._notes[target] = (doer, time.monotonic())

    def of(self, *targets: str) -> Doer | None:
        """Return who has changed what goes by one of these names, and forget the note."""
        notes = [self._notes.pop(target, None) for target in targets]
        for note in notes:
            if note is not None and time.monotonic() - note[1] < _NOTED_SECONDS:
                return note[0]
        return None


def doer_of(scope: Mapping[str, Any], way: Way = "rest") -> Doer:
    """Return who has sent a request; what a browser says of it tells one of our pages from other programs."""
    if way == "rest" and (b"sec-fetch-site", b"same-origin") in scope["headers"]:
        way = "page"
    client = scope.get("client")
    return Doer(way=way, key=str(scope.get(KEY, "")), host=str(client[0]) if client else "")
