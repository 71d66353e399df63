"""Every error and warning a user can meet, each with a stable `code` and an answer to "what now?".

The same `code` stands in problem documents, in `--output json` and in the reference.
"""

import sys
import warnings
from collections.abc import Iterable

from ebbgate.counting import counted


class EbbgateError(Exception):
    """The base of all errors of this package."""

    code = "error"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the message and the fields, which are not what the constructor of most errors takes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[EbbgateError], args: tuple[object, ...], fields: dict[str, object]) -> EbbgateError:
    """Return a pickled or copied error."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConcurrencySlotAcquisitionError(EbbgateError):
    """The base of every error that keeps a caller from getting in. Nothing was taken."""

    code = "not_acquired"


class InvalidRequest(EbbgateError, ValueError):
    """An argument has a wrong type or is out of its range. Nothing was done."""

    code = "invalid_request"


class InvalidUse(EbbgateError, TypeError):
    """The call would protect nothing or cannot work. The message says what to write instead."""

    code = "invalid_use"


class InvalidLimit(EbbgateError, ValueError):
    """A limit's name, number of slots, decay or description is not allowed. Nothing was changed."""

    code = "invalid_limit"


class LimitNotFound(ConcurrencySlotAcquisitionError, LookupError):
    """No limit has this name or id."""

    code = "limit_not_found"

    def __init__(self, names: str | Iterable[str], *, suggestion: str | None = None) -> None:
        """Name the missing limits, and the existing one that was perhaps meant."""
        self.names = (names,) if isinstance(names, str) else tuple(names)
        self.suggestion = suggestion
        listed = ", ".join(repr(name) for name in self.names)
        which = f"no limit is named {listed}" if len(self.names) == 1 else f"no limits are named {listed}"
        hint = f"; did you mean {suggestion!r}?" if suggestion else ""
        first = self.names[0] if self.names else "NAME"
        super().__init__(f"{which}{hint} (create it: ebbgate limit create {first!r} --limit N)")


class LimitExists(EbbgateError):
    """Another limit has this name already."""

    code = "limit_exists"

    def __init__(self, name: str) -> None:
        """Name the limit that is there already."""
        self.name = name
        super().__init__(f"a limit named {name!r} exists already; change it: ebbgate limit update {name!r}")


class LimitInUse(EbbgateError):
    """A limit that has holders or waiters is not deleted unless forced."""

    code = "limit_in_use"

    def __init__(self, name: str, *, holders: int, waiters: int, who: Iterable[str] = ()) -> None:
        """Tell how many hold and wait, and who."""
        self.name, self.holders, self.waiters, self.who = name, holders, waiters, tuple(who)
        listed = f": {', '.join(self.who)}" if self.who else ""
        super().__init__(
            f"limit {name!r} has {counted(holders, 'holder')} and {counted(waiters, 'waiter')}{listed}; "
            f"force it: ebbgate limit delete {name!r} --force"
        )


class NeverFits(ConcurrencySlotAcquisitionError, ValueError):
    """More slots were asked for than the limit has, so waiting would never end."""

    code = "never_fits"

    def __init__(self, name: str, *, slots: int, limit: int) -> None:
        """Tell what was asked and what there is."""
        self.name, self.slots, self.limit = name, slots, limit
        super().__init__(
            f"limit {name!r} has {counted(limit, 'slot')}, {slots} can never fit; "
            f"ask for less, or raise it: ebbgate limit update {name!r} --limit {slots}"
        )


class NoSlotDecay(ConcurrencySlotAcquisitionError, ValueError):
    """`rate_limit` needs a limit whose slots come back by themselves."""

    code = "no_slot_decay"

    def __init__(self, names: Iterable[str]) -> None:
        """Name the limits without a decay."""
        self.names = tuple(names)
        listed = ", ".join(repr(name) for name in self.names)
        first = self.names[0] if self.names else "NAME"
        super().__init__(
            f"rate_limit needs slot_decay_per_second > 0 on {listed}; "
            f"set it: ebbgate limit update {first!r} --rate 10/s"
        )


class IdReused(ConcurrencySlotAcquisitionError):
    """This lease id was used for another acquisition, or was cancelled before it was asked."""

    code = "id_reused"

    def __init__(self, lease_id: str, why: str) -> None:
        """Name the id and what it stands for."""
        self.lease_id = lease_id
        super().__init__(f"lease id {lease_id} {why}; choose a new id for every acquisition")


class NoSlotFree(ConcurrencySlotAcquisitionError):
    """No slot was free within the tries that `max_retries` allows."""

    code = "no_slot_free"

    def __init__(self, names: Iterable[str], max_retries: int) -> None:
        """Name the limits and the number of tries."""
        self.names, self.max_retries = tuple(names), max_retries
        listed = ", ".join(repr(name) for name in self.names)
        super().__init__(
            f"no slot was free on {listed} within max_retries={max_retries}; raise it, or leave it out to wait"
        )


class AcquireTimeout(ConcurrencySlotAcquisitionError, TimeoutError):
    """The caller's `timeout_seconds` ended before there was room. Nothing is held."""

    code = "acquire_timeout"

    def __init__(self, names: Iterable[str], timeout_seconds: float) -> None:
        """Name the limits and the time waited."""
        self.names, self.timeout_seconds = tuple(names), timeout_seconds
        listed = ", ".join(repr(name) for name in self.names)
        first = self.names[0] if self.names else "NAME"
        when = "now, and timeout_seconds=0 does not wait"
        if timeout_seconds:
            when = f"within {counted(float(timeout_seconds), 'second')}"
        super().__init__(f"no slot is free on {listed} {when}; see why: ebbgate limit inspect {first!r}")


class LeaseLost(EbbgateError):
    """The lease ended before its holder released it; others may hold its slots now."""

    code = "lease_lost"

    def __init__(self, lease_id: str, names: Iterable[str], why: str) -> None:
        """Name the lease, its limits and why it ended."""
        self.lease_id, self.names, self.why = lease_id, tuple(names), why
        listed = ", ".join(repr(name) for name in self.names)
        super().__init__(
            f"lease {lease_id} on {listed} was lost ({why}); "
            "what ran since then was not protected: check it; "
            "if it was renewed too late, take a longer lease_duration"
        )


class WaiterRemoved(LeaseLost, ConcurrencySlotAcquisitionError):
    """The waiter was taken out of the queue: revoked by an operator, or its process was taken for dead."""

    code = "waiter_removed"


class LeaseNotFound(EbbgateError, LookupError):
    """No lease has this id, or it ended too long ago to be remembered."""

    code = "lease_not_found"

    def __init__(self, lease_id: str) -> None:
        """Name the id."""
        self.lease_id = lease_id
        super().__init__(f"no lease has the id {lease_id}; list them: ebbgate lease ls")


class StoreUnavailable(ConcurrencySlotAcquisitionError):
    """The store cannot be reached, read or written, so nothing is granted."""

    code = "store_unavailable"

    def __init__(self, message: str, *, transient: bool = True) -> None:
        """Say what is wrong; `transient` when it may pass by itself, so that asking again makes sense."""
        self.transient = transient
        super().__init__(message)


class ServerUnavailable(ConcurrencySlotAcquisitionError):
    """No server answers at the configured address, so nothing is granted."""

    code = "server_unavailable"

    def __init__(self, message: str, *, transient: bool = True) -> None:
        """Say what is wrong; `transient` when it may pass by itself, so that asking again makes sense."""
        self.transient = transient
        super().__init__(message)


class NotAuthorized(EbbgateError):
    """The API key is missing, unknown, or not allowed to do this."""

    code = "not_authorized"


class InternalError(EbbgateError):
    """A defect of this package: the command was refused and undone, everything else goes on."""

    code = "internal"


class EbbgateWarning(UserWarning):
    """The base of all warnings of this package."""


class UnknownLimitWarning(EbbgateWarning):
    """A named limit does not exist, so it does not protect the block."""


class NeverEnteredWarning(EbbgateWarning):
    """The result of `concurrency(...)` was thrown away without being entered, so it protected nothing."""


class PrivateFileWarning(EbbgateWarning):
    """The default file lies in a container: no other container shares its limits."""


class NoAnswerWarning(EbbgateWarning):
    """No server has answered this process yet, and callers wait for one."""


class NestedWaitWarning(EbbgateWarning):
    """This caller waits for slots that it holds itself, and so would wait for ever."""


class BlockingCallWarning(EbbgateWarning):
    """A sync call waits on the thread of an event loop, and all tasks of the loop with it."""


class EventLoopClosedWarning(EbbgateWarning):
    """An event loop was closed while a task of it was inside a block; the slots of the block are released."""


class LeaseLostWarning(EbbgateWarning):
    """A lease was lost while its block ran; the block goes on unprotected."""


def warn(message: str, kind: type[EbbgateWarning]) -> None:
    """Warn, and point at the nearest line that is not of this package: how deep it lies differs from call to call."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith("ebbgate."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)
