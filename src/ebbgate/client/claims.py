"""Claims: the leases that callers of this process are acquiring or holding, and which have lost their caller.

A caller can vanish without releasing. An exception from a signal handler (Ctrl-C in a notebook, a soft time limit)
or from `PyThreadState_SetAsyncExc` can arrive between any two steps of entering or leaving a block. Python code cannot
prevent that, so every lease has a claim, made before the lease is requested. A claim is a weak reference to an object
that lives exactly as long as the caller's `with` statement. When that object is gone and the claim was not withdrawn,
the lease is abandoned, and the renewer thread releases it.

The object is what the `with` statement looks up as `__exit__`: CPython does so before it calls `__enter__`, and keeps
the result on the frame's stack until the statement ends in any way. The callbacks of the weak references are C
functions, so that no exception is lost in them.
"""

import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from ebbgate.client.gate import Place


class Claim(weakref.ref[object]):
    """A weak reference to what lives as long as the caller, and the lease that the caller uses."""

    __slots__ = ("lease_id", "place")

    lease_id: str
    place: "Place"


class Claims:
    """The claims of one backend. Used from any thread; each step that changes something is a single C call."""

    def __init__(self) -> None:
        """Make an empty set of claims."""
        self.added = 0  # counts claims; a change tells that the process is acquiring
        self._claims: Final[dict[str, Claim]] = {}
        self._dead: Final[deque[weakref.ref[object]]] = deque()

    def __len__(self) -> int:
        """Return the number of leases in use."""
        return len(self._claims)

    def add(self, alive: object, lease_id: str, place: "Place") -> None:
        """Claim a lease that is about to be requested.

        Args:
            alive: lives as long as the caller.
            lease_id: of the lease.
            place: where the lease is requested, and released.
        """
        claim = Claim(alive, self._dead.append)
        claim.lease_id = lease_id
        claim.place = place
        self._claims[lease_id] = claim
        self.added += 1

    def withdraw(self, lease_id: str) -> None:
        """Withdraw a claim: the lease was released, or was never granted."""
        self._claims.pop(lease_id, None)

    def abandoned(self) -> list[Claim]:
        """Withdraw and return the claims whose callers are gone."""
        found: list[Claim] = []
        while self._dead:
            claim = self._dead.popleft()
            assert isinstance(claim, Claim), "only claims have this callback"
            if self._claims.get(claim.lease_id) is claim:
                del self._claims[claim.lease_id]
                found.append(claim)
        return found


class Token:
    """An object with no other purpose than to be referenced by one caller."""

    __slots__ = ("__weakref__",)


class _Block(Protocol):
    """A context manager that remembers what its `with` statement holds."""

    _alive: "weakref.ref[object] | None"


class ExitMethod:
    """Descriptor for `__exit__` and `__aexit__`: each lookup on an instance returns a new callable.

    The callable is an instance of `functools.partial`, implemented in C: an interrupted call keeps the block in the
    frames of its traceback, but not the callable, so the claim ends although the traceback may live on.
    A lookup on the class, as `contextlib.ExitStack` does it, returns the plain function.
    """

    def __init__(self, leave: Callable[..., Any], *, is_async: bool = False) -> None:
        """Wrap the method.

        Args:
            leave: the method.
            is_async: whether it returns a coroutine. The `with` statement drops the callable when it has called it,
                so the coroutine must keep the claim alive: it gets a token as its argument `token`.
        """
        self._leave = leave
        self._is_async = is_async
        self.__doc__ = leave.__doc__

    def __get__(self, block: "_Block | None", owner: type | None = None) -> Callable[..., Any]:
        """Return what the `with` statement calls in the end."""
        if block is None:
            return self._leave
        if self._is_async:
            token = Token()
            block._alive = weakref.ref(token)
            return partial(self._leave, block, token=token)
        leave = partial(self._leave, block)
        block._alive = weakref.ref(leave)
        return leave


def alive_of(block: "_Block") -> object:
    """Return what lives as long as the `with` statement that enters `block`; without one, the block itself.

    A block that is entered without a `with` statement, by `ExitStack` or by a call of `__enter__`, is claimed only
    until it is entered: a program may hold slots until it ends without keeping the block.
    """
    alive = block._alive
    return (alive() if alive is not None else None) or block


def has_with_statement(block: "_Block") -> bool:
    """Tell whether `block` is entered by a `with` statement."""
    return block._alive is not None and block._alive() is not None
