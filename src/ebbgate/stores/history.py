"""What people may still see of leases that are over: read out of a store's log, never used by a decision."""

from collections.abc import Iterable, Sequence
from typing import Final

from ebbgate.core.model import Lease, Session
from ebbgate.stores.base import Past, Row
from ebbgate.stores.codec import decode

LOG_MAX: Final = 10_000
"""How many commits a store's log keeps."""


def ended_leases(commits: Iterable[Sequence[Row]], limit: int) -> list[Past]:
    """Return at most `limit` leases that ended and did not come back, the newest first.

    Args:
        commits: the rows of each commit, the newest commit first.
        limit: how many.
    """
    seen: set[str] = set()
    ended: list[Past] = []
    sessions: dict[str, Session] = {}
    for rows in commits:
        for row in reversed(rows):
            if len(ended) >= limit:
                return ended
            if row.kind not in {"lease", "session"} or row.body is None or row.id in seen:
                continue
            seen.add(row.id)
            record = decode([row])[0].record
            if isinstance(record, Session):
                sessions[record.id] = record
            elif isinstance(record, Lease) and record.state == "ended":
                ended.append(Past(record, sessions.get(record.session)))
    return ended
