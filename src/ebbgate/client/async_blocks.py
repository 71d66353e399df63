"""The async face: a driver that runs flows on an event loop without ever blocking it, and the async block."""

import asyncio
import contextlib
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, ParamSpec, TypeVar

from ebbgate.background import call_in_thread
from ebbgate.client import blocks, misuse
from ebbgate.client.claims import ExitMethod, Token, alive_of, has_with_statement
from ebbgate.client.client import Client, Spending
from ebbgate.client.decorating import decorated
from ebbgate.client.flows import Ask, Flow, GiveBack, Pause, See, Wait, acquire
from ebbgate.client.gate import Gate, LoopPlace
from ebbgate.client.lease import Lease
from ebbgate.client.observing import Seen, observers
from ebbgate.client.terms import Terms
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Held, Release
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, InvalidUse, LeaseLost
from ebbgate.wire.ids import new_id

P = ParamSpec("P")
T = TypeVar("T")

_openings: Final["weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Future[None]]]"] = (
    weakref.WeakKeyDictionary()
)


async def run(flow: Flow[T], place: LoopPlace) -> T:
    """Run a flow to its end as part of the current task and return its result."""
    waiter: Waiter | None = None
    try:
        want = next(flow)
        while True:
            try:
                reply: object = None
                if isinstance(want, Ask):
                    waiter = Waiter(want.command.id)
                    reply = await place.ask(want.command, waiter, want.until_us)
                elif isinstance(want, Wait):
                    assert waiter is not None, "only what was asked for can be waited for"
                    await place.wait(waiter, want.until_us)
                    reply = waiter.outcome
                elif isinstance(want, GiveBack):
                    if waiter is not None:  # the asking comes before it, even if it was cancelled
                        place.forget(waiter)
                    await place.give_back(want.command)
                elif isinstance(want, See):
                    reply = await place.see(want.question)
                else:
                    assert isinstance(want, Pause)
                    await asyncio.sleep(want.duration_us / SECOND)
            except BaseException as error:  # noqa: BLE001 - the flow decides what becomes of it
                want = flow.throw(error)
            else:
                want = flow.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def _opened(client: Callable[[], Client]) -> Gate:
    """Return the gate; opening a file may take milliseconds, so a thread does it, once for all who ask."""
    misuse.check_event_loop()
    found = client()
    gate = found.open_gate()
    if gate is not None:
        return gate
    openings = _openings.setdefault(asyncio.get_running_loop(), {})
    opening = openings.get(found.url)
    if opening is None or opening.done():
        opening = openings[found.url] = call_in_thread(found.connect)
    await asyncio.shield(opening)
    return found.gate


class AsyncBlock(misuse.NotPickled):
    """What `concurrency(...)` returns: an async context manager that gives a `Lease`, and a decorator."""

    __slots__ = (
        "__weakref__", "_alive", "_client", "_gate", "_interrupted", "_lease", "_loop", "_made", "_own", "_place",
        "_seen", "_task", "_terms",
    )  # fmt: skip

    _instead: ClassVar[str] = "call concurrency(...) in the process that runs the block"

    def __init__(self, client: Callable[[], Client], terms: Terms, made: misuse.Site | None = None) -> None:
        """Not entered yet; `made` is the user's line, for a block that has to be entered or used as a decorator."""
        self._made = made
        if made is not None:
            self.__class__ = UnenteredAsyncBlock
        self._own: blocks.OwnSlots | None = None
        self._client = client
        self._terms = terms
        self._gate: Gate | None = None
        self._place: LoopPlace | None = None
        self._lease: Lease | None = None
        self._seen: Seen | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None
        self._interrupted = False
        self._alive: weakref.ref[object] | None = None  # what its `async with` statement holds

    async def __aenter__(self) -> Lease:
        """Wait for the slots."""
        self.__class__ = AsyncBlock
        if self._lease is not None:
            raise RuntimeError("this block was entered before; call concurrency(...) again for another")
        terms = self._terms
        if not terms.slots:
            self._lease = blocks.unprotected(terms)
            return self._lease
        self._seen = seen = Seen(terms) if observers else None
        try:
            gate = await _opened(self._client)
            started_us = gate.clock()
            place = gate.loop_place()
            held = await self._acquire(gate, place)
        except BaseException as error:
            if not blocks.may_run(error, terms, seen):
                raise
            self._lease = lease = blocks.unprotected(terms)
            if seen is not None:
                seen.let_in(lease)
            return lease
        renewer = gate.renewer
        on_loss: Callable[[Lease], None] = renewer.keep_quiet if terms.quiet else renewer.tell_loss
        if terms.raise_on_loss:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.current_task()
            on_loss = self._interrupt
        if seen is not None:
            on_loss = seen.losing(on_loss)
        self._gate, self._place = gate, place
        self._lease = lease = blocks.lease_of(gate, place, terms, held, started_us, on_loss)
        lease.task = asyncio.current_task()
        try:
            blocks.keep(gate, lease, terms, held)
        except BaseException as error:  # such as a warning that is an error here: nobody will leave the block
            self._task = None
            gate.renewer.drop(lease)
            await place.give_back(Release(lease.id, place.session, place.epoch))
            if not blocks.may_run(error, terms, seen):
                raise
            self._gate = self._place = None
            self._lease = lease = blocks.unprotected(terms)
            if seen is not None:
                seen.let_in(lease)
            return lease
        if not has_with_statement(self):
            self._alive = None
            gate.renewer.claims.withdraw(lease.id)
        self._own = blocks.push_own(gate.name, terms.slots, lease, self._alive)
        if seen is not None:
            seen.let_in(lease)
        return lease

    async def _acquire(self, gate: Gate, place: LoopPlace) -> Held:
        lease_id = new_id()
        gate.renewer.claim(alive_of(self), lease_id, place)
        try:
            return await run(
                acquire(self._terms, blocks.caller_of(gate, place, lease_id, self._terms)), place
            )
        except EbbgateError:  # not granted; after any other exception nobody knows
            gate.renewer.claims.withdraw(lease_id)
            raise

    def _interrupt(self, _lease: Lease) -> None:
        """Cancel the block, from whatever thread noticed the loss."""
        assert self._loop is not None, "set before the lease was made"
        with contextlib.suppress(RuntimeError):  # the loop is closed: the block is over
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    async def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
        *,
        token: Token | None = None,  # noqa: ARG002 - kept until the coroutine ends; see `ExitMethod`
    ) -> None:
        """Give the slots back; with `strict`, raise `LeaseLost` if they were lost meanwhile."""
        lease, gate, place, terms, task = self._lease, self._gate, self._place, self._terms, self._task
        if lease is None:
            self.__class__ = AsyncBlock
            raise InvalidUse(misuse.NEVER_ENTERED.format("async with"))
        if self._seen is not None:
            self._seen.left(lease, error)
        self._task = None  # a loss noticed from now on does not cancel what follows the block
        if gate is None or place is None:
            return
        if self._own is not None:
            blocks.pop_own(self._own)
        lost = lease.lost
        gate.renewer.drop(lease)
        if not gate.is_mine():
            return
        if self._interrupted and task is not None:
            task.uncancel()
        if kind is GeneratorExit:  # its loop is closed, or its coroutine: nothing can be awaited any more
            return
        await place.give_back(Release(lease.id, place.session, place.epoch))
        gate.renewer.claims.withdraw(lease.id)
        if not (lost and terms.raise_on_loss):
            return
        if error is None or (self._interrupted and isinstance(error, asyncio.CancelledError)):
            if self._interrupted and task is not None and task.cancelling():
                return  # somebody else cancelled it as well: that goes on
            raise LeaseLost(lease.id, lease.names, lease.why) from None

    if TYPE_CHECKING:

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            """Leave the block."""
    else:
        __aexit__ = ExitMethod(_leave, is_async=True)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Run every call of `function`, sync or async, inside a block of its own."""
        self.__class__ = AsyncBlock
        return decorated(function, self._client, self._terms)

    def __repr__(self) -> str:
        """Show the limits, and whether the block was entered."""
        state = (
            "not entered; write: async with concurrency(...)" if self._lease is None else repr(self._lease)
        )
        return f"<{misuse.shown(self._terms)} of ebbgate.asyncio: {state}>"

    if not TYPE_CHECKING:  # a type checker knows without that these are wrong

        def __enter__(self) -> NoReturn:
            """Tell who mixes the two modules up."""
            self.__class__ = AsyncBlock
            raise TypeError(
                "concurrency of ebbgate.asyncio is entered by: async with concurrency(...); "
                "for `with`, import it from ebbgate.sync"
            )

        def __exit__(self, *_: object) -> None:
            """Never called."""

        def __await__(self) -> NoReturn:
            """Tell who awaits what is to be entered."""
            self.__class__ = AsyncBlock
            raise TypeError("concurrency(...) is not awaited but entered: async with concurrency(...)")


class UnenteredAsyncBlock(AsyncBlock):
    """A block until it is entered. Afterwards it has no `__del__`, where an exception from outside would vanish."""

    __slots__ = ()

    def __del__(self) -> None:
        """Warn of a block that protected nothing because it was never entered."""
        misuse.warn_of_never_entered(self._made, self._terms, "async with concurrency(...):")


async def spend(client: Callable[[], Client], terms: Terms) -> None:
    """Wait until slots of decaying limits are spent."""
    if not terms.slots:
        return
    seen = Seen(terms) if observers else None
    try:
        gate = await _opened(client)
        place = gate.loop_place()
        with Spending(gate, place) as spending:
            caller = blocks.caller_of(gate, place, spending.lease_id, terms)
            held = await run(acquire(terms, caller), place)
        if not held.protected:
            blocks.note_inactive(terms, held)
    except BaseException as error:
        if not blocks.may_run(error, terms, seen):
            raise
        held = None  # it goes on without
    if held is not None and held.unknown:
        blocks.warn_of_unknown(terms, held)
    if seen is not None:
        seen.let_in(None)
