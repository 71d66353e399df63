"""Executors whose calls hold slots while they run, or are handed on at a rate.

>>> from concurrent.futures import ThreadPoolExecutor
>>> executor = LimitedExecutor(ThreadPoolExecutor(), "database")  # doctest: +SKIP
>>> executor.submit(query, 1)  # doctest: +SKIP
"""

import functools
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from ebbgate.client.client import Block
from ebbgate.client.misuse import name_of, refuse_unfinished
from ebbgate.client.terms import Names, Seconds
from ebbgate.errors import InvalidRequest
from ebbgate.sync import concurrency
from ebbgate.sync import rate_limit as spend

P = ParamSpec("P")
T = TypeVar("T")


class LimitedExecutor(Executor):
    """Another executor, whose calls keep to limits.

    A call holds its slots in the worker that runs it, from its first line to its last, so it works for pools of
    threads and of processes alike, and a worker that dies gives its slots back. A rate is kept where calls are
    submitted: `submit` returns when the call may be handed on.
    """

    def __init__(
        self,
        executor: Executor,
        names: Names = (),
        *,
        occupy: int = 1,
        rate_limit: Names = (),
        timeout_seconds: Seconds | None = None,
        lease_duration: Seconds = 300,
        strict: bool = False,
        priority: int = 0,
    ) -> None:
        """Hand calls on to `executor`, which is shut down with this one.

        Args:
            executor: runs the calls; any of `concurrent.futures`, or one that is made like them.
            names: limits that each call holds slots of while it runs.
            occupy: slots of each.
            rate_limit: limits that each submission spends a slot of.
            timeout_seconds: the longest wait for each of the two; then the call fails, or the submission does.
            lease_duration: as for `concurrency`.
            strict: an unknown limit is an error.
            priority: higher goes first.

        Raises:
            InvalidRequest: `executor` is none.
        """
        if not callable(getattr(executor, "submit", None)):
            raise InvalidRequest(
                f"the first argument must be an executor, got {executor!r}; "
                'write: LimitedExecutor(ThreadPoolExecutor(), "name")'
            )
        self._executor = executor
        self._names = names
        self._rate_limit = rate_limit
        self._hold = functools.partial(
            concurrency, names, occupy=occupy, timeout_seconds=timeout_seconds, lease_duration=lease_duration,
            strict=strict, priority=priority,
        )  # fmt: skip
        self._spend = functools.partial(
            spend, rate_limit, timeout_seconds=timeout_seconds, strict=strict, priority=priority
        )

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn(*args, **kwargs)` called within the limits; waits here while the rate does not allow it.

        Raises:
            ConcurrencySlotAcquisitionError: its turn at the rate limit did not come. The call was not made.
        """
        if self._rate_limit:
            self._spend()
        if not self._names:
            return self._executor.submit(fn, *args, **kwargs)
        call: Callable[[], T] = functools.partial(_call, self._hold, fn, args, kwargs)
        return self._executor.submit(call)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the other executor down; see `concurrent.futures.Executor.shutdown`."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


def _call(
    hold: Callable[[], Block],
    fn: Callable[..., T],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> T:
    """Call within a block; stands here by name so that a pool of processes finds it."""
    with hold():
        result = fn(*args, **kwargs)
        refuse_unfinished(result, name_of(fn))
        return result
