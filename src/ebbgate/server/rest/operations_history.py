"""What the routes about the past say of themselves; see `operations`."""

from typing import Any, Final

from ebbgate.server.rest.answers import HistoryInfo, RecentPage
from ebbgate.server.rest.describing import Operation, Parameter, Reply
from ebbgate.server.rest.history import (
    RECENT_MAX,
    WINDOW_MAX_SECONDS,
    WINDOW_MIN_SECONDS,
    WINDOW_SECONDS,
)
from ebbgate.server.rest.operations import LIMIT_ID, NAME_OR_ID

_AT: Final = "2026-01-01T12:00:00Z"
_UUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_POINT: Final[dict[str, Any]] = {
    "at": _AT, "seen_seconds": 10.0, "slots": 5, "held_slots_mean": 4.2, "held_slots_max": 5, "spent_slots_mean": 0.0,
    "spent_slots_max": 0.0, "waiting_mean": 0.4, "waiting_max": 2, "grants": 12, "grants_per_second": 1.2, "left": 0,
    "denied": 0, "wait_mean_seconds": 0.3, "wait_p50_seconds": 0.0, "wait_p90_seconds": 0.9, "wait_p99_seconds": 1.0,
}  # fmt: skip

READ_HISTORY: Final = Operation(
    id="readHistory",
    summary="Read what happened at a limit over time",
    description=(
        "300 points at most, oldest first; where no server ran there is no point. Steps of 10 seconds are kept for "
        "a day, steps of a minute for 30 days."
    ),
    parameters=(
        NAME_OR_ID,
        Parameter(
            "window_seconds",
            "query",
            {
                "type": "number",
                "minimum": WINDOW_MIN_SECONDS,
                "maximum": WINDOW_MAX_SECONDS,
                "default": WINDOW_SECONDS,
            },
            "How far back it goes.",
        ),
        Parameter(
            "until",
            "query",
            {"type": "string", "format": "date-time"},
            "Where it ends; now, unless given.",
        ),
    ),
    replies={
        200: Reply(
            "What happened.",
            HistoryInfo,
            {
                "id": LIMIT_ID, "name": "database", "start": _AT, "end": "2026-01-01T12:00:10Z", "step_seconds": 10.0,
                "points": [_POINT],
            },
        )
    },
    problems=(404, 422, 503),
)  # fmt: skip
READ_RECENT: Final = Operation(
    id="readRecentHistory",
    summary="Read what happened at several limits in the last quarter of an hour",
    description="One value for every half a minute; null where no server ran.",
    parameters=(
        Parameter(
            "ids",
            "query",
            {"type": "string", "pattern": f"^{_UUID}(,{_UUID}){{0,{RECENT_MAX - 1}}}$"},
            f"Ids of limits, {RECENT_MAX} at most, with commas between them.",
            LIMIT_ID,
            required=True,
        ),
    ),
    replies={
        200: Reply(
            "What happened.",
            RecentPage,
            {
                "start": _AT,
                "step_seconds": 30.0,
                "items": [{"id": LIMIT_ID, "in_use_mean": [4.2], "waiting_max": [2]}],
            },
        )
    },
    problems=(422, 503),
)
