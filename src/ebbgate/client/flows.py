"""The stories a client tells: acquire and wait, release, change a limit. No I/O: a driver carries it.

A flow is a generator. It yields what it wants (`Ask`, `GiveBack`, `Wait`, `See`, `Pause`) and is resumed with the
answer, or with the exception that ended the waiting: a cancellation, a signal. Whatever it has asked for by
then, it gives back before that exception goes on.
"""

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from ebbgate.client.progress import FindWatch, Situation
from ebbgate.client.terms import Terms
from ebbgate.client.waiting import Gone, Heard
from ebbgate.core.commands import Acquire, Ended, Held, Outcome, Refused, Release, Waiting
from ebbgate.counting import counted
from ebbgate.errors import (
    AcquireTimeout,
    ConcurrencySlotAcquisitionError,
    NestedWaitWarning,
    NoSlotFree,
    ServerUnavailable,
    StoreUnavailable,
    WaiterRemoved,
    warn,
)
from ebbgate.wire.problems import error_from
from ebbgate.wire.questions import Question, ReadLease, ReadLimit, ReadSizes
from ebbgate.wire.shapes import LeaseInfo, LimitInfo

T = TypeVar("T")

RETRY_FIRST_US: Final = 20_000
RETRY_MAX_US: Final = 1_000_000


class Ask(NamedTuple):
    """Ask for slots; the reply is the outcome, and what becomes of a lease that has to wait can be waited for."""

    command: Acquire
    until_us: int | None = None  # by the local clock: when the caller's own time is up


class GiveBack(NamedTuple):
    """Carry out a release, or see to it that it will be: never fails, is never cancelled, takes 100 ms at most."""

    command: Release


class Wait(NamedTuple):
    """Wait until something becomes of a lease; the reply is its outcome, or None at `until_us`."""

    lease_id: str
    until_us: int | None  # by the local clock


class See(NamedTuple):
    """See how things stand; the reply is the answer, or None where nobody gives it within a second."""

    question: Question


class Pause(NamedTuple):
    """Let some time pass."""

    duration_us: int


# The reply to each of these has another type, so a flow's send type cannot be narrower.
Flow = Generator[Ask | GiveBack | Wait | See | Pause, Any, T]


class Caller(NamedTuple):
    """From whom a flow asks: what the gate knows of this process."""

    session: str
    epoch: int
    lease_id: str  # fresh, random
    wake: str  # where this caller is told what becomes of it; "": nowhere
    clock: Callable[[], int]  # local, monotonic, microseconds
    connect_timeout_us: Callable[[], int]  # asked only where nothing answers
    own: (
        Callable[[], Mapping[str, int]] | None
    )  # returns the slots by name that its thread or task chain holds now
    find_watch: FindWatch | None = None  # who wants to know why a wait is long; None: nobody


def acquire(terms: Terms, caller: Caller) -> Flow[Held]:
    """Ask for slots and wait until they are granted.

    Args:
        terms: what is asked.
        caller: from whom.

    Raises:
        ConcurrencySlotAcquisitionError: they cannot be had; nothing is taken.
    """
    wait_us = terms.wait_us
    begun_us = caller.clock()
    until_us = None if wait_us is None else begun_us + wait_us
    command = Acquire(
        caller.lease_id, caller.session, caller.epoch, terms.slots, terms.duration_us, terms.spend,
        wait_us != 0, terms.strict, terms.priority, terms.labels, caller.wake,
    )  # fmt: skip
    try:
        outcome: Outcome | Gone | None = yield from _asked(command, until_us, caller)
        if caller.own is not None and isinstance(outcome, Waiting):
            yield from _warn_if_nested(terms, caller.own)
        while isinstance(outcome, Waiting | Gone):
            outcome = yield from _waited(terms, caller, begun_us, until_us)
            if isinstance(outcome, Gone):
                outcome = yield from _asked(command, until_us, caller)
        if outcome is None:
            yield GiveBack(Release(command.id, caller.session, caller.epoch))
    except GeneratorExit:  # the driver is gone: nothing can be yielded, and the claim releases the lease
        raise
    except BaseException:
        yield GiveBack(Release(command.id, caller.session, caller.epoch))
        raise
    return _held(terms, outcome)


def _waited(terms: Terms, caller: Caller, begun_us: int, until_us: int | None) -> Flow[Heard | Gone | None]:
    """Wait until something becomes of a lease, None at `until_us`; who wants to know why it is long is told."""
    watch = caller.find_watch(caller.session, terms.names) if caller.find_watch else None
    while watch is not None:
        due_us = begun_us + watch.next_us(caller.clock() - begun_us)
        if until_us is not None and until_us <= due_us:
            break
        outcome: Heard | Gone | None = yield Wait(caller.lease_id, due_us)
        if outcome is not None:
            return outcome
        waited_us = caller.clock() - begun_us
        if begun_us + waited_us >= due_us and watch.wants(waited_us):
            situation = yield from _situation(terms.names, caller.lease_id)
            watch.tell(situation, waited_us)
    outcome = yield Wait(caller.lease_id, until_us)
    return outcome


def _situation(names: tuple[str, ...], lease_id: str) -> Flow[Situation]:
    """Find out why a lease waits."""
    lease = yield See(ReadLease(lease_id))
    if not isinstance(lease, LeaseInfo):
        return Situation(names)
    holder = (yield See(ReadLease(lease.blocked_by[0]))) if lease.blocked_by else None
    limit = (yield See(ReadLimit(lease.lacks[0]))) if lease.lacks else None
    return Situation(
        names,
        lease,
        holder if isinstance(holder, LeaseInfo) else None,
        limit if isinstance(limit, LimitInfo) else None,
    )


def _warn_if_nested(terms: Terms, holding: Callable[[], Mapping[str, int]]) -> Flow[None]:
    """Warn a caller that holds itself what it waits for, and so would wait indefinitely."""
    held = holding()
    names = [name for name, _ in terms.slots if name in held]
    if not names or terms.quiet:
        return
    sizes: Mapping[str, int] = (yield See(ReadSizes(names))) or {}
    own = holding()  # a block may have been left meanwhile
    for name, slots in terms.slots:
        if name in sizes and name in own and sizes[name] - own[name] < slots:
            message = (
                f"this caller waits for {counted(slots, 'slot')} of limit {name!r}, which has {sizes[name]}, "
                f"and holds {own[name]} of them itself or through the task that started it: "
                "it cannot get them until that block is left; leave the outer block first"
            )
            warn(message, NestedWaitWarning)


def _held(terms: Terms, outcome: Outcome | None) -> Held:
    match outcome:
        case Held():
            return outcome
        case None:
            raise _out_of_time(terms)
        case Refused(code="no_slot_free"):
            raise _out_of_time(terms)
        case Refused():
            raise error_from(outcome)
        case Ended(id=lease_id, why=why):
            raise WaiterRemoved(lease_id, terms.names, why)
        case _:
            raise AssertionError(f"an acquisition ends held or refused, not {outcome!r}")


def _out_of_time(terms: Terms) -> ConcurrencySlotAcquisitionError:
    if terms.timeout_us is not None and terms.timeout_us == terms.wait_us:
        return AcquireTimeout(terms.names, terms.timeout_us / 1_000_000)
    assert terms.max_retries is not None, "only a timeout or a number of tries bounds a wait"
    return NoSlotFree(terms.names, terms.max_retries)


def _asked(command: Acquire, until_us: int | None, caller: Caller) -> Flow[Outcome]:
    """Ask until there is an answer; whoever never got one gives up at the connect timeout, or at the caller's."""
    give_up_us = -1
    begun_us = caller.clock()
    pause_us = RETRY_FIRST_US
    while True:
        try:
            outcome: Outcome = yield Ask(command, until_us)
        except (StoreUnavailable, ServerUnavailable) as error:
            if give_up_us < 0:
                give_up_us = begun_us + caller.connect_timeout_us()
                give_up_us = give_up_us if until_us is None else min(give_up_us, until_us)
            left_us = give_up_us - caller.clock()
            if left_us <= 0 or not error.transient:
                raise
            yield Pause(min(pause_us, left_us))
            pause_us = min(2 * pause_us, RETRY_MAX_US)
        else:
            return outcome
