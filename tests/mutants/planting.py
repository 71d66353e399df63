"""Plants a bug at run time: the text of a function, with one place changed, is compiled and put in its place.

No file is touched. Every name that refers to the function runs the bug, wherever it was imported to, and so
does every generator that is started while it is there.

Known limit: a function that uses `super()` without arguments, or a closure, cannot be changed.
"""

import inspect
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, NamedTuple

# A bug may be planted in any function, whatever it takes and returns.
Function = Callable[..., Any]


class Edit(NamedTuple):
    """One place in the text of one function."""

    where: Function
    old: str  # stands there exactly once
    new: str


@contextmanager
def planted(edits: Iterable[Edit]) -> Iterator[None]:
    """Have the functions say what the edits make of them, for the length of the block."""
    by_function: dict[FunctionType, list[Edit]] = defaultdict(list)
    for edit in edits:
        function = edit.where
        assert isinstance(function, FunctionType), f"{function} is not written in Python"
        by_function[function].append(edit)
    changed = [(function, _edited(function, of_it)) for function, of_it in by_function.items()]
    before = [(function, function.__code__) for function, _ in changed]
    try:
        for function, code in changed:
            function.__code__ = code
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def _edited(function: FunctionType, edits: list[Edit]) -> CodeType:
    text = textwrap.dedent(inspect.getsource(function))
    for _, old, new in edits:
        found = text.count(old)
        where = f"{function.__module__}.{function.__qualname__}"
        if found != 1:
            raise LookupError(f"{where} has {old!r} {found} times: the code has changed, plant this bug anew")
        text = text.replace(old, new)
    before = "\n" * (function.__code__.co_firstlineno - 1)  # so that a traceback shows the right lines
    whole = compile(before + text, function.__code__.co_filename, "exec", dont_inherit=True)
    (code,) = [
        part for part in whole.co_consts if isinstance(part, CodeType) and part.co_name == function.__name__
    ]
    return code.replace(co_qualname=function.__code__.co_qualname)
