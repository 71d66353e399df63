"""The async face: a driver that runs flows on an event loop without ever blocking it, and the async client.

A decision on the file takes tens of microseconds, so it is made on the loop itself; only where another
thread or process is in the way, a worker thread makes it.
"""

import asyncio
import contextlib
import functools
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, ParamSpec, Self, TypeVar

from ebbgate.client import blocks
from ebbgate.client.client import Client, decorated
from ebbgate.client.embedded.loop_port import LoopPort
from ebbgate.client.embedded.timing import patience_of
from ebbgate.client.flows import Ask, Flow, GiveBack, Listen, Pause, Sizes, Wait, acquire
from ebbgate.client.ids import new_id
from ebbgate.client.lease import Lease
from ebbgate.client.terms import Names, OnUnavailable, Seconds, Terms, hold_terms, spend_terms
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Outcome, Release
from ebbgate.errors import LeaseLost, ServerUnavailable, StoreUnavailable
from ebbgate.wire import LeaseInfo, LimitInfo

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate

P = ParamSpec("P")
T = TypeVar("T")

_ports: Final[dict[tuple[asyncio.AbstractEventLoop, str], LoopPort]] = {}
_openings: Final["weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Task[None]]]"] = (
    weakref.WeakKeyDictionary()
)


def port_of(gate: "EmbeddedGate") -> LoopPort | None:
    """Return where the tasks of the running loop wait, if any has waited yet."""
    return _ports.get((asyncio.get_running_loop(), gate.session))


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
        self._asking: asyncio.Future[list[Outcome]] | None = None  # in a worker thread

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

    async def _carry_out(self, want: Ask | Wait | GiveBack | Listen | Sizes | Pause) -> object:
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
        if isinstance(want, Listen):
            return open_port(gate).address
        if isinstance(want, Sizes):
            return gate.sizes(want.names)
        await asyncio.sleep(want.duration_us / 1_000_000)
        return None

    async def _ask(self, want: Ask) -> Outcome:
        command = want.command
        self._waiter = Waiter(command.id) if want.waits and isinstance(command, Acquire) else None
        outcomes = self._gate.try_call((command,), self._waiter)
        if outcomes is None:
            loop = asyncio.get_running_loop()
            patience_us = patience_of(want.until_us, self._gate.clock())
            call = functools.partial(self._gate.call, (command,), self._waiter, patience_us=patience_us)
            self._asking = loop.run_in_executor(None, call)
            outcomes = await asyncio.shield(self._asking)
            self._asking = None
        return outcomes[0]

    async def _give_back(self, command: Release) -> None:
        """Release what was asked for, after the asking is over: it may be under way in a thread."""
        if self._waiter is not None:
            self._gate.forget(self._waiter)
        if self._asking is not None and not self._asking.done():
            gate = self._gate
            self._asking.add_done_callback(lambda _: gate.renewer.release_later(command))
            return
        await give_back(self._gate, command)


async def give_back(gate: "EmbeddedGate", command: Release) -> None:
    """Release a lease without blocking the loop; a cancellation does not keep it from being released."""
    with contextlib.suppress(StoreUnavailable):
        if gate.try_call((command,)) is not None:
            return
    loop = asyncio.get_running_loop()
    await asyncio.shield(loop.run_in_executor(None, gate.give_back, command))


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
            port = port_of(gate)
            place = blocks.place_of(gate, new_id(), port.address if port else "")
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
        port = port_of(gate)
        place = blocks.place_of(gate, new_id(), port.address if port else "")
        held = await _Driver(gate).run(acquire(terms, place))
    except (StoreUnavailable, ServerUnavailable) as error:
        if not terms.run_unprotected:
            raise
        blocks.warn_of_running_unprotected(terms, error)
        return
    if held.unknown:
        blocks.warn_of_unknown(terms, held)


class AsyncClient:
    """Limits, leases and their management, for asyncio. All clients of one URL share one connection.

    Args:
        url: where to connect, as `EBBGATE_URL`; None: as the environment says.
        api_key: authenticates with a server; None: as the environment says.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        """Connect on first use; see the class."""
        self._client = Client(url, api_key)

    @property
    def url(self) -> str:
        """Where it connects."""
        return self._client.url

    def concurrency(
        self,
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
        """See `ebbgate.asyncio.concurrency`."""
        terms = hold_terms(
            names, occupy, timeout_seconds, max_retries, lease_duration, strict, raise_on_lease_renewal_failure,
            suppress_warnings, priority, labels, holder, on_unavailable,
        )  # fmt: skip
        return AsyncBlock(lambda: self._client, terms)

    async def rate_limit(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: Seconds | None = None,
        strict: bool = False,
        priority: int = 0,
        on_unavailable: OnUnavailable = "raise",
    ) -> None:
        """See `ebbgate.asyncio.rate_limit`."""
        terms = spend_terms(names, occupy, timeout_seconds, strict, priority, on_unavailable)
        await spend(lambda: self._client, terms)

    async def create_limit(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float | str = 0.0,
        active: bool = True,
        description: str = "",
    ) -> LimitInfo:
        """See `Client.create_limit`."""
        return await asyncio.to_thread(
            self._client.create_limit,
            name,
            limit,
            slot_decay_per_second=slot_decay_per_second,
            active=active,
            description=description,
        )

    async def update_limit(
        self,
        name_or_id: str,
        *,
        name: str | None = None,
        limit: int | None = None,
        slot_decay_per_second: float | str | None = None,
        active: bool | None = None,
        description: str | None = None,
    ) -> LimitInfo:
        """See `Client.update_limit`."""
        return await asyncio.to_thread(
            self._client.update_limit,
            name_or_id,
            name=name,
            limit=limit,
            slot_decay_per_second=slot_decay_per_second,
            active=active,
            description=description,
        )

    async def put_limit(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float | str = 0.0,
        active: bool = True,
        description: str = "",
    ) -> LimitInfo:
        """See `Client.put_limit`."""
        return await asyncio.to_thread(
            self._client.put_limit,
            name,
            limit,
            slot_decay_per_second=slot_decay_per_second,
            active=active,
            description=description,
        )

    async def read_limit(self, name_or_id: str) -> LimitInfo:
        """See `Client.read_limit`."""
        return await asyncio.to_thread(self._client.read_limit, name_or_id)

    async def list_limits(self, prefix: str = "") -> list[LimitInfo]:
        """See `Client.list_limits`."""
        return await asyncio.to_thread(self._client.list_limits, prefix)

    async def delete_limit(self, name_or_id: str, *, force: bool = False) -> None:
        """See `Client.delete_limit`."""
        await asyncio.to_thread(self._client.delete_limit, name_or_id, force=force)

    async def list_leases(self, limit: str | None = None, state: str | None = None) -> list[LeaseInfo]:
        """See `Client.list_leases`."""
        return await asyncio.to_thread(self._client.list_leases, limit, state)

    async def list_waiters(self, limit: str | None = None) -> list[LeaseInfo]:
        """See `Client.list_waiters`."""
        return await asyncio.to_thread(self._client.list_waiters, limit)

    async def read_lease(self, lease_id: str) -> LeaseInfo:
        """See `Client.read_lease`."""
        return await asyncio.to_thread(self._client.read_lease, lease_id)

    async def revoke_lease(self, lease_id: str) -> None:
        """See `Client.revoke_lease`."""
        await asyncio.to_thread(self._client.revoke_lease, lease_id)

    async def close(self) -> None:
        """See `Client.close`."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()
