"""What every HTTP client needs: a rate limit before each request, a cool-down when the other side says so.

No HTTP library is imported here.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from ebbgate import asyncio as async_face
from ebbgate import sync as sync_face
from ebbgate.client.terms import Names, Seconds
from ebbgate.errors import EbbgateError

_log: Final = logging.getLogger("ebbgate")

TOO_MANY: Final = frozenset({403, 429, 503})
"""Statuses with which a server may say when to come back."""

_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)

COOL_MAX_SECONDS: Final = 3_600.0
"""A server that asks for longer is believed for so long."""


class Pace(NamedTuple):
    """How requests are paced."""

    names: Names
    timeout_seconds: Seconds | None = None
    strict: bool = False
    priority: int = 0
    cools_down: bool = True  # whether a `Retry-After` makes everybody wait

    @property
    def limits(self) -> list[str]:
        """The names of the limits."""
        return [self.names] if isinstance(self.names, str) else list(self.names)

    def take(self) -> None:
        """Wait for the turn of one request.

        Raises:
            ConcurrencySlotAcquisitionError: its turn did not come.
        """
        sync_face.rate_limit(
            self.names, timeout_seconds=self.timeout_seconds, strict=self.strict, priority=self.priority
        )

    async def take_async(self) -> None:
        """Wait for the turn of one request; see `take`."""
        await async_face.rate_limit(
            self.names, timeout_seconds=self.timeout_seconds, strict=self.strict, priority=self.priority
        )

    def heed(self, status: int, headers: Mapping[str, str], host: str) -> None:
        """Have everybody wait if a response asks for it."""
        seconds = self._pause(status, headers)
        if seconds:
            with _forgiving():
                sync_face.cool_down(self.limits, seconds, _why(status, host))

    async def heed_async(self, status: int, headers: Mapping[str, str], host: str) -> None:
        """Have everybody wait if a response asks for it."""
        seconds = self._pause(status, headers)
        if seconds:
            with _forgiving():
                await async_face.cool_down(self.limits, seconds, _why(status, host))

    def _pause(self, status: int, headers: Mapping[str, str]) -> float | None:
        return pause_asked(status, headers) if self.cools_down else None


@contextmanager
def _forgiving() -> Iterator[None]:
    """Let a cool-down fail without harm: the response is there, and is what the caller wants."""
    try:
        yield
    except EbbgateError as error:
        _log.warning("could not have everybody wait as the other side asked: %s", error)


def pause_asked(status: int, headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return for how many seconds a response asks everybody to wait; None: it does not.

    Args:
        status: of the response.
        headers: of the response, looked up as `Retry-After`, `retry-after-ms` and `Date`.
        now: the time, for a header that names a date; None: that of the response's `Date`, or of the clock.

    Source: RFC 9110, section 10.2.3.
    """
    if status not in TOO_MANY:
        return None
    exact = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(exact):
        return _capped(float(exact) / 1_000)
    text = headers.get("Retry-After")
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if all(_SECONDS.fullmatch(part) for part in parts):  # several headers are joined by commas
        return _capped(max(map(float, parts)))
    until = _date(text)
    if until is None:
        _log.info("a Retry-After that is neither seconds nor a date is not kept to: %r", text[:60])
        return None
    # Both dates are of the server's clock, so that an offset of the clock here changes nothing.
    start = now or _date(headers.get("Date", "")) or datetime.now(UTC)
    return _capped((until - start).total_seconds())


def _date(text: str) -> datetime | None:
    """Return the time that an HTTP date names; None: it is none."""
    try:
        date = parsedate_to_datetime(text.strip())
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _capped(seconds: float) -> float:
    """Return a pause that is neither negative nor longer than a server is believed for."""
    return min(max(seconds, 0.0), COOL_MAX_SECONDS)


def _why(status: int, host: str) -> str:
    """Return what those who wait are told."""
    return f"{status} from {host}"[:200]
