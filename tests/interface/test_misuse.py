"""No block is silently unprotected: what is not protected is refused or warned of, with what to write instead."""

import asyncio
import contextlib
import copy
import functools
import gc
import pickle
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, ParamSpec, Protocol, TypeVar

import pytest

import ebbgate.asyncio
import ebbgate.sync
from ebbgate import AsyncClient, Client
from ebbgate.client.async_blocks import AsyncBlock
from ebbgate.client.client import Block
from ebbgate.errors import InvalidRequest, InvalidUse, NestedWaitWarning, NeverEnteredWarning
from ebbgate.integrations.executor import LimitedExecutor
from tests.interface.helpers import wait_for_waiters

P = ParamSpec("P")
T = TypeVar("T")


class _Decorates(Protocol):
    def __call__(self, function: Callable[P, T], /) -> Callable[P, T]: ...


Hold = Callable[..., _Decorates]
FACES: Final[tuple[Hold, ...]] = (ebbgate.sync.concurrency, ebbgate.asyncio.concurrency)


@pytest.fixture(autouse=True)
def _limit(client: Client) -> None:
    client.create_limit("db", 1)


def _unprotected() -> None:
    pytest.fail("the body runs without the slots")


async def _work() -> None:
    _unprotected()


def _rows() -> Iterator[int]:
    _unprotected()
    yield 1


async def _async_rows() -> AsyncIterator[int]:
    _unprotected()
    yield 1


class _Awaitable:
    def __await__(self) -> Iterator[None]:
        _unprotected()
        yield


UNFINISHED: Final[dict[str, Callable[[], object]]] = {
    "coroutine": _work,
    "awaitable": _Awaitable,
    "generator": _rows,
    "async generator": _async_rows,
    "context manager": contextlib.contextmanager(_rows),
    "async context manager": contextlib.asynccontextmanager(_async_rows),
    "future": Future,
}


@pytest.mark.parametrize("kind", UNFINISHED)
@pytest.mark.parametrize("hold", FACES)
def test_a_call_whose_work_goes_on_after_its_slots_are_released_is_refused(
    client: Client, hold: Hold, kind: str
) -> None:
    @hold("db")
    def plain() -> object:
        return UNFINISHED[kind]()

    @hold("db")
    async def unawaited() -> object:
        return UNFINISHED[kind]()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as: a coroutine was never awaited
        with pytest.raises(InvalidUse, match=r"plain\(\) returned an? .*(write|decorate|wait)"):
            plain()
        with pytest.raises(InvalidUse, match=r"unawaited\(\) returned"):
            asyncio.run(unawaited())
        with LimitedExecutor(ThreadPoolExecutor(1), "db") as executor, pytest.raises(InvalidUse):
            executor.submit(UNFINISHED[kind]).result()
        gc.collect()
    assert client.read_limit("db").held_slots == 0


def test_a_task_that_a_decorated_function_returns_is_cancelled() -> None:
    @ebbgate.asyncio.concurrency("db", suppress_warnings=True)
    def start() -> "asyncio.Task[None]":
        return asyncio.create_task(_work())

    async def main() -> None:
        with pytest.raises(InvalidUse, match=r"start\(\) returned a future"):
            start()
        await asyncio.sleep(0)

    asyncio.run(main())


class _Called:
    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(self, number: int) -> int:
        return number * self.client.read_limit("db").held_slots


class _CalledAsync(_Called):
    async def __call__(self, number: int) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return number * self.client.read_limit("db").held_slots


@pytest.mark.parametrize("hold", FACES)
def test_whatever_can_be_called_is_protected(client: Client, hold: Hold) -> None:
    def held(number: int) -> int:
        return number * client.read_limit("db").held_slots

    async def held_async(number: int) -> int:
        await asyncio.sleep(0)
        return held(number)

    class Methods:
        @hold("db")
        def method(self) -> int:
            return held(7)

        @hold("db")
        @staticmethod
        def static_inside() -> int:
            return held(7)

        @staticmethod
        @hold("db")
        def static() -> int:
            return held(7)

        @hold("db")
        @classmethod
        def of_class(cls) -> int:
            assert cls is Methods
            return held(7)

        @hold("db")
        @staticmethod
        async def static_async() -> int:
            return held(7)

    for call in (
        hold("db")(functools.partial(held, 7)),
        hold("db")(functools.partial(functools.partial(held), number=7)),
        functools.partial(hold("db")(_Called(client)), 7),
        hold("db")(functools.partial(_Called(client), 7)),
        functools.partial(hold("db")(_Called(client).__call__), 7),
        Methods().method, Methods.static, Methods.static_inside, Methods().static_inside, Methods().of_class,
    ):  # fmt: skip
        assert call() == 7
    for start in (
        hold("db")(functools.partial(held_async, 7)),
        functools.partial(hold("db")(_CalledAsync(client)), 7),
        hold("db")(functools.partial(_CalledAsync(client), 7)),
        hold("db")(hold([])(functools.partial(held_async, 7))),
        Methods().static_async,
    ):
        assert asyncio.run(start()) == 7
    assert client.read_limit("db").held_slots == 0


@pytest.mark.parametrize("hold", FACES)
@pytest.mark.parametrize(
    "function", [_rows, _async_rows, functools.partial(_rows), functools.partial(_async_rows), Client, 7]
)
def test_what_cannot_be_protected_is_refused_where_it_is_decorated(
    hold: Hold, function: Callable[[], object]
) -> None:
    with pytest.raises(InvalidUse, match="write "):
        hold("db")(function)


def test_a_block_that_is_never_entered_is_warned_of_with_the_line_that_made_it(client: Client) -> None:
    kept: list[object] = []

    def forget_with() -> None:
        ebbgate.sync.concurrency("db")

    def forget_later() -> None:
        kept.append(ebbgate.asyncio.concurrency({"db": 2}))

    def forget_of_client() -> None:
        client.concurrency("db")

    def forget_of_async_client() -> None:
        AsyncClient().concurrency("db")

    for forget in (forget_with, forget_later, forget_of_client, forget_of_async_client):
        with pytest.warns(
            NeverEnteredWarning, match=r"never entered, so nothing was protected; write: (a|w)"
        ) as told:
            forget()
            kept.clear()
            gc.collect()
        (warning,) = told
        assert (warning.filename, warning.lineno) == (__file__, forget.__code__.co_firstlineno + 1)


def test_a_block_that_was_used_or_protects_nothing_on_purpose_is_not_warned_of(client: Client) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ebbgate.sync.concurrency("db"), pytest.raises(TimeoutError):
            client.concurrency("db", timeout_seconds=0, suppress_warnings=True).__enter__()
        ebbgate.sync.concurrency("db")(len)
        ebbgate.sync.concurrency([])
        ebbgate.asyncio.concurrency("db", suppress_warnings=True)
        gc.collect()


@pytest.mark.parametrize("names", ["", None, [], (), {}])
@pytest.mark.parametrize("hold", FACES)
def test_strict_refuses_to_protect_nothing(hold: Hold, names: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="strict=True refuses to protect nothing: names is "):
        hold(names, strict=True)
    with pytest.raises(InvalidRequest, match="strict=True refuses to protect nothing"):
        ebbgate.sync.rate_limit(names, strict=True)
    with pytest.raises(InvalidRequest, match="strict=True refuses to protect nothing"):
        asyncio.run(ebbgate.asyncio.rate_limit(names, strict=True))


def test_a_block_that_was_never_entered_is_not_left() -> None:
    with pytest.raises(InvalidUse, match=r"never entered.*write: with concurrency"):
        ebbgate.sync.concurrency("db").__exit__(None, None, None)
    with pytest.raises(InvalidUse, match=r"never entered.*write: async with concurrency"):
        asyncio.run(ebbgate.asyncio.concurrency("db", suppress_warnings=True).__aexit__(None, None, None))


def test_async_use_without_asyncio_is_refused_with_what_is_supported() -> None:
    uses: tuple[Callable[[], Coroutine[object, None, object]], ...] = (
        lambda: ebbgate.asyncio.concurrency("db").__aenter__(),
        lambda: ebbgate.asyncio.rate_limit("db"),
    )
    for use in uses:
        with pytest.raises(InvalidUse, match=r"needs a running asyncio event loop.*trio"):
            use().send(None)  # as trio does


def test_the_repr_of_a_block_says_whether_it_was_entered() -> None:
    block = ebbgate.sync.concurrency({"db": 1, "more": 2}, suppress_warnings=True)
    assert (
        repr(block)
        == "<concurrency('db', 'more': 2) of ebbgate.sync: not entered; write: with concurrency(...)>"
    )
    with ebbgate.sync.concurrency("db") as lease:
        pass
    inside = ebbgate.sync.concurrency("db")
    with inside as lease:
        assert repr(inside) == f"<concurrency('db') of ebbgate.sync: {lease!r}>"
    assert "async with" in repr(ebbgate.asyncio.concurrency("db", suppress_warnings=True))


def test_what_belongs_to_one_process_is_not_pickled_or_copied(client: Client) -> None:
    with client.concurrency("db") as lease:
        for thing in (
            lease, client, AsyncClient(client.url), Block(lambda: client, None),  # type: ignore[arg-type]
            AsyncBlock(lambda: client, None),  # type: ignore[arg-type]
        ):  # fmt: skip
            for refuse in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(
                    InvalidUse, match=f"{type(thing).__name__} objects cannot be pickled or copied; "
                ):
                    refuse(thing)


@ebbgate.sync.concurrency("db")
def module_level() -> str:
    return "done"


def test_a_decorated_function_of_a_module_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(module_level)) is module_level


def test_a_task_that_outlives_the_block_it_was_started_in_is_not_warned_of(client: Client) -> None:
    async def main() -> None:
        release = threading.Event()
        entered = asyncio.Event()
        outside = asyncio.Event()

        async def child() -> None:
            await outside.wait()
            entered.set()
            async with ebbgate.asyncio.concurrency("db"):
                pass

        def hold() -> None:
            with client.concurrency("db"):
                release.wait()

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with ebbgate.asyncio.concurrency("db"):
                task = asyncio.create_task(child())
            holder = asyncio.create_task(asyncio.to_thread(hold))
            while not (await asyncio.to_thread(client.read_limit, "db")).held_slots:
                await asyncio.sleep(0)
            outside.set()
            await entered.wait()
            await asyncio.to_thread(wait_for_waiters, client, "db", 1)
            release.set()
            await task
            await holder

    asyncio.run(main())


def test_a_task_that_waits_for_its_parents_block_is_warned_of_while_the_parent_holds_it() -> None:
    async def main() -> None:
        async def child() -> None:
            async with ebbgate.asyncio.concurrency("db"):
                pass

        with pytest.warns(
            NestedWaitWarning, match="holds 1 of them itself or through the task that started it"
        ):
            async with ebbgate.asyncio.concurrency("db"):
                task = asyncio.create_task(child())
                await asyncio.wait([task], timeout=0.5)
            await task

    asyncio.run(main())
