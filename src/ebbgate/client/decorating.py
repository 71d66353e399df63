"""The decorator: every call of a function runs in a block of its own."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ebbgate.client import blocks
from ebbgate.client.misuse import name_of, refuse_unfinished
from ebbgate.client.terms import Terms
from ebbgate.errors import InvalidUse

if TYPE_CHECKING:
    from ebbgate.client.client import Client

P = ParamSpec("P")
T = TypeVar("T")


def decorated(function: Callable[P, T], client: "Callable[[], Client]", terms: Terms) -> Callable[P, T]:
    """Return `function` with every call inside a block of its own.

    Raises:
        InvalidUse: it is a generator, whose body runs after the call is over, a class, or not callable.
    """
    from ebbgate.client.async_blocks import AsyncBlock
    from ebbgate.client.client import Block

    if isinstance(function, staticmethod | classmethod):
        return type(function)(decorated(function.__func__, client, terms))
    name = name_of(function)
    body = _body(function)
    if inspect.isclass(function):
        raise InvalidUse(f"{name} is a class; decorate its methods: write @concurrency(...) above each `def`")
    if not _is_callable(function):
        raise InvalidUse(f"{function!r} is not callable; write @concurrency(...) above a `def`")
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        kind = "with" if inspect.isgeneratorfunction(body) else "async with"
        raise InvalidUse(
            f"{name}() is a generator: its body runs after the call, without the slots; "
            f"write `{kind} concurrency(...)` inside it"
        )
    if inspect.iscoroutinefunction(body):

        @functools.wraps(function)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> object:
            async with AsyncBlock(client, terms):
                result: object = await function(*args, **kwargs)  # type: ignore[misc]  # T is awaitable here
                refuse_unfinished(result, name)
                return result

        return call_async  # type: ignore[return-value]  # its result is the coroutine that T stands for

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        blocks.warn_of_blocking(terms, f"async def {name}")
        with Block(client, terms):
            result = function(*args, **kwargs)
            refuse_unfinished(result, name)
            return result

    return call


def _is_callable(function: object) -> bool:
    return callable(function)


def _body(function: object) -> object:
    """Return the function whose body runs: of a partial its function, of an object its `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - it is read, not tested
