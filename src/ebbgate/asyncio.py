"""Limits for asyncio: `async with concurrency("database"):` and `await rate_limit("api")`.

Code written for `prefect.concurrency.asyncio` runs with its import line changed to this module.
"""

import asyncio
from collections.abc import Mapping, Sequence

from ebbgate.client.async_blocks import AsyncBlock, spend
from ebbgate.client.default import default_client
from ebbgate.client.lease import Lease
from ebbgate.client.misuse import site
from ebbgate.client.terms import Names, OnUnavailable, Seconds, hold_terms, spend_terms
from ebbgate.errors import AcquireTimeout as AcquireConcurrencySlotTimeoutError
from ebbgate.errors import ConcurrencySlotAcquisitionError

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "ConcurrencySlotAcquisitionError",
    "Lease",
    "concurrency",
    "cool_down",
    "rate_limit",
]


def concurrency(
    names: Names,
    occupy: int = 1,
    timeout_seconds: Seconds | None = None,
    max_retries: int | None = None,
    lease_duration: Seconds = 300,
    strict: bool = False,
    raise_on_lease_renewal_failure: bool | None = None,
    suppress_warnings: bool = False,
    priority: int = 0,
    labels: Mapping[str, str] | None = None,
    holder: object = None,
    on_unavailable: OnUnavailable = "raise",
) -> AsyncBlock:
    """Hold slots of one or several limits while a block runs; wait in turn until they are free.

    >>> async with concurrency("database", occupy=2, timeout_seconds=10) as lease:  # doctest: +SKIP
    ...     await query(fence=lease.fencing_token)

    It is a decorator too, for sync and async functions: every call takes slots of its own.

    Args:
        names: a limit, several (all or none), or a mapping of limit to slots. Empty: nothing happens, unless `strict`.
        occupy: slots of each limit, >= 1; ignored for a mapping.
        timeout_seconds: the longest wait, from now; 0 tries once, None waits for ever.
        max_retries: give up at the (n+1)-th refusal, a refusal being 30 s of waiting; 0 tries once.
        lease_duration: seconds, 60 to 86,400: how long the slots stay taken if this process is stopped or cut
            off. It is renewed in the background as long as the block runs.
        strict: raise if a named limit does not exist, and if the lease is lost. Else a warning is given.
        raise_on_lease_renewal_failure: cancel the block and raise `LeaseLost` when the lease is lost; None: as
            `strict`.
        suppress_warnings: give no warnings.
        priority: higher goes first; 0 by default. Lower ones may wait for ever.
        labels: text shown with the lease, to find it again.
        holder: kept as labels; for code written for another system.
        on_unavailable: "run" runs the block unprotected, with a warning, when the truth cannot be reached.

    Returns:
        An async context manager that gives a `Lease`.

    Raises:
        AcquireTimeout: no slot within `timeout_seconds`.
        LimitNotFound: a limit does not exist, and `strict`.
        NeverFits: more slots were asked for than a limit has.
        StoreUnavailable, ServerUnavailable: the truth cannot be reached; nothing ran.
        InvalidRequest, InvalidLimit: an argument is wrong, or `strict` and `names` is empty.
        LeaseLost: with `strict`, in the block, which is cancelled at its next await.
    """
    terms = hold_terms(
        names, occupy, timeout_seconds, max_retries, lease_duration, strict, raise_on_lease_renewal_failure,
        suppress_warnings, priority, labels, holder, on_unavailable,
    )  # fmt: skip
    return AsyncBlock(default_client, terms, site())


async def rate_limit(
    names: Names,
    occupy: int = 1,
    timeout_seconds: Seconds | None = None,
    strict: bool = False,
    priority: int = 0,
    on_unavailable: OnUnavailable = "raise",
) -> None:
    """Wait until slots of decaying limits are free, and spend them; only time brings them back.

    >>> await rate_limit("api")  # doctest: +SKIP

    Args:
        names: a limit, several (all or none), or a mapping of limit to slots. Empty: nothing happens, unless `strict`.
        occupy: slots of each limit, >= 1; ignored for a mapping.
        timeout_seconds: the longest wait, from now; 0 tries once, None waits for ever.
        strict: raise if a named limit does not exist. Else a warning is given.
        priority: higher goes first; 0 by default.
        on_unavailable: "run" goes on, with a warning, when the truth cannot be reached.

    Raises:
        AcquireTimeout: no slot within `timeout_seconds`.
        LimitNotFound: a limit does not exist, and `strict`.
        NoSlotDecay: an active limit has no `slot_decay_per_second`, so its slots would never come back.
        NeverFits: more slots were asked for than a limit has.
        StoreUnavailable, ServerUnavailable: the truth cannot be reached.
        InvalidRequest, InvalidLimit: an argument is wrong, or `strict` and `names` is empty.
    """
    await spend(default_client, spend_terms(names, occupy, timeout_seconds, strict, priority, on_unavailable))


async def cool_down(names: str | Sequence[str], seconds: Seconds, why: str = "") -> None:
    """Let nobody in at a limit for a while, as when a vendor says "too many requests"; who waits stays in line.

    Every process that uses the limit waits, in the same queue, and people see why.

    >>> await cool_down("api", 30, "429 from the vendor")  # doctest: +SKIP

    Args:
        names: a limit, or several; by name or id.
        seconds: from now, 0 to 86,400; 0 lets people in again at once. One that lasts longer already stays.
        why: shown to those who wait; at most 200 characters.

    Raises:
        LimitNotFound: there is none of this name or id.
        InvalidRequest: an argument is wrong.
        StoreUnavailable, ServerUnavailable: the truth cannot be reached.
    """
    await asyncio.to_thread(default_client().cool_down, names, seconds, why)
