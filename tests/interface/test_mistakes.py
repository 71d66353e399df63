"""What newcomers write in Python, and the answer that names the right words."""

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

import ebbgate.asyncio
import ebbgate.sync
from ebbgate import AsyncClient, Client
from ebbgate.client import blocks
from ebbgate.errors import (
    BlockingCallWarning,
    InvalidRequest,
    LimitNotFound,
    NoAnswerWarning,
    NoSlotDecay,
    ServerUnavailable,
    UnknownLimitWarning,
)


def test_no_limit_yet_and_a_wrong_name(client: Client) -> None:
    answer = r"create it: ebbgate limit create 'databse' --limit N"
    with pytest.warns(UnknownLimitWarning, match=answer), ebbgate.sync.concurrency("databse") as lease:
        assert not lease.protected
    client.create_limit("database", 5)
    with pytest.raises(LimitNotFound, match=r"did you mean 'database'\? \(create it: "):
        ebbgate.sync.rate_limit("databaes", strict=True)


@pytest.mark.parametrize("name", ["concurrency", "rate_limit", "cool_down"])
def test_a_name_that_both_faces_have_is_asked_for_without_a_face(name: str) -> None:
    for line in (f"from ebbgate import {name}", f"import ebbgate; ebbgate.{name}"):
        with pytest.raises(
            ImportError, match=f"write: from ebbgate.sync import {name}, or: from ebbgate.asy"
        ):
            exec(line)
    with pytest.raises(ImportError, match="cannot import name 'concurency'"):
        exec("from ebbgate import concurency")


def test_the_package_alone_is_imported_and_its_faces_are_there() -> None:
    program = (
        "import ebbgate, sys; assert 'ebbgate.sync' not in sys.modules\n"
        "print(ebbgate.sync.cool_down, ebbgate.asyncio.concurrency, ebbgate.errors.LimitNotFound)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_a_library_that_is_not_there_is_answered_with_its_extra() -> None:
    program = (
        "import sys\n"
        "for module, name, extra in ('httpx',) * 3, ('requests',) * 3, ('opentelemetry', 'opentelemetry', 'otel'):\n"
        "    sys.modules[name] = None\n"
        "    try: __import__(f'ebbgate.integrations.{module}')\n"
        '    except ModuleNotFoundError as error: assert f"[{extra}]\'" in str(error), error\n'
        "    else: sys.exit(f'{name} was there')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_warning_that_is_an_error_leaves_nothing_taken(client: Client, face: str) -> None:
    client.create_limit("database", 1)

    async def enter() -> None:
        async with ebbgate.asyncio.concurrency(["database", "databse"]):
            pytest.fail("it was let in")

    with warnings.catch_warnings(), pytest.raises(UnknownLimitWarning):
        warnings.simplefilter("error", UnknownLimitWarning)
        if face == "async":
            asyncio.run(enter())
        ebbgate.sync.concurrency(["database", "databse"]).__enter__()
    assert client.read_limit("database").held_slots == 0


def test_a_rate_limit_without_a_rate(client: Client) -> None:
    client.create_limit("api", 5)
    with pytest.raises(NoSlotDecay, match="set it: ebbgate limit update 'api' --rate 10/s"):
        ebbgate.sync.rate_limit("api")


def test_who_waits_for_a_server_that_never_answers_is_told_after_two_seconds_and_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"ebbgate://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "2.8")
    answer = f"no server answers at {url} (Connection refused); start one: ebbgate serve"

    async def wait() -> None:
        async with AsyncClient(url) as there:
            with pytest.raises(ServerUnavailable):
                await there.rate_limit("api")

    with Client(url) as here, pytest.warns(NoAnswerWarning) as told:
        tasks = threading.Thread(target=asyncio.run, args=(wait(),))
        tasks.start()
        with pytest.raises(ServerUnavailable) as error:
            here.rate_limit("api")
        tasks.join()
    said = f"no answer for 2s, it is tried again: {answer}"
    assert ([str(one.message) for one in told], caplog.messages) == ([said], [said])
    assert str(error.value) == answer


def test_a_disabled_limit_is_noted_once_and_warned_of_never(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ebbgate")
    client.create_limit("off", 1, active=False, slot_decay_per_second=1.0)

    async def use() -> None:
        async with ebbgate.asyncio.concurrency("off") as lease:
            assert not lease.protected
        await ebbgate.asyncio.rate_limit("off")

    asyncio.run(use())
    with ebbgate.sync.concurrency("off"):
        ebbgate.sync.rate_limit("off")
    noted = [message for message in caplog.messages if "is disabled" in message]
    assert noted == ["limit 'off' is disabled, so it does not block (turn it on: ebbgate limit enable 'off')"]


def test_a_sync_call_in_async_code_is_warned_of_once_where_it_stands(client: Client) -> None:
    client.create_limit("db", 5, slot_decay_per_second=5.0)

    async def block() -> None:
        with ebbgate.sync.concurrency("db"):
            pass

    async def spend() -> None:
        ebbgate.sync.rate_limit("db")

    async def beside() -> None:
        await asyncio.to_thread(ebbgate.sync.rate_limit, "db")
        with ebbgate.sync.concurrency([]), ebbgate.sync.concurrency("db", suppress_warnings=True):
            pass

    asyncio.run(beside())
    for use, right in ((block, "async with concurrency(...)"), (spend, "await rate_limit(...)")):
        blocks.forget_warnings()
        with pytest.warns(BlockingCallWarning) as told:
            asyncio.run(use())
        (warning,) = told
        assert str(warning.message).endswith(f"import from ebbgate.asyncio and write: {right}")
        assert warning.filename == __file__
        asyncio.run(use())  # said once


def test_a_warning_points_at_the_line_of_who_uses_it(client: Client) -> None:
    client.create_limit("db", 5)

    def block() -> None:
        with ebbgate.sync.concurrency("unknown"):
            pass

    @ebbgate.sync.concurrency("unknown")
    def decorated() -> None:
        pass

    async def block_async() -> None:
        async with ebbgate.asyncio.concurrency("unknown"):
            pass

    async def spend_async() -> None:
        await ebbgate.asyncio.rate_limit("unknown")

    uses: list[Callable[[], object]] = [
        block,
        decorated,
        lambda: ebbgate.sync.rate_limit("unknown"),
        lambda: asyncio.run(block_async()),
        lambda: asyncio.run(spend_async()),
    ]
    for use in uses:
        blocks.forget_warnings()
        with pytest.warns(UnknownLimitWarning) as told:
            use()
        (warning,) = told
        assert warning.filename == __file__


def test_with_where_async_with_is_meant_and_the_other_way_round(client: Client) -> None:
    with (
        pytest.raises(TypeError, match="async with concurrency"),
        ebbgate.asyncio.concurrency("db"),  # type: ignore[attr-defined]  # the mistake
    ):
        pytest.fail("it is not entered")

    async def mixed_up() -> None:
        async with ebbgate.sync.concurrency("db"):  # type: ignore[attr-defined]  # the mistake
            pytest.fail("it is not entered")

    async def awaited() -> None:
        await ebbgate.asyncio.concurrency("db")  # type: ignore[misc]  # the mistake

    with pytest.raises(TypeError, match=r"for `async with`, import it from ebbgate\.asyncio"):
        asyncio.run(mixed_up())
    with pytest.raises(TypeError, match="not awaited but entered: async with"):
        asyncio.run(awaited())


def test_forgotten_parentheses(client: Client) -> None:
    def work() -> None:
        pytest.fail("it is not called")

    for module in (ebbgate.sync, ebbgate.asyncio):
        with pytest.raises(InvalidRequest, match=r'write the parentheses: @concurrency\("name"\)'):
            module.concurrency(work)  # as @concurrency does


def test_a_generator_would_run_without_the_slots(client: Client) -> None:
    def rows() -> Iterator[int]:
        yield 1

    for module in (ebbgate.sync, ebbgate.asyncio):
        with pytest.raises(TypeError, match="write `with concurrency"):
            module.concurrency("db")(rows)


def test_a_block_that_is_entered_twice(client: Client) -> None:
    client.create_limit("db", 5)
    block = ebbgate.sync.concurrency("db")
    with block, pytest.raises(RuntimeError, match=r"call concurrency\(\.\.\.\) again"), block:
        pytest.fail("it is not entered")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ebbgate.sync.concurrency("db"):
            pass
