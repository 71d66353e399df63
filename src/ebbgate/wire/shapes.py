"""The shapes in which limits and leases are shown: by Python, by `--output json`, by REST. One for each concept.

Instants are RFC 3339 UTC, durations are seconds.
"""

from datetime import datetime
from typing import Literal

import msgspec


class LimitInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A limit and what is going on at it."""

    id: str
    name: str
    limit: int  # slots
    slot_decay_per_second: float
    active: bool
    description: str
    active_slots: int  # held, and spent rounded up
    held_slots: int
    spent_slots: float  # that time has not brought back yet
    waiting: int  # leases in the queue
    created: datetime
    updated: datetime
    cool_down_until: datetime | None = None  # nobody is let in before; None: it is not cooling down
    cool_down_why: str = ""
    waiting_since: datetime | None = None  # when who waits longest asked; None: nobody waits
    granted: int = (
        0  # acquisitions that got in, since who answers began to count; the difference of two is a rate
    )


class StatusInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds, in numbers."""

    version: str  # of whoever answers
    limits: int
    held: int  # leases
    waiting: int  # leases
    sessions: int  # client processes
    away: int  # of those: without a connection
    now: datetime  # by the store's clock


class SlotsInfo(msgspec.Struct, frozen=True):
    """How many slots of which limit."""

    name: str
    slots: int


class HolderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease, or waits."""

    session: str
    host: str
    pid: int
    labels: dict[str, str]
    away_since: datetime | None = None


class LeaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One acquisition, from asking to ending; the last four fields only while it waits."""

    id: str
    state: Literal["waiting", "held", "ended"]
    kind: Literal["hold", "spend"]
    limits: list[SlotsInfo]
    holder: HolderInfo
    priority: int
    arrival: int
    asked: datetime
    granted: datetime | None = None
    expires: datetime | None = None
    lease_duration_seconds: float = 0.0
    fencing_token: int | None = None
    ended: datetime | None = None
    why: str = ""
    position: int | None = None  # 1: next
    lacks: list[str] | None = None  # the limits it waits for
    blocked_by: list[str] | None = None  # ids of leases that hold what it lacks, the soonest to expire first
    estimate_seconds: float | None = None  # None: nobody can tell
