"""Writes down what a real process sees while it uses ebbgate, for the checker to judge.

>>> with recording(Path("worker-1.jsonl"), "worker-1"):  # doctest: +SKIP
...     with concurrency("database"):
...         work()

Everything runs as ever; the recorder only looks on, at the places where a client learns something: when a
call begins, has a place in the queue, is granted or refused, when a renewal is sent and answered, when a loss
is noticed and when a block is left; the same for clients of a file and of a server. Instants are those of
`CLOCK_MONOTONIC`, which all processes of one machine share, in microseconds; deadlines that a client counts by
another clock are told by this one. Each event is in the file before the process goes on, so a kill loses none.

Whoever kills, stops or changes something writes that with `history.Recorder`; whoever is to be judged by the
checker must record all processes that use the store.

Known limits: it looks on from inside the client, so it belongs to one version of it; deadlines of clients of a
server are wrong if the machine sleeps while it records.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from ebbgate.client import async_blocks, blocks, client, flows
from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.client.flows import Caller, Flow
from ebbgate.client.lease import Lease
from ebbgate.client.remote.renewal_line import RenewalLine
from ebbgate.client.renewal import Renewer
from ebbgate.client.terms import Terms
from ebbgate.core.commands import Command, Held, Renew, Waiting
from ebbgate.errors import (
    AcquireTimeout,
    EbbgateError,
    NoSlotFree,
    ServerUnavailable,
    StoreUnavailable,
    WaiterRemoved,
)
from ebbgate.testing import history as h


def clock_us() -> int:
    """Return the one clock of all processes of a machine."""
    return time.monotonic_ns() // 1000


_WHY: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (AcquireTimeout, "timeout"),
    (NoSlotFree, "timeout"),
    (StoreUnavailable, "unavailable"),
    (ServerUnavailable, "unavailable"),
    (WaiterRemoved, "removed"),
    (EbbgateError, "refused"),
)


@contextmanager
def recording(path: Path, name: str) -> Iterator[h.Recorder]:
    """Record everything that this process sees within the block.

    Args:
        path: the file of this process, appended to.
        name: of this process in the history; one that is started anew needs a new name.
    """
    recorder = h.Recorder(path, clock_us)
    onlooker = _Onlooker(recorder, name)
    recorder.write(h.Started(when_us=clock_us(), client=name))
    with ExitStack() as places:
        places.callback(recorder.close)
        for owner in (client, async_blocks):
            places.enter_context(_instead(owner, "acquire", onlooker.acquire))
        seen_by: tuple[tuple[object, str, Callable[[_Function], _Function]], ...] = (
            (blocks, "lease_of", onlooker.lease_of),
            (Lease, "renewed", onlooker.renewed),
            (Lease, "lose", onlooker.lose),
            (Renewer, "drop", onlooker.drop),
            (EmbeddedGate, "call", onlooker.call),
            (RenewalLine, "call", onlooker.call),
        )
        for watched, place, seen in seen_by:
            places.enter_context(_instead(watched, place, seen(getattr(watched, place))))
        yield recorder


def _ahead_us(clock: Callable[[], int]) -> int:
    """Return by how much a clock is ahead of that of the history, as told when it was read most quickly."""
    read = ((clock_us(), clock(), clock_us()) for _ in range(20))
    before_us, its_us, after_us = min(read, key=lambda times: times[2] - times[0])
    return its_us - (before_us + after_us) // 2


@contextmanager
def _instead(owner: object, place: str, function: object) -> Iterator[None]:
    before = getattr(owner, place)
    setattr(owner, place, function)
    try:
        yield
    finally:
        setattr(owner, place, before)


# What is passed through to the wrapped functions is theirs to type.
_Function = Callable[..., Any]


class _Onlooker:
    """What to write down at each place."""

    def __init__(self, recorder: h.Recorder, name: str) -> None:
        self._write = recorder.write
        self._name = name
        self._arrivals: dict[str, int] = {}  # of leases that wait
        self._left: set[str] = set()  # leases whose blocks were left while it was on
        self._ahead_us: dict[
            Callable[[], int], int
        ] = {}  # of the clock of the history, by what a client counts

    def acquire(self, terms: Terms, caller: Caller) -> Flow[Held]:
        """Tell the story of `flows.acquire`, and write it down."""
        lease, name = caller.lease_id, self._name
        self._write(
            h.Asked(
                when_us=clock_us(), client=name, lease=lease, slots=dict(terms.slots),
                kind="spend" if terms.spend else "hold", priority=terms.priority, wait_us=terms.wait_us,
                duration_us=terms.duration_us,
            )
        )  # fmt: skip
        try:
            held = yield from self._listened(flows.acquire(terms, caller), lease)
        except BaseException as error:
            why = next((why for kind, why in _WHY if isinstance(error, kind)), "cancelled")
            code = getattr(error, "code", type(error).__name__)
            arrival = self._arrivals.pop(lease, 0)
            self._write(
                h.NotGranted(
                    when_us=clock_us(), client=name, lease=lease, why=why, code=code, arrival=arrival
                )
            )
            raise
        self._arrivals.pop(lease, None)
        if terms.spend:
            self._granted(held, -1)
        return held

    def _listened(self, story: Flow[Held], lease: str) -> Flow[Held]:
        """Pass on what a flow wants and is answered; write down when it is told its place in the queue."""
        want = next(story)
        while True:
            try:
                reply = yield want
            except BaseException as error:  # noqa: BLE001 - the flow decides what becomes of it
                answer: Callable[[], Any] = partial(story.throw, error)
            else:
                if isinstance(reply, Waiting) and lease not in self._arrivals:
                    self._arrivals[lease] = reply.arrival
                    event = h.Queued(
                        when_us=clock_us(), client=self._name, lease=lease, arrival=reply.arrival
                    )
                    self._write(event)
                answer = partial(story.send, reply)
            try:
                want = answer()
            except StopIteration as stop:
                held: Held = stop.value
                return held

    def _granted(self, held: Held, deadline_us: int) -> None:
        self._write(
            h.Granted(
                when_us=clock_us(), client=self._name, lease=held.id, token=held.token, arrival=held.arrival,
                at_us=held.at_us, protected=held.protected, unknown=held.unknown, deadline_us=deadline_us,
            )
        )  # fmt: skip

    def _deadline_us(self, lease: Lease) -> int:
        """Return by the clock of the history until when a client counts on a lease."""
        ahead_us = self._ahead_us.get(lease._clock)
        if ahead_us is None:
            ahead_us = self._ahead_us[lease._clock] = _ahead_us(lease._clock)
        return lease.deadline_us - ahead_us

    def lease_of(self, before: _Function) -> _Function:
        """Write down a grant with the deadline that the client counts with."""

        def lease_of(gate: object, place: object, terms: Terms, held: Held, *rest: object) -> Lease:
            lease: Lease = before(gate, place, terms, held, *rest)
            self._granted(held, self._deadline_us(lease))
            return lease

        return lease_of

    def renewed(self, before: _Function) -> _Function:
        """Write down the answer to a renewal."""

        def renewed(lease: Lease, outcome: Held, sent_us: int) -> None:
            before(lease, outcome, sent_us)
            if lease.id not in self._left:
                event = h.Renewed(
                    when_us=clock_us(), client=self._name, lease=lease.id, token=outcome.token,
                    deadline_us=self._deadline_us(lease),
                )  # fmt: skip
                self._write(event)

        return renewed

    def lose(self, before: _Function) -> _Function:
        """Write down that a client counts on a lease no more."""

        def lose(lease: Lease, why: str) -> None:
            if not lease.why and lease.id not in self._left:
                short = "deadline" if why == "not renewed in time" else why
                self._write(h.LossNoticed(when_us=clock_us(), client=self._name, lease=lease.id, why=short))
            before(lease, why)

        return lose

    def drop(self, before: _Function) -> _Function:
        """Write down that a block is left."""

        def drop(renewer: Renewer, lease: Lease) -> None:
            self._left.add(lease.id)
            self._write(h.ReleaseCalled(when_us=clock_us(), client=self._name, lease=lease.id))
            before(renewer, lease)

        return drop

    def call(self, before: _Function) -> _Function:
        """Write down that renewals are sent."""

        def call(
            gate: EmbeddedGate | RenewalLine, commands: Sequence[Command], *rest: object, **named: object
        ) -> object:
            for command in commands:
                if isinstance(command, Renew):
                    self._write(h.RenewSent(when_us=clock_us(), client=self._name, lease=command.id))
            return before(gate, commands, *rest, **named)

        return call
