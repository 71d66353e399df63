"""What happened at limits: a chart's points for one, and small ones for many at once."""

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from litestar.types import ASGIApp

from ebbgate.core import views
from ebbgate.core.limits import is_uuid
from ebbgate.core.managing import not_found
from ebbgate.core.model import SECOND, Limit
from ebbgate.errors import InvalidRequest
from ebbgate.server.decider import Decider
from ebbgate.server.history.history import History
from ebbgate.server.history.series import Bucket, Window, quantile, window_of
from ebbgate.server.rest.answers import (
    Answer,
    HistoryInfo,
    HistoryPoint,
    RecentInfo,
    RecentPage,
    json_answer,
)
from ebbgate.server.rest.describing import Asked
from ebbgate.server.rest.problems import refusal
from ebbgate.server.rest.requests import parameters
from ebbgate.stores.rollups import COARSE
from ebbgate.wire.showing import instant

WINDOW_SECONDS: Final = 3_600.0
WINDOW_MIN_SECONDS: Final = 60.0
WINDOW_MAX_SECONDS: Final = COARSE.keep_us / SECOND
SAME_US: Final = SECOND
"""For so long the same question gets the same answer: many may look at one limit."""

ANSWERS_MAX: Final = 64
RECENT_SECONDS: Final = 900
RECENT_POINTS: Final = 30
RECENT_MAX: Final = 100
"""Limits that one question for small pictures may name."""

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class HistoryRoutes:
    """What can be asked of the past."""

    def __init__(self, decider: Decider, history: History) -> None:
        """Have it answered by one server's history."""
        self._decider = decider
        self._history = history
        self._answers: dict[tuple[str, str, Window], tuple[int, Answer]] = {}

    async def of_limit(self, request: Asked) -> ASGIApp:
        """Return what happened at a limit."""
        found = parameters(request.scope, "window_seconds", "until")
        seconds = _window_seconds(found)
        now_us = self._decider.store.clock()
        until_us = min(_until_us(found, now_us), now_us)
        target = str(request.scope["path_params"]["name_or_id"])
        view = views.limit(self._decider.book, now_us, target)
        if view is None:
            return refusal(not_found(self._decider.book, target))
        window = window_of(now_us, until_us, round(seconds * SECOND))
        limit = view.limit
        key = (limit.id, limit.name, window)
        made_us, answer = self._answers.get(key, (0, None))
        if answer is None or not 0 <= now_us - made_us < SAME_US:
            answer = await self._answer(limit, window)
            self._keep(key, now_us, answer)
        return answer

    def _keep(self, key: tuple[str, str, Window], now_us: int, answer: Answer) -> None:
        if len(self._answers) >= ANSWERS_MAX:
            self._answers.clear()
        self._answers[key] = (now_us, answer)

    async def _answer(self, limit: Limit, window: Window) -> Answer:
        buckets = (await self._history.read([(limit.id, limit.created_us)], window))[limit.id]
        return json_answer(
            200,
            HistoryInfo(
                limit.id, limit.name, instant(window.start_us), instant(window.end_us), window.width_us / SECOND,
                [_point(bucket, limit.limit) for bucket in buckets],
            ),
        )  # fmt: skip

    async def recent(self, request: Asked) -> ASGIApp:
        """Return small pictures of what happened just now at several limits."""
        ids = _ids(parameters(request.scope, "ids"))
        lives, now_us = self._decider.book.lives, self._decider.store.clock()
        limits = [lives[one].limit for one in ids if one in lives]
        window = window_of(now_us, now_us, RECENT_SECONDS * SECOND, RECENT_POINTS)
        found = await self._history.read([(limit.id, limit.created_us) for limit in limits], window)
        count = (window.end_us - window.start_us) // window.width_us
        items: list[RecentInfo] = []
        for limit in limits:
            in_use: list[float | None] = [None] * count
            waiting: list[int | None] = [None] * count
            for bucket in found[limit.id]:
                at = (bucket.start_us - window.start_us) // window.width_us
                in_use[at] = _rounded(bucket.mean(bucket.held_area + bucket.spent_area))
                waiting[at] = bucket.waiting_max
            items.append(RecentInfo(limit.id, in_use, waiting))
        start = instant(window.start_us)
        return json_answer(200, RecentPage(start, window.width_us / SECOND, items))


def _window_seconds(found: dict[str, str]) -> float:
    text = found.get("window_seconds", str(WINDOW_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not WINDOW_MIN_SECONDS <= seconds <= WINDOW_MAX_SECONDS:
        raise InvalidRequest(
            f"window_seconds must be from {WINDOW_MIN_SECONDS:g} to {WINDOW_MAX_SECONDS:.0f}, got {text[:100]!r}"
        )
    return seconds


def _until_us(found: dict[str, str], now_us: int) -> int:
    """Return the instant that is asked for, or now; what is longer ago than anything is kept counts as that."""
    text = found.get("until")
    if text is None:
        return now_us
    try:
        if not _INSTANT.fullmatch(text):
            raise ValueError
        until = datetime.fromisoformat(text.upper().replace(":60", ":59"))
    except ValueError:
        raise InvalidRequest(
            f"until must be an instant such as 2026-01-01T12:00:00Z, got {text[:100]!r}"
        ) from None
    return max(round(until.timestamp() * SECOND), now_us - COARSE.keep_us)


def _ids(found: dict[str, str]) -> list[str]:
    ids = found.get("ids", "").split(",")
    if len(ids) > RECENT_MAX or not all(map(is_uuid, ids)):
        raise InvalidRequest(f"ids must be 1 to {RECENT_MAX} ids of limits, with commas between them")
    return list(dict.fromkeys(str(UUID(one)) for one in ids))


def _rounded(value: float) -> float:
    return round(value, 3)


def _point(bucket: Bucket, slots: int) -> HistoryPoint:
    seconds = bucket.seen_us / SECOND
    grants = bucket.grants
    return HistoryPoint(
        at=instant(bucket.start_us),
        seen_seconds=_rounded(seconds),
        slots=slots if bucket.slots is None else bucket.slots,
        held_slots_mean=_rounded(bucket.mean(bucket.held_area)),
        held_slots_max=bucket.held_max,
        spent_slots_mean=_rounded(bucket.mean(bucket.spent_area)),
        spent_slots_max=_rounded(bucket.spent_max),
        waiting_mean=_rounded(bucket.mean(bucket.waiting_area)),
        waiting_max=bucket.waiting_max,
        grants=grants,
        grants_per_second=_rounded(grants / seconds) if seconds else 0.0,
        left=bucket.left,
        denied=bucket.denied,
        wait_mean_seconds=_rounded(bucket.waited_ms / 1_000 / grants) if grants else None,
        wait_p50_seconds=_quantile(bucket, 0.5),
        wait_p90_seconds=_quantile(bucket, 0.9),
        wait_p99_seconds=_quantile(bucket, 0.99),
    )


def _quantile(bucket: Bucket, share: float) -> float | None:
    seconds = quantile(bucket.waits, share)
    return None if seconds is None else _rounded(seconds)
