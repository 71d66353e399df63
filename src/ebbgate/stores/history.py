"""What people may still see of leases that are over: read out of a store's log, never used by a decision."""

from collections.abc import Iterable, Sequence
from typing import Final

from ebbgate.core.model import Lease, Session
from ebbgate.stores.base import Past, Row
from ebbgate.stores.codec import decode

LOG_MAX: Final = 10_000
"""How many commits a store's log keeps."""


class EndedLeases:
    """Collects the leases that ended and did not come back, from commits that are shown newest first."""

    def __init__(self, limit: int) -> None:
        """Collect `limit` at most."""
        self.found: list[Past] = []
        self._limit = limit
        self._seen: set[str] = set()
        self._sessions: dict[str, Session] = {}

    def look(self, rows: Sequence[Row]) -> bool:
        """Look through the rows of the next older commit; False: there are enough."""
        for row in reversed(rows):
            if len(self.found) >= self._limit:
                return False
            if row.kind not in {"lease", "session"} or row.body is None or row.id in self._seen:
                continue
            self._seen.add(row.id)
            record = decode([row])[0].record
            if isinstance(record, Session):
                self._sessions[record.id] = record
            elif isinstance(record, Lease) and record.state == "ended":
                self.found.append(Past(record, self._sessions.get(record.session)))
        return len(self.found) < self._limit


def ended_leases(commits: Iterable[Sequence[Row]], limit: int) -> list[Past]:
    """Return at most `limit` leases that ended and did not come back, the newest first.

    Args:
        commits: the rows of each commit, the newest commit first.
        limit: how many.
    """
    ended = EndedLeases(limit)
    for rows in commits:
        if not ended.look(rows):
            break
    return ended.found
