"""What every HTTP client needs: a rate limit before each request, a cool-down when the other side says so.

No HTTP library is imported here.
"""

import logging
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

TOO_MANY: Final = frozenset({429, 503})
"""Statuses with which a server may say when to come back."""

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
        headers: of the response, looked up as `Retry-After`.
        now: the time, for a header that names a date; None: read it.

    Source: RFC 9110, section 10.2.3.
    """
    text = headers.get("Retry-After") if status in TOO_MANY else None
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), COOL_MAX_SECONDS)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        _log.info("a Retry-After that is neither seconds nor a date is not kept to: %r", text[:60])
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    seconds = (until - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), COOL_MAX_SECONDS)


def _why(status: int, host: str) -> str:
    """Return what those who wait are told."""
    return f"{status} from {host}"[:200]
