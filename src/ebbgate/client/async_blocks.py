"""The async face: a driver that runs flows on an event loop without ever blocking it, and the async client.

A decision on the file takes tens of microseconds, so it is made on the loop itself; only where another
thread or process is in the way, a worker thread makes it.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from ebbgate.client import blocks
from ebbgate.client.client import Client, decorated
from ebbgate.client.embedded.jobs import Job
from ebbgate.client.embedded.loop_port import LoopPort
from ebbgate.client.embedded.loop_turn import LoopTurn
from ebbgate.client.embedded.timing import GIVE_BACK_US, patience_of
from ebbgate.client.flows import Ask, Flow, GiveBack, Pause, Sizes, Wait, acquire
from ebbgate.client.ids import new_id
from ebbgate.client.lease import Lease
from ebbgate.client.terms import Terms
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Outcome, Release
from ebbgate.core.model import SECOND
from ebbgate.errors import LeaseLost, ServerUnavailable, StoreUnavailable

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate

P = ParamSpec("P")
T = TypeVar("T")

_ports: Final[dict[tuple[asyncio.AbstractEventLoop, str], LoopPort]] = {}
_turns: Final[dict[tuple[asyncio.AbstractEventLoop, str], LoopTurn]] = {}
_openings: Final["weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Task[None]]]"] = (
    weakref.WeakKeyDictionary()
)


def turn_of(gate: "EmbeddedGate") -> LoopTurn:
    """Return the way from the tasks of the running loop to the gate."""
    loop = asyncio.get_running_loop()
    turn = _turns.get((loop, gate.session))
    if turn is None:
        for key in [key for key in _turns if key[0].is_closed()]:
            del _turns[key]
        turn = _turns[loop, gate.session] = LoopTurn(gate, loop)
    return turn


def open_port(gate: "EmbeddedGate") -> LoopPort:
    """Return where the tasks of the running loop wait, made on first use."""
    loop = asyncio.get_running_loop()
    port = _ports.get((loop, gate.session))
    if port is None:
        for key in [key for key in _ports if key[0].is_closed()]:  # nobody tells when a loop ends
            _ports.pop(key).close()
        port = _ports[loop, gate.session] = LoopPort(gate, loop)
    return port


class _Driver:
    """Runs one flow."""

    def __init__(self, gate: "EmbeddedGate") -> None:
        self._gate = gate
        self._waiter: Waiter | None = None

    async def run(self, flow: Flow[T]) -> T:
        try:
            want = next(flow)
            while True:
                try:
                    reply = await self._carry_out(want)
                except BaseException as error:  # noqa: BLE001 - the flow decides what becomes of it
                    want = flow.throw(error)
                else:
                    want = flow.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _carry_out(self, want: Ask | Wait | GiveBack | Sizes | Pause) -> object:
        gate = self._gate
        if isinstance(want, Ask):
            return await self._ask(want)
        if isinstance(want, Wait):
            assert self._waiter is not None, "only what was asked for can be waited for"
            await open_port(gate).wait(self._waiter, want.until_us)
            return self._waiter.outcome
        if isinstance(want, GiveBack):
            await self._give_back(want.command)
            return None
        if isinstance(want, Sizes):
            return gate.sizes(want.names)
        await asyncio.sleep(want.duration_us / 1_000_000)
        return None

    async def _ask(self, want: Ask) -> Outcome:
        command, gate = want.command, self._gate
        self._waiter = Waiter(command.id) if want.waits and isinstance(command, Acquire) else None
        job = Job((command,), self._waiter, patience_of(want.until_us, gate.clock()))
        await turn_of(gate).carry_out(job)
        if job.error is not None:
            raise job.error
        return job.outcomes[0]

    async def _give_back(self, command: Release) -> None:
        """Release what was asked for: the asking comes before it, even if it was cancelled."""
        if self._waiter is not None:
            self._gate.forget(self._waiter)
        await give_back(self._gate, command)


async def give_back(gate: "EmbeddedGate", command: Release) -> None:
    """Release a lease; a cancellation does not keep it from being released."""
    job = Job((command,), None, GIVE_BACK_US)
    try:
        async with asyncio.timeout(GIVE_BACK_US / SECOND):
            await turn_of(gate).carry_out(job)
    except TimeoutError:
        return  # it will be carried out
    if job.error is not None:
        gate.renewer.release_later(command)


async def _opened(client: Callable[[], Client]) -> "EmbeddedGate":
    """Return the gate; opening a file may take milliseconds, so a thread does it, once for all who ask."""
    found = client()
    gate = found.open_gate()
    if gate is not None:
        return gate
    openings = _openings.setdefault(asyncio.get_running_loop(), {})
    opening = openings.get(found.url)
    if opening is None or opening.done():
        opening = openings[found.url] = asyncio.create_task(asyncio.to_thread(found.connect))
    await asyncio.shield(opening)
    return found.gate


class AsyncBlock:
    """What `concurrency(...)` returns: an async context manager that gives a `Lease`, and a decorator."""

    __slots__ = ("_client", "_gate", "_interrupted", "_lease", "_loop", "_task", "_terms")

    def __init__(self, client: Callable[[], Client], terms: Terms) -> None:
        """Not entered yet."""
        self._client = client
        self._terms = terms
        self._gate: EmbeddedGate | None = None
        self._lease: Lease | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None
        self._interrupted = False

    async def __aenter__(self) -> Lease:
        """Wait for the slots."""
        if self._lease is not None:
            raise RuntimeError("this block was entered before; call concurrency(...) again for another")
        terms = self._terms
        if not terms.slots:
            self._lease = blocks.unprotected(terms)
            return self._lease
        try:
            gate = await _opened(self._client)
            started_us = gate.clock()
            place = blocks.place_of(gate, new_id(), open_port(gate).address)
            held = await _Driver(gate).run(acquire(terms, place))
        except (StoreUnavailable, ServerUnavailable) as error:
            if not terms.run_unprotected:
                raise
            blocks.warn_of_running_unprotected(terms, error)
            self._lease = blocks.unprotected(terms)
            return self._lease
        on_loss = gate.renewer.keep_quiet if terms.quiet else gate.renewer.tell_loss
        if terms.raise_on_loss:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.current_task()
            on_loss = self._interrupt
        self._gate = gate
        self._lease = lease = blocks.lease_of(gate, terms, held, started_us, on_loss)
        gate.renewer.hold(lease)
        blocks.push_own(gate.session, terms.slots)
        if held.unknown:
            blocks.warn_of_unknown(terms, held)
        return lease

    def _interrupt(self, _lease: Lease) -> None:
        """Cancel the block, from whatever thread noticed the loss."""
        assert self._loop is not None, "set before the lease was made"
        with contextlib.suppress(RuntimeError):  # the loop is closed: the block is over
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the slots back; with `strict`, raise `LeaseLost` if they were lost meanwhile."""
        lease, gate, terms, task = self._lease, self._gate, self._terms, self._task
        assert lease is not None, "entered before"
        self._task = None  # a loss noticed from now on does not cancel what follows the block
        if gate is None:
            return
        blocks.pop_own(gate.session, terms.slots)
        lost = lease.lost
        gate.renewer.drop(lease)
        if not gate.is_mine():
            return
        if self._interrupted and task is not None:
            task.uncancel()
        await give_back(gate, Release(lease.id, gate.session, gate.epoch))
        if not (lost and terms.raise_on_loss):
            return
        if error is None or (self._interrupted and isinstance(error, asyncio.CancelledError)):
            if self._interrupted and task is not None and task.cancelling():
                return  # somebody else cancelled it as well: that goes on
            raise LeaseLost(lease.id, lease.names, lease.why) from None

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Run every call of `function`, sync or async, inside a block of its own."""
        return decorated(function, self._client, self._terms)


async def spend(client: Callable[[], Client], terms: Terms) -> None:
    """Wait until slots of decaying limits are spent."""
    if not terms.slots:
        return
    try:
        gate = await _opened(client)
        place = blocks.place_of(gate, new_id(), open_port(gate).address)
        held = await _Driver(gate).run(acquire(terms, place))
    except (StoreUnavailable, ServerUnavailable) as error:
        if not terms.run_unprotected:
            raise
        blocks.warn_of_running_unprotected(terms, error)
        return
    if held.unknown:
        blocks.warn_of_unknown(terms, held)
