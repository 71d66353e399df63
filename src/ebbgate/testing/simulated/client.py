"""What simulated clients do: they run the real flows, hold real leases, and the real upkeep renews them.

Each writes down what it saw, and nothing else.
"""

from collections.abc import Generator, Sequence
from typing import Any, Final, Protocol, TypeVar

from ebbgate.client.flows import Ask, Caller, Flow, GiveBack, Pause, Wait, acquire
from ebbgate.client.lease import Lease
from ebbgate.client.renewal import Upkeep
from ebbgate.client.terms import Terms
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Command, Held, Outcome, Release, Waiting
from ebbgate.engine.engine import StoreCall
from ebbgate.errors import (
    AcquireTimeout,
    ConcurrencySlotAcquisitionError,
    EbbgateError,
    NoSlotFree,
    ServerUnavailable,
    StoreUnavailable,
    WaiterRemoved,
)
from ebbgate.testing import history as h
from ebbgate.testing.simulated.kernel import Bell, Process, Sleep, Until

T = TypeVar("T")
Steps = Generator[Sleep | Until | StoreCall, Any, T]

CONNECT_TIMEOUT_US: Final = 30_000_000
LATER_US: Final = 300_000_000
CALL_US: Final = 5_000_000
"""How long a background call waits for its answer."""


class Cancelled(BaseException):
    """The caller does not want to wait any more."""


class Keeper(Protocol):
    """What the renewer of a process needs."""

    name: str
    process: Process
    upkeep: Upkeep
    renew: Bell  # rung when the upkeep should look again

    @property
    def epoch(self) -> int:
        """The epoch of its session."""

    def clock(self) -> int:
        """Return the local time."""

    def true_us(self, local_us: int) -> int:
        """Return the true instant at which the local clock shows this."""

    def call(self, commands: Sequence[Command], until_us: int | None) -> Steps[Sequence[Outcome | None]]:
        """Carry out commands until the true instant `until_us`; None: nobody knows what became of one.

        Raises:
            StoreUnavailable, ServerUnavailable: nobody knows of any.
        """

    def record(self, event: h.AnyEvent) -> None:
        """Write down what this client saw."""


class Gate(Keeper, Protocol):
    """What a simulated client talks to."""

    session: str
    holding: dict[str, Lease]

    def wake(self) -> str:
        """Return where waiting callers can be told."""

    def ask(
        self, command: Acquire, waiter: Waiter, until_us: int | None, cancel_us: int | None
    ) -> Steps[Outcome | None]:
        """Carry out one command.

        Args:
            command: what is asked.
            waiter: hears what becomes of it.
            until_us: when the caller's own time is up, by the local clock.
            cancel_us: the true instant at which its caller gives up.

        Returns:
            The outcome; None when the caller has given up.
        """

    def wait(self, waiter: Waiter, bell: Bell, until_us: int | None) -> Steps[None]:
        """Return when `waiter` has its outcome, at the true instant `until_us` at most."""

    def forget(self, waiter: Waiter) -> None:
        """Stop listening for what becomes of a waiter."""

    def give_back(self, command: Release) -> Steps[bool]:
        """Release a lease within 100 ms, or have it seen to; True when it was answered."""

    def counted_from(self, held: Held, started_us: int, duration_us: int) -> int:
        """Return the local instant from which the countdown of a new lease is surely counted."""


def drive(flow: Flow[T], gate: Gate, cancel_us: int | None) -> Steps[T]:
    """Run a flow, and cancel it at the true instant `cancel_us`."""
    driver = _Driver(gate, cancel_us)
    try:
        want = next(flow)
        while True:
            try:
                reply = yield from driver.reply_to(want)
            except (EbbgateError, Cancelled) as error:
                want = flow.throw(error)
            else:
                want = flow.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except GeneratorExit:
        _bury(flow)
        raise


def _bury(flow: Flow[T]) -> None:
    """End the flow of a process that was killed: nobody carries out what it still wants."""
    try:
        flow.throw(Cancelled())
        while True:
            flow.send(None)
    except (Cancelled, StopIteration):
        pass


class _Driver:
    """Carries out what one flow wants."""

    def __init__(self, gate: Gate, cancel_us: int | None) -> None:
        self.gate = gate
        self.cancel_us = cancel_us
        self.waiter: Waiter | None = None

    def reply_to(self, want: object) -> Steps[Any]:
        gate = self.gate
        match want:
            case Ask(command=command, until_us=until_us):
                self.waiter = Waiter(command.id)
                outcome = yield from gate.ask(command, self.waiter, until_us, self.cancel_us)
                if outcome is None:
                    raise self._cancelled()
                if isinstance(outcome, Waiting):
                    gate.record(
                        h.Queued(
                            when_us=gate.process.kernel.now_us,
                            client=gate.name,
                            lease=outcome.id,
                            arrival=outcome.arrival,
                        )
                    )
                return outcome
            case Wait(until_us=until_us):
                return (yield from self._wait(until_us))
            case GiveBack(command=command):
                if self.waiter is not None:
                    gate.forget(self.waiter)
                yield from gate.give_back(command)
                return None
            case Pause(duration_us=duration_us):
                yield Sleep(duration_us)
                return None
        raise AssertionError(f"a flow wants {want!r}")

    def _wait(self, until_us: int | None) -> Steps[Any]:
        assert self.waiter is not None, "only what was asked for can be waited for"
        waiter, bell = self.waiter, Bell()
        waiter.notify = bell.ring
        ends = [self.gate.true_us(until_us)] if until_us is not None else []
        if self.cancel_us is not None:
            ends.append(self.cancel_us)
        if waiter.outcome is None:
            yield from self.gate.wait(waiter, bell, min(ends, default=None))
        if waiter.outcome is None and self._is_cancelled():
            raise self._cancelled()
        return waiter.outcome

    def _is_cancelled(self) -> bool:
        return self.cancel_us is not None and self.gate.process.kernel.now_us >= self.cancel_us

    def _cancelled(self) -> Cancelled:
        self.cancel_us = None
        return Cancelled()


def use(gate: Gate, terms: Terms, lease_id: str, hold_us: int, cancel_us: int | None) -> Steps[None]:
    """Tell the whole story of one block: ask, hold for a while, give back."""
    kernel = gate.process.kernel
    gate.record(
        h.Asked(
            when_us=kernel.now_us,
            client=gate.name,
            lease=lease_id,
            slots=dict(terms.slots),
            kind="spend" if terms.spend else "hold",
            priority=terms.priority,
            wait_us=terms.wait_us,
            duration_us=terms.duration_us,
        )
    )
    started_us = gate.clock()
    caller = Caller(
        gate.session, gate.epoch, lease_id, gate.wake(), gate.clock, lambda: CONNECT_TIMEOUT_US, None
    )
    try:
        held = yield from drive(acquire(terms, caller), gate, cancel_us)
    except (Cancelled, EbbgateError) as error:
        why, code = _why(error)
        gate.record(h.NotGranted(when_us=kernel.now_us, client=gate.name, lease=lease_id, why=why, code=code))
        return
    lease = _lease(gate, terms, held, started_us)
    gate.record(
        h.Granted(
            when_us=kernel.now_us,
            client=gate.name,
            lease=lease_id,
            token=held.token,
            arrival=held.arrival,
            at_us=held.at_us,
            protected=held.protected,
            unknown=held.unknown,
            deadline_us=-1 if terms.spend else gate.true_us(lease.deadline_us),
        )
    )
    if not terms.spend:
        yield from _hold(gate, lease, hold_us)


def _lease(gate: Gate, terms: Terms, held: Held, started_us: int) -> Lease:
    def lost(lease: Lease) -> None:
        why = "deadline" if lease.why == "not renewed in time" else lease.why
        now_us = gate.process.kernel.now_us
        gate.record(h.LossNoticed(when_us=now_us, client=gate.name, lease=lease.id, why=why))

    return Lease(
        held,
        terms.names,
        terms.duration_us,
        session=gate.session,
        clock=gate.clock,
        sent_us=gate.counted_from(held, started_us, terms.duration_us),
        waited_us=gate.clock() - started_us,
        on_loss=lost,
        retake=not terms.raise_on_loss,
    )


def _hold(gate: Gate, lease: Lease, hold_us: int) -> Steps[None]:
    kernel = gate.process.kernel
    gate.holding[lease.id] = lease
    gate.renew.ring()
    yield Sleep(hold_us)
    lost = lease.lost
    gate.holding.pop(lease.id, None)
    gate.record(h.ReleaseCalled(when_us=kernel.now_us, client=gate.name, lease=lease.id))
    answered = yield from gate.give_back(Release(lease.id, gate.session, gate.epoch))
    if answered and not lost:
        gate.record(h.Released(when_us=kernel.now_us, client=gate.name, lease=lease.id))


def _why(error: BaseException) -> tuple[str, str]:
    match error:
        case Cancelled():
            return "cancelled", ""
        case AcquireTimeout() | NoSlotFree():
            return "timeout", error.code
        case WaiterRemoved():
            return "removed", error.code
        case StoreUnavailable() | ServerUnavailable():
            return "unavailable", error.code
        case ConcurrencySlotAcquisitionError() | EbbgateError():
            return "refused", error.code
    raise AssertionError(f"an acquisition ended with {error!r}")


def renew_for_ever(keeper: Keeper) -> Steps[None]:
    """Do what `client.renewal.Renewer` does, without its thread."""
    kernel, upkeep = keeper.process.kernel, keeper.upkeep
    while True:
        yield from _renew(keeper)
        releases = upkeep.due_releases(keeper.clock())
        if releases:
            outcomes = yield from _quietly(keeper, [command for command, _ in releases])
            unknown = zip(releases, outcomes, strict=True)
            upkeep.releases += [release for release, outcome in unknown if outcome is None]
        next_us = keeper.true_us(upkeep.next_us(keeper.clock()))
        yield Until(keeper.renew, max(next_us, kernel.now_us + 1))


def _renew(keeper: Keeper) -> Steps[None]:
    kernel, upkeep = keeper.process.kernel, keeper.upkeep
    sent_us = keeper.clock()
    due = upkeep.due(sent_us)
    if not due:
        return
    for lease in due:
        keeper.record(h.RenewSent(when_us=kernel.now_us, client=keeper.name, lease=lease.id))
    outcomes = yield from _quietly(keeper, upkeep.renewals(due, keeper.epoch))
    upkeep.renewed(due, outcomes, sent_us)
    for lease, outcome in zip(due, outcomes, strict=True):
        if isinstance(outcome, Held):
            keeper.record(
                h.Renewed(
                    when_us=kernel.now_us,
                    client=keeper.name,
                    lease=lease.id,
                    token=outcome.token,
                    deadline_us=keeper.true_us(lease.deadline_us),
                )
            )


def _quietly(keeper: Keeper, commands: Sequence[Command]) -> Steps[Sequence[Outcome | None]]:
    """Carry out commands; None for those of which nobody knows what became of them."""
    try:
        return (yield from keeper.call(commands, keeper.process.kernel.now_us + CALL_US))
    except EbbgateError:
        return [None] * len(commands)
