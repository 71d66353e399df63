"""Refusals and warnings for blocks that would protect nothing, and for objects that cannot be pickled."""

import sys
import warnings
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from functools import partial
from types import CodeType
from typing import ClassVar, Final, NoReturn

from ebbgate.client.terms import Terms
from ebbgate.errors import InvalidUse, NeverEnteredWarning

Site = tuple[CodeType, int]
"""A place in the source: a code object and the index of an instruction in it."""

NEVER_ENTERED: Final = "this block was never entered, so it cannot be left; write: {} concurrency(...):"

_FINISHED: Final = frozenset({bool, int, float, str, bytes, list, dict, tuple, set})
"""Types of results that need no closer look."""

_shown: Final[
    dict[str | tuple[str, type[Warning], int], int]
] = {}  # the registry of `warnings`: each line warns once


class NotPickled:
    """Base of objects that belong to one process: pickling or copying one raises a named error."""

    __slots__ = ()

    _instead: ClassVar[str]

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise InvalidUse(f"{type(self).__name__} objects cannot be pickled or copied; {self._instead}")


def check_event_loop() -> None:
    """Refuse to go on without a running event loop of asyncio.

    Raises:
        InvalidUse: none runs on this thread, as under trio.
    """
    running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running_loop is not None and running_loop() is not None:
        return
    raise InvalidUse(
        "ebbgate.asyncio needs a running asyncio event loop, and none runs on this thread; with trio or another "
        "framework, use ebbgate.sync in a worker thread, such as: await trio.to_thread.run_sync(work)"
    )


def blocks_greenlets() -> bool:
    """Return whether a sync call would block all greenlets of gevent: it runs in one and nothing is patched."""
    gevent = sys.modules.get("gevent")
    if gevent is None:
        return False
    current, greenlet = getattr(gevent, "getcurrent", None), getattr(gevent, "Greenlet", None)
    if current is None or greenlet is None or not isinstance(current(), greenlet):
        return False
    is_patched = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    return is_patched is None or not is_patched("threading")


def site() -> Site:
    """Return the place that called the caller of this function. The line is found only if a warning needs it."""
    frame = sys._getframe(2)
    return frame.f_code, frame.f_lasti


def warn_of_never_entered(made: Site | None, terms: Terms, right: str) -> None:
    """Warn that a block is collected that was neither entered nor used as a decorator.

    Args:
        made: where it was made; None if it was used.
        terms: of the block.
        right: what to write instead.
    """
    if made is None or not terms.slots or terms.quiet or sys.is_finalizing():
        return
    code, index = made
    lines = [line for start, end, line in code.co_lines() if start <= index < end and line]
    message = f"{shown(terms)} was never entered, so nothing was protected; write: {right}"
    warnings.warn_explicit(
        message,
        NeverEnteredWarning,
        code.co_filename,
        lines[0] if lines else code.co_firstlineno,
        registry=_shown,
    )


def shown(terms: Terms) -> str:
    """Return how a call of `concurrency` is shown."""
    slots = [f"{name!r}" if number == 1 else f"{name!r}: {number}" for name, number in terms.slots]
    return f"concurrency({', '.join(slots)})"


def name_of(function: object) -> str:
    """Return the name of anything that can be called."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def refuse_unfinished(result: object, name: str) -> None:
    """Refuse the result of a call whose work goes on after the call, when its slots are released.

    Args:
        result: of the call.
        name: of the function.

    Raises:
        InvalidUse: the result is a coroutine or another awaitable, a generator, a future or a context manager.
    """
    if result is None or type(result) in _FINISHED:
        return
    if isinstance(result, Generator) and not isinstance(result, Awaitable):
        kind, right = "a generator", f"write `with concurrency(...)` inside {name}"
        result.close()
    elif isinstance(result, AsyncGenerator):
        kind, right = "an async generator", f"write `async with concurrency(...)` inside {name}"
    elif isinstance(result, _GeneratorContextManager | _AsyncGeneratorContextManager):
        kind, right = "a context manager", "decorate the code that enters it, or enter a block beside it"
    elif hasattr(type(result), "add_done_callback"):
        kind, right = "a future", "wait for its result inside the block, or decorate what the future runs"
        getattr(result, "cancel", int)()
    elif isinstance(result, Awaitable):
        kind, right = f"a {type(result).__name__}", f"write `async def {name}` and await it there"
        getattr(result, "close", int)()
    else:
        return
    raise InvalidUse(
        f"{name}() returned {kind}, whose work would go on after the slots are released, so it was stopped; {right}"
    )
