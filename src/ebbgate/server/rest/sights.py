"""What a page may ask to be shown, and what it is sent of that."""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from ebbgate.core.overview import Show, Sort
from ebbgate.errors import InvalidRequest
from ebbgate.server.rest.happening import LeaseEvent, LimitEvent
from ebbgate.server.rest.totals import TotalsInfo
from ebbgate.wire.shapes import LeaseInfo, LimitInfo

VIEWS_MAX: Final = 20
COUNT_MAX: Final = 200
LEASES_SHOWN_MAX: Final = 1_000
SEARCH_LENGTH_MAX: Final = 200


class LimitsView(msgspec.Struct, frozen=True, tag_field="kind", tag="limits", forbid_unknown_fields=True):
    """A part of the list of limits."""

    search: Annotated[str, msgspec.Meta(max_length=SEARCH_LENGTH_MAX)] = ""
    show: Show = "all"
    sort: Sort = "saturation"
    first: Annotated[int, msgspec.Meta(ge=0)] = 0  # how many stand before it
    count: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)] = 50


class LimitView(msgspec.Struct, frozen=True, tag_field="kind", tag="limit", forbid_unknown_fields=True):
    """One limit, and who holds it and who waits for it."""

    limit: str  # name or id; there need not be one
    leases: Annotated[int, msgspec.Meta(ge=0, le=LEASES_SHOWN_MAX)] = 0  # so many of each kind at most


class EventsView(msgspec.Struct, frozen=True, tag_field="kind", tag="events", forbid_unknown_fields=True):
    """What happens, at one limit or at all."""

    limit: str = ""  # name or id; "": at all


View = LimitsView | LimitView | EventsView

_VIEWS: Final = msgspec.json.Decoder(Annotated[list[View], msgspec.Meta(max_length=VIEWS_MAX)])


def views_of(text: str) -> list[View]:
    """Return the views that somebody has asked for.

    Raises:
        InvalidRequest: it is not a list of views.
    """
    try:
        return list(dict.fromkeys(_VIEWS.decode(text)))
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"views is a JSON array of what is to be shown: {error}") from error


class LimitRow(LimitInfo, frozen=True, kw_only=True):
    """A limit as the pages show it."""

    grants_per_second: float


class LimitsSight(msgspec.Struct, frozen=True, kw_only=True):
    """What is new in a part of the list of limits."""

    view: LimitsView
    now: datetime  # by the store's clock
    matching: int  # limits in the whole list
    order: list[str] | None  # the ids of this part; None: as before
    limits: list[LimitRow]  # those of this part that are new in it, or not as they were


class LimitSight(msgspec.Struct, frozen=True, kw_only=True):
    """One limit as it is now."""

    view: LimitView
    now: datetime
    limit: LimitRow | None  # None: there is no such limit


class LeasesSight(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds one limit, and who waits for it."""

    view: LimitView
    now: datetime
    held: list[LeaseInfo]
    held_more: bool  # there are more than are shown
    waiting: list[LeaseInfo]
    waiting_more: bool


class EventsSight(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened; the same event may be told twice."""

    view: EventsView
    now: datetime
    leases: list[LeaseEvent]
    definitions: list[LimitEvent]
    left_out: int  # events of leases for which there was no room


class TotalsSight(msgspec.Struct, frozen=True, kw_only=True):
    """All limits together; everybody is sent this."""

    now: datetime
    totals: TotalsInfo
