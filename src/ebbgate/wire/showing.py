"""From what a book knows to the shapes that people see."""

from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from ebbgate.core.model import SECOND
from ebbgate.core.views import LeaseView, LimitView
from ebbgate.wire.shapes import HolderInfo, LeaseInfo, LimitInfo, SlotsInfo

Shape = TypeVar("Shape", bound=LeaseInfo)
LimitShape = TypeVar("LimitShape", bound=LimitInfo)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant(us: int) -> datetime:
    """Return an instant of a store, in microseconds since 1970, as people read it."""
    return _EPOCH + timedelta(microseconds=us)


def limit_info(view: LimitView) -> LimitInfo:
    """Return a limit in the shape that people see."""
    return limit_shape(LimitInfo, view)


def limit_shape(shape: type[LimitShape], view: LimitView, **more: object) -> LimitShape:
    """Return a limit in a shape that has some `more` fields."""
    limit = view.limit
    return shape(
        id=limit.id,
        name=limit.name,
        limit=limit.limit,
        slot_decay_per_second=limit.slot_decay_per_second,
        active=limit.active,
        description=limit.description,
        active_slots=view.active,
        held_slots=view.held,
        spent_slots=view.spent,
        waiting=view.waiting,
        created=instant(limit.created_us),
        updated=instant(limit.updated_us),
        cool_down_until=instant(view.cool_until_us) if view.cool_until_us >= 0 else None,
        cool_down_why=limit.cool_why if view.cool_until_us >= 0 else "",
        waiting_since=instant(view.waiting_since_us) if view.waiting_since_us >= 0 else None,
        granted=view.granted,
        **more,
    )


def lease_info(view: LeaseView) -> LeaseInfo:
    """Return a lease in the shape that people see."""
    return lease_shape(LeaseInfo, view)


def lease_shape(shape: type[Shape], view: LeaseView, **more: object) -> Shape:
    """Return a lease in a shape that has some `more` fields."""
    lease, session, wait = view.lease, view.session, view.wait
    was_granted = lease.at_us >= 0
    return shape(
        id=lease.id,
        state=lease.state,
        kind=lease.kind,
        limits=[SlotsInfo(name, slots) for name, slots in view.names],
        holder=HolderInfo(
            session=lease.session,
            host=session.host if session else "",
            pid=session.pid if session else 0,
            labels={**(session.labels if session else {}), **lease.labels},
            away_since=instant(session.away_us) if session and session.away_us >= 0 else None,
        ),
        priority=lease.priority,
        arrival=lease.arrival,
        asked=instant(lease.since_us),
        granted=instant(lease.at_us) if was_granted else None,
        expires=instant(lease.expires_us) if lease.state == "held" else None,
        lease_duration_seconds=lease.duration_us / SECOND,
        fencing_token=lease.token if was_granted else None,
        ended=instant(lease.ended_us) if lease.ended_us >= 0 else None,
        why=lease.why,
        position=wait.position if wait else None,
        lacks=list(wait.lacks) if wait else None,
        blocked_by=list(wait.blocked_by) if wait else None,
        estimate_seconds=wait.estimate_us / SECOND if wait and wait.estimate_us is not None else None,
        **more,
    )
