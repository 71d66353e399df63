"""The sync face: a driver that runs flows on the calling thread, and the client whose methods users call."""

import time
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, NoReturn, ParamSpec, Self, TypeVar

from ebbgate.client import blocks, misuse
from ebbgate.client.claims import ExitMethod, alive_of, has_with_statement
from ebbgate.client.decorating import decorated
from ebbgate.client.flows import Ask, Flow, GiveBack, Pause, See, Wait, acquire
from ebbgate.client.gate import Gate, Place, ThreadPlace
from ebbgate.client.lease import Lease
from ebbgate.client.management import Management
from ebbgate.client.observing import Seen, observers
from ebbgate.client.terms import Names, OnUnavailable, Seconds, Terms, hold_terms, spend_terms
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Release
from ebbgate.errors import EbbgateError, InvalidUse
from ebbgate.wire.ids import new_id

P = ParamSpec("P")
T = TypeVar("T")


def run(flow: Flow[T], place: ThreadPlace) -> T:
    """Run a flow to its end on this thread and return its result."""
    waiter: Waiter | None = None
    try:
        want = next(flow)
        while True:
            try:
                reply: object
                if isinstance(want, Ask):
                    waiter = Waiter(want.command.id)
                    reply = place.ask(want.command, waiter, want.until_us)
                elif isinstance(want, Wait):
                    assert waiter is not None, "only what was asked for can be waited for"
                    place.wait(waiter, want.until_us)
                    reply = waiter.outcome
                elif isinstance(want, GiveBack):
                    if waiter is not None:
                        place.forget(waiter)
                    place.give_back(want.command)
                    reply = None
                elif isinstance(want, See):
                    reply = place.see(want.question)
                else:
                    assert isinstance(want, Pause)
                    time.sleep(want.duration_us / 1_000_000)
                    reply = None
            except BaseException as error:  # noqa: BLE001 - the flow decides what becomes of it
                want = flow.throw(error)
            else:
                want = flow.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result


class Block(misuse.NotPickled):
    """What `concurrency(...)` returns: a context manager that gives a `Lease`, and a decorator."""

    __slots__ = (
        "__weakref__", "_alive", "_client", "_gate", "_lease", "_made", "_own", "_place", "_seen", "_terms",
    )  # fmt: skip

    _instead: ClassVar[str] = "call concurrency(...) in the process that runs the block"

    def __init__(self, client: "Callable[[], Client]", terms: Terms, made: misuse.Site | None = None) -> None:
        """Not entered yet; `made` is the user's line, for a block that has to be entered or used as a decorator."""
        self._made = made
        if made is not None:
            self.__class__ = UnenteredBlock
        self._own: blocks.OwnSlots | None = None
        self._client = client
        self._terms = terms
        self._gate: Gate | None = None
        self._place: ThreadPlace | None = None
        self._lease: Lease | None = None
        self._seen: Seen | None = None
        self._alive: weakref.ref[object] | None = None  # what its `with` statement holds

    def __enter__(self) -> Lease:
        """Wait for the slots."""
        self.__class__ = Block
        blocks.warn_of_blocking(self._terms, "async with concurrency(...)")
        if self._lease is not None:
            raise RuntimeError("this block was entered before; call concurrency(...) again for another")
        terms = self._terms
        if not terms.slots:
            self._lease = blocks.unprotected(terms)
            return self._lease
        self._seen = seen = Seen(terms) if observers else None
        try:
            gate = self._client().gate
            place = gate.threads
            started_us = gate.clock()
            lease_id = new_id()
            gate.renewer.claim(alive_of(self), lease_id, place)
            try:
                held = run(acquire(terms, blocks.caller_of(gate, place, lease_id, terms)), place)
            except EbbgateError:  # not granted; after any other exception nobody knows
                gate.renewer.claims.withdraw(lease_id)
                raise
        except BaseException as error:
            if not blocks.may_run(error, terms, seen):
                raise
            self._lease = lease = blocks.unprotected(terms)
            if seen is not None:
                seen.let_in(lease)
            return lease
        quiet = terms.quiet or terms.raise_on_loss
        on_loss: Callable[[Lease], None] = gate.renewer.keep_quiet if quiet else gate.renewer.tell_loss
        if seen is not None:
            on_loss = seen.losing(on_loss)
        self._gate, self._place = gate, place
        self._lease = lease = blocks.lease_of(gate, place, terms, held, started_us, on_loss)
        try:
            blocks.keep(gate, lease, terms, held)
        except BaseException as error:  # such as a warning that is an error here: nobody will leave the block
            gate.renewer.drop(lease)
            place.give_back(Release(lease.id, place.session, place.epoch))
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

    def _leave(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Give the slots back; with `strict`, raise `LeaseLost` if they were lost meanwhile."""
        lease, gate, place, terms = self._lease, self._gate, self._place, self._terms
        if lease is None:
            self.__class__ = Block
            raise InvalidUse(misuse.NEVER_ENTERED.format("with"))
        if self._seen is not None:
            self._seen.left(lease, error)
        if gate is None or place is None:
            return
        if self._own is not None:
            blocks.pop_own(self._own)
        lost = lease.lost
        gate.renewer.drop(lease)
        if gate.is_mine():
            place.give_back(Release(lease.id, place.session, place.epoch))
            gate.renewer.claims.withdraw(lease.id)
            if lost and terms.raise_on_loss and error is None:
                lease.raise_if_lost()

    if TYPE_CHECKING:

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            """Leave the block."""
    else:
        __exit__ = ExitMethod(_leave)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Run every call of `function`, sync or async, inside a block of its own."""
        self.__class__ = Block
        return decorated(function, self._client, self._terms)

    def __repr__(self) -> str:
        """Show the limits, and whether the block was entered."""
        state = "not entered; write: with concurrency(...)" if self._lease is None else repr(self._lease)
        return f"<{misuse.shown(self._terms)} of ebbgate.sync: {state}>"

    if not TYPE_CHECKING:  # a type checker knows without that this is wrong

        async def __aenter__(self) -> NoReturn:
            """Tell who mixes the two modules up."""
            self.__class__ = Block
            raise TypeError(
                "concurrency of ebbgate.sync is entered by: with concurrency(...); "
                "for `async with`, import it from ebbgate.asyncio"
            )

        async def __aexit__(self, *_: object) -> None:
            """Never called."""


class UnenteredBlock(Block):
    """A block until it is entered. Afterwards it has no `__del__`, where an exception from outside would vanish."""

    __slots__ = ()

    def __del__(self) -> None:
        """Warn of a block that protected nothing because it was never entered."""
        misuse.warn_of_never_entered(self._made, self._terms, "with concurrency(...):")


class Client(Management):
    """Limits, leases and their management, for threads. All clients of one URL share one connection.

    Args:
        url: where to connect, as `EBBGATE_URL`; None: as the environment says.
        api_key: authenticates with a server; None: as the environment says.

    >>> client = Client("memory://")
    >>> client.create_limit("database", 5).limit
    5
    >>> with client.concurrency("database") as lease:
    ...     lease.protected
    True
    """

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
    ) -> Block:
        """See `ebbgate.sync.concurrency`."""
        terms = hold_terms(
            names, occupy, timeout_seconds, max_retries, lease_duration, strict, raise_on_lease_renewal_failure,
            suppress_warnings, priority, labels, holder, on_unavailable,
        )  # fmt: skip
        return Block(lambda: self, terms, misuse.site())

    def rate_limit(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: Seconds | None = None,
        strict: bool = False,
        priority: int = 0,
        on_unavailable: OnUnavailable = "raise",
    ) -> None:
        """See `ebbgate.sync.rate_limit`."""
        spend(lambda: self, spend_terms(names, occupy, timeout_seconds, strict, priority, on_unavailable))


class Spending:
    """The claim of a caller that spends: it ends with the `with` statement."""

    __slots__ = ("__weakref__", "_alive", "_gate", "_place", "lease_id")

    def __init__(self, gate: Gate, place: Place) -> None:
        """Claim nothing yet."""
        self._alive: weakref.ref[object] | None = None
        self._gate = gate
        self.lease_id = new_id()
        self._place = place

    def __enter__(self) -> Self:
        """Claim a lease."""
        self._gate.renewer.claim(alive_of(self), self.lease_id, self._place)
        return self

    def _leave(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, EbbgateError):  # after any other exception nobody knows
            self._gate.renewer.claims.withdraw(self.lease_id)

    if TYPE_CHECKING:

        def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
            """Withdraw the claim if the flow has ended."""
    else:
        __exit__ = ExitMethod(_leave)


def spend(client: Callable[[], Client], terms: Terms) -> None:
    """Wait until slots of decaying limits are spent."""
    if not terms.slots:
        return
    blocks.warn_of_blocking(terms, "await rate_limit(...)")
    seen = Seen(terms) if observers else None
    try:
        gate = client().gate
        place = gate.threads
        with Spending(gate, place) as spending:
            held = run(acquire(terms, blocks.caller_of(gate, place, spending.lease_id, terms)), place)
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
