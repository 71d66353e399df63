"""The terms of one acquisition, as a user states them, checked once and in one place."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Literal, NamedTuple

from ebbgate.client.progress import FindWatch
from ebbgate.core.commands import check_labels, wanted
from ebbgate.core.model import SECOND, Slots
from ebbgate.errors import InvalidRequest

Names = str | list[str] | tuple[str, ...] | Mapping[str, int]
Seconds = float | timedelta
OnUnavailable = Literal["raise", "run"]

REFUSAL_US: Final = 30 * SECOND
"""What one of `max_retries` stands for: so long a wait counts as one refusal."""

_TIMEOUT_MAX_SECONDS: Final = 10 * 365 * 86_400.0


class Terms(NamedTuple):
    """What one `concurrency` or `rate_limit` asks for."""

    slots: Slots  # by name, sorted; empty: nothing happens
    spend: bool = False
    timeout_us: int | None = None
    max_retries: int | None = None
    duration_us: int = 300 * SECOND
    strict: bool = False
    raise_on_loss: bool = False
    quiet: bool = False  # no warnings
    priority: int = 0
    labels: Mapping[str, str] | None = None
    run_unprotected: bool = False  # when the truth cannot be reached
    find_watch: FindWatch | None = None  # who hears why it takes long; None: the log

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the limits, sorted."""
        return tuple([name for name, _ in self.slots])

    @property
    def wait_us(self) -> int | None:
        """Return how long to wait at most: 0 is try once, None is for ever."""
        waits = [] if self.timeout_us is None else [self.timeout_us]
        if self.max_retries is not None:
            waits.append(self.max_retries * REFUSAL_US)
        return min(waits, default=None)


def hold_terms(
    names: Names,
    occupy: int,
    timeout_seconds: Seconds | None,
    max_retries: int | None,
    lease_duration: Seconds,
    strict: bool,
    raise_on_lease_renewal_failure: bool | None,
    suppress_warnings: bool,
    priority: int,
    labels: Mapping[str, str] | None,
    holder: object,
    on_unavailable: OnUnavailable,
) -> Terms:
    """Check the arguments of `concurrency`.

    Raises:
        InvalidRequest: one has a wrong type or is out of its range; the message names it.
        InvalidLimit: a name could not be the name of any limit.
    """
    return Terms(
        _slots(names, occupy, strict),
        False,
        _timeout_us(timeout_seconds),
        _max_retries(max_retries),
        microseconds("lease_duration", lease_duration),
        bool(strict),
        bool(strict if raise_on_lease_renewal_failure is None else raise_on_lease_renewal_failure),
        bool(suppress_warnings),
        priority,
        _labels(labels, holder),
        _runs_unprotected(on_unavailable),
    )


def spend_terms(
    names: Names,
    occupy: int,
    timeout_seconds: Seconds | None,
    strict: bool,
    priority: int,
    on_unavailable: OnUnavailable,
) -> Terms:
    """Check the arguments of `rate_limit`; see `hold_terms`."""
    return Terms(
        _slots(names, occupy, strict),
        True,
        _timeout_us(timeout_seconds),
        strict=bool(strict),
        priority=priority,
        run_unprotected=_runs_unprotected(on_unavailable),
    )


def _slots(names: Names, occupy: int, strict: bool) -> Slots:
    if names:
        return wanted(names, occupy)
    if strict:
        raise InvalidRequest(
            f"strict=True refuses to protect nothing: names is {names!r}; name a limit, or leave strict out"
        )
    return ()


def microseconds(argument: str, value: object) -> int:
    """Return a duration as users give it, in microseconds.

    Raises:
        InvalidRequest: it is neither a number of seconds nor a timedelta; the message names the argument.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not abs(seconds) < math.inf:
        raise InvalidRequest(f"{argument} must be a number of seconds or a timedelta, got {value!r}")
    return round(seconds * SECOND)


def _timeout_us(timeout_seconds: object) -> int | None:
    if timeout_seconds is None or timeout_seconds == math.inf:
        return None
    timeout_us = microseconds("timeout_seconds", timeout_seconds)
    if timeout_us < 0:
        raise InvalidRequest(
            f"timeout_seconds must be >= 0, or None to wait for ever, got {timeout_seconds!r}"
        )
    return min(timeout_us, round(_TIMEOUT_MAX_SECONDS * SECOND))


def _max_retries(max_retries: object) -> int | None:
    if max_retries is None:
        return None
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
        raise InvalidRequest(f"max_retries must be a whole number >= 0, or None, got {max_retries!r}")
    return max_retries


def _labels(labels: object, holder: object) -> Mapping[str, str] | None:
    """Return the labels of a lease; a `holder` as other systems give it is kept as labels."""
    if labels is not None and not isinstance(labels, Mapping):
        raise InvalidRequest(f"labels must be a mapping of text to text, got {labels!r}")
    if holder is None:
        return check_labels(dict(labels)) if labels else None
    fields = holder if isinstance(holder, Mapping) else getattr(holder, "__dict__", {"holder": holder})
    kept = {f"holder_{name}": str(value) for name, value in fields.items() if not str(name).startswith("_")}
    return check_labels({**kept, **(labels or {})})


def _runs_unprotected(on_unavailable: OnUnavailable) -> bool:
    if on_unavailable not in {"raise", "run"}:
        raise InvalidRequest(f'on_unavailable must be "raise" or "run", got {on_unavailable!r}')
    return on_unavailable == "run"
