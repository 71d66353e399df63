"""What is said to somebody who waits long: for what, behind whom, and for how much longer.

The SDK logs it at INFO, by the logger `ebbgate`: after 2 s, 10 s, a minute, and every ten minutes from then on.
Of many callers of a process that wait for the same, one speaks for all, twice a minute at most.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

from ebbgate.core.model import SECOND
from ebbgate.wire.shapes import LeaseInfo, LimitInfo
from ebbgate.wire.words import clean, duration, rate

FIRST_US: Final = 2 * SECOND
"""A shorter wait is nothing to speak of, and costs nothing."""

EVERY_US: Final = 600 * SECOND
MOMENTS_US: Final = (FIRST_US, 10 * SECOND, 60 * SECOND)
"""How long somebody has waited when it is told, before it is told every `EVERY_US`."""

QUIET_US: Final = 30 * SECOND
"""For so long one caller speaks for all of its process that wait for the same limits."""

_LABELS_MAX: Final = 3
_LABEL_MAX: Final = 40
_REMEMBERED_MAX: Final = 1_000

_log: Final = logging.getLogger("ebbgate")


class Situation(NamedTuple):
    """Why somebody waits, as far as the store tells."""

    names: tuple[str, ...]
    lease: LeaseInfo | None = None  # its own; None: nobody answers
    holder: LeaseInfo | None = None  # of those that hold what it lacks, the first to expire
    limit: LimitInfo | None = None  # the first that it lacks


class Watch(Protocol):
    """Who wants to know why one acquisition takes so long."""

    def next_us(self, waited_us: int) -> int:
        """Return after how long a wait, longer than `waited_us`, it wants to hear of it."""

    def wants(self, waited_us: int) -> bool:
        """Tell whether it is worth asking; called at those moments."""

    def tell(self, situation: Situation, waited_us: int) -> None:
        """Hear why; called after `wants` was true."""


FindWatch = Callable[[str, tuple[str, ...]], Watch]
"""From the session of a caller and the names of its limits."""


def sentence(situation: Situation, waited_us: int) -> str:
    """Return why somebody waits, in one line.

    Args:
        situation: what the store tells.
        waited_us: since when, by the clock of who waits.
    """
    lease, limit = situation.lease, situation.limit
    names = " and ".join(repr(clean(name)) for name in situation.names)
    head = f"waiting for {names} for {duration(waited_us / SECOND)}"
    if lease is None:
        return f"{head}: nobody answers at the moment; the place in line is kept"
    if lease.position is not None:
        head += ", next in line" if lease.position == 1 else f", no. {lease.position} in line"
    said = _reasons(situation, lease, limit, waited_us)
    if lease.estimate_seconds is not None and lease.estimate_seconds > 0:
        said.append(f"about {duration(lease.estimate_seconds + 0.999)} more")
    said.append(f"see: ebbgate limit inspect {clean(limit.name if limit else situation.names[0])!r}")
    return f"{head}: {'; '.join(said)}"


def _reasons(situation: Situation, lease: LeaseInfo, limit: LimitInfo | None, waited_us: int) -> list[str]:
    if limit is None:
        return ["its turn comes"]
    of = f"{clean(limit.name)!r} " if len(situation.names) > 1 else ""
    if not limit.limit:
        return [f"{of or 'it '}is closed, its limit is 0"]
    said: list[str] = []
    if limit.cool_down_until is not None:
        # When it was asked is told by the store's clock, so its time needs no clock of this machine.
        now = lease.asked + timedelta(microseconds=waited_us)
        left = duration((limit.cool_down_until - now).total_seconds() + 0.999)
        why = f" ({clean(limit.cool_down_why)})" if limit.cool_down_why else ""
        said.append(f"{of or 'it '}cools down for {left}{why}")
    holder = situation.holder
    if holder is not None:
        others = len(lease.blocked_by or ()) - 1
        more = f" and {others} other{'s' if others > 1 else ''}" if others > 0 else ""
        said.append(f"{of}held by {_who(holder)}{more}")
    elif limit.spent_slots:
        pace = (
            f", {rate(limit.slot_decay_per_second, limit.limit)} come back"
            if limit.slot_decay_per_second
            else ""
        )
        said.append(f"{of}all slots are spent{pace}")
    return said or [f"{of}kept for who came before"]


def _who(lease: LeaseInfo) -> str:
    holder = lease.holder
    where = f"{clean(holder.host)}:{holder.pid}" if holder.pid else "somebody"
    labels = [f"{clean(name)}={clean(value)}"[:_LABEL_MAX] for name, value in holder.labels.items()]
    return f"{where} ({' '.join(labels[:_LABELS_MAX])})" if labels else where


def next_moment_us(waited_us: int) -> int:
    """Return after how long a wait, longer than `waited_us`, it is told next."""
    for moment_us in MOMENTS_US:
        if waited_us < moment_us:
            return moment_us
    return (waited_us // EVERY_US + 1) * EVERY_US


class _Said(NamedTuple):
    """When something was last logged for all of a process that wait for the same."""

    waited_us: int
    at: float  # by the clock of log records


_said: Final[dict[tuple[str, tuple[str, ...]], _Said]] = {}


class LogWatch:
    """Logs why a caller waits."""

    def __init__(self, session: str, names: tuple[str, ...]) -> None:
        """Speak for a session's callers that want these limits."""
        self._of = (session, names)

    def next_us(self, waited_us: int) -> int:
        """See `Watch`."""
        return next_moment_us(waited_us)

    def wants(self, waited_us: int) -> bool:
        """See `Watch`: not what another caller has said just now."""
        import time

        if not _log.isEnabledFor(logging.INFO):
            return False
        now, before = time.monotonic(), _said.get(self._of)
        if before is not None and now - before.at < QUIET_US / SECOND and waited_us < 2 * before.waited_us:
            return False
        if len(_said) >= _REMEMBERED_MAX:
            _said.clear()
        _said[self._of] = _Said(waited_us, now)
        return True

    def tell(self, situation: Situation, waited_us: int) -> None:
        """See `Watch`."""
        _log.info("%s", sentence(situation, waited_us))


def forget_said() -> None:
    """Say everything again; for tests."""
    _said.clear()
