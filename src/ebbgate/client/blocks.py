"""What the sync and the async face share around a flow: its place, the lease it leads to, and the warnings."""

import logging
import sys
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Final

from ebbgate import settings
from ebbgate.client import misuse
from ebbgate.client.flows import Caller
from ebbgate.client.gate import Gate, Place
from ebbgate.client.lease import Lease
from ebbgate.client.observing import Seen
from ebbgate.client.progress import LogWatch
from ebbgate.client.terms import Terms
from ebbgate.core.commands import Held
from ebbgate.core.model import SECOND, Slots
from ebbgate.errors import BlockingCallWarning, ServerUnavailable, StoreUnavailable, UnknownLimitWarning, warn

_log: Final = logging.getLogger("ebbgate")
_log.addHandler(logging.NullHandler())


class OwnSlots:
    """Slots of a gate that a thread or a task chain holds, until it leaves their block."""

    __slots__ = ("_alive", "gate", "lease", "slots")

    def __init__(self, gate: str, slots: Slots, lease: Lease, alive: "weakref.ref[object] | None") -> None:
        """Held from now on, as long as `alive` is, if it is given."""
        self._alive = alive
        self.gate = gate
        self.slots = slots
        self.lease = lease

    @property
    def is_held(self) -> bool:
        """Whether the block was not left, not even by an exception from outside."""
        return self.lease.is_open and (self._alive is None or self._alive() is not None)


own_holds: Final[ContextVar[tuple[OwnSlots, ...]]] = ContextVar("ebbgate_own_holds", default=())
"""What the current thread or task chain holds, the innermost block last. A task that a block started inherits a
copy, and may outlive the block; so each entry knows whether it is still held."""

_warned: Final[set[str]] = set()
_noted: Final[set[str]] = set()
_BLOCKS: Final = ""  # stands among the names that were warned of: no limit is called so


def push_own(gate: str, slots: Slots, lease: Lease, alive: "weakref.ref[object] | None") -> OwnSlots:
    """Note that the current thread or task chain holds these slots of a gate from now on."""
    own = OwnSlots(gate, slots, lease, alive)
    own_holds.set((*own_holds.get(), own))
    return own


def pop_own(own: OwnSlots) -> None:
    """Note that it no longer does; blocks may be left in any order, and in another thread or task."""
    own.lease.is_open = False
    holds = own_holds.get()
    if holds and holds[-1] is own:
        own_holds.set(holds[:-1])
    elif holds:
        own_holds.set(tuple([one for one in holds if one.is_held]))


def caller_of(gate: Gate, place: Place, lease_id: str, terms: Terms) -> Caller:
    """Return from whom a flow asks."""
    holds = own_holds.get()
    own = partial(_sum, gate.name, holds) if any(one.is_held for one in holds) else None
    return Caller(
        place.session, place.epoch, lease_id, place.address, gate.clock, connect_timeout_us, own,
        terms.find_watch or LogWatch,
    )  # fmt: skip


def connect_timeout_us() -> int:
    """Return how long to try when nothing was ever answered."""
    return round(settings.connect_timeout_seconds() * SECOND)


def _sum(gate: str, holds: tuple[OwnSlots, ...]) -> Mapping[str, int]:
    total: dict[str, int] = {}
    for own in holds:
        for name, number in own.slots if own.is_held and own.gate == gate else ():
            total[name] = total.get(name, 0) + number
    return total


def lease_of(
    gate: Gate, place: Place, terms: Terms, held: Held, started_us: int, on_loss: Callable[[Lease], None]
) -> Lease:
    """Return the lease that a flow led to; it is not renewed yet."""
    return Lease(
        held,
        terms.names,
        terms.duration_us,
        session=place.session,
        clock=gate.clock,
        sent_us=place.counted_from(held, started_us),
        waited_us=gate.clock() - started_us,
        on_loss=on_loss,
        retake=not terms.raise_on_loss,
    )


def unprotected(terms: Terms) -> Lease:
    """Return the lease of a block that nothing protects: it names no limit, or the truth cannot be reached."""
    held = Held("", 0, 0, 0, 0, protected=False)
    return Lease(
        held,
        terms.names,
        terms.duration_us,
        session="",
        clock=lambda: 0,
        sent_us=0,
        waited_us=0,
        on_loss=_ignore,
        retake=False,
    )


def _ignore(_lease: Lease) -> None:
    """Nothing is lost that was never held."""


def warn_of_unknown(terms: Terms, held: Held) -> None:
    """Warn, once a name and process, that a named limit does not exist."""
    if terms.quiet:
        return
    for name in held.unknown:
        if name in _warned:
            continue
        _warned.add(name)
        hint = f"; did you mean {held.suggestion!r}?" if held.suggestion and name == held.unknown[0] else ""
        message = (
            f"no limit is named {name!r}, so it protects nothing{hint} "
            f"(create it: ebbgate limit create {name!r} --limit N; strict=True makes this an error)"
        )
        _log.warning("%s", message)
        warn(message, UnknownLimitWarning)


def may_run(error: BaseException, terms: Terms, seen: Seen | None) -> bool:
    """Tell whether a caller that was kept out by `error` goes on all the same; say so."""
    if not (terms.run_unprotected and isinstance(error, StoreUnavailable | ServerUnavailable)):
        if seen is not None:
            seen.kept_out(error)
        return False
    _log.warning("running unprotected on %s: %s", ", ".join(terms.names), error)
    return True


def note_inactive(terms: Terms, held: Held) -> None:
    """Log, once a name and process, that a limit is disabled and so lets everybody in."""
    for name in terms.names:
        if name not in held.unknown and name not in _noted:
            _noted.add(name)
            _log.info(
                "limit %r is disabled, so it does not block (turn it on: ebbgate limit enable %r)", name, name
            )


def warn_of_blocking(terms: Terms, right: str) -> None:
    """Warn, once a process, that a sync call blocks the event loop that runs on this thread.

    Args:
        terms: of the call.
        right: how the call is to be written.
    """
    # Not imported here: asyncio costs 16 ms. Another thread may be importing it right now, and then it is in
    # `sys.modules` without its names; a thread that runs an event loop has imported all of it before.
    running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    is_in_loop = running_loop is not None and running_loop() is not None
    if not is_in_loop and not ("gevent" in sys.modules and misuse.blocks_greenlets()):
        return
    if _BLOCKS in _warned or terms.quiet or not terms.slots:
        return
    _warned.add(_BLOCKS)
    message = (
        "this sync call blocks the event loop of its thread while it waits, and for ever if a task of that loop "
        f"holds the slots; import from ebbgate.asyncio and write: {right}"
    )
    if not is_in_loop:
        message = (
            "this sync call blocks all greenlets of its thread while it waits, and indefinitely if one of them holds "
            "the slots; call gevent.monkey.patch_all() before other imports"
        )
    _log.warning("%s", message)
    warn(message, BlockingCallWarning)


def keep(gate: Gate, lease: Lease, terms: Terms, held: Held) -> None:
    """Have a lease kept alive from now on, and say what its holder should know; an error leaves it to be given back.

    Raises:
        StoreUnavailable: no thread can be started to renew it.
        UnknownLimitWarning: by the user's filters.
    """
    try:
        gate.renewer.hold(lease)
    except RuntimeError as error:
        message = f"no thread can be started to renew the lease ({error}); allow more threads: ulimit -u"
        raise StoreUnavailable(message) from error
    if not held.protected:
        note_inactive(terms, held)
    if held.unknown:
        warn_of_unknown(terms, held)


def forget_warnings() -> None:
    """Warn of every unknown name again; for tests."""
    _warned.clear()
    _noted.clear()
