"""Whatever exception arrives from outside, at whatever instant: the caller sees it, and nothing is left behind."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

import ebbgate
from ebbgate import AsyncClient, Client
from ebbgate.client.connect import close_gate
from tests.interrupts.raising import (
    KINDS,
    Boom,
    SoftLimit,
    alarm,
    assert_nothing_is_left,
    attempts,
    set_in_thread,
)
from tests.serving import served

# Not by a signal: these tests use the same timer as the plugin would.
pytestmark = [
    pytest.mark.long,  # one run of several did not end in a minute; until that is understood, not in `make test`
    pytest.mark.timeout(300, method="thread"),
    # An exception may arrive after a block is made and before it is entered.
    pytest.mark.filterwarnings("ignore::ebbgate.errors.NeverEnteredWarning"),
    # What an interrupted opening had open is closed by the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

FEW: Final = 150
MANY: Final = 20_000

COUNTS: Final = [pytest.param(FEW, marks=pytest.mark.slow), pytest.param(MANY, marks=pytest.mark.long)]
SEED: Final = int(os.environ.get("EBBGATE_FAULT_SEED", "0")) or Random().randrange(1 << 30)


@pytest.fixture(params=["file", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"sqlite:///{tmp_path}/limits.db"
        return
    with served("memory://") as here:
        yield here.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        client.create_limit("slot", 1)
        client.create_limit("rate", 1_000_000, slot_decay_per_second=1_000_000)
        yield client
    close_gate(url)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what the test left in tracebacks, under its own filters of warnings."""
    yield
    gc.collect()


@pytest.fixture
def file_client(tmp_path: Path) -> Iterator[Client]:
    with Client(f"sqlite:///{tmp_path}/limits.db") as client:
        client.create_limit("slot", 1)
        client.create_limit("rate", 1_000_000, slot_decay_per_second=1_000_000)
        yield client


def typical_seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes once it is warm."""
    took = []
    for _ in range(30):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return sorted(took)[len(took) // 2]


def acquires_within_a_second(url: str) -> bool:
    """Tell whether another process gets the slot."""
    program = (
        "import sys, ebbgate\n"
        "with ebbgate.Client(sys.argv[1]).concurrency('slot', timeout_seconds=1, strict=True): print('in')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=False)
    return done.stdout == "in\n"


def hold(client: Client) -> None:
    with client.concurrency("slot", timeout_seconds=30):
        pass


def spend(client: Client) -> None:
    client.rate_limit("rate")


def wait_behind_another(client: Client) -> None:
    with contextlib.suppress(ebbgate.errors.AcquireTimeout):
        client.rate_limit(["slow"], occupy=10, timeout_seconds=0.003)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("work", [hold, spend], ids=lambda work: work.__name__)
def test_an_exception_of_a_signal_handler_arrives_as_itself_and_leaves_nothing(
    client: Client, kind: type[BaseException], work: Callable[[Client], object], count: int
) -> None:
    longest = 1.5 * typical_seconds(lambda: work(client)) + 20e-6
    # The kinds share the long run between them.
    share = count if count == FEW else count // len(KINDS)
    arrived, wrong = attempts(share, SEED, lambda: work(client), kind, longest)
    assert not wrong, f"seed {SEED}"
    assert arrived > share // 10
    assert_nothing_is_left(client, "slot", "rate" if work is hold else "slot")
    assert acquires_within_a_second(client.url)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Boom, SoftLimit])
def test_an_interrupted_wait_leaves_no_place_in_the_queue(client: Client, kind: type[BaseException]) -> None:
    client.create_limit("slow", 10, slot_decay_per_second=0.001)
    client.rate_limit("slow", occupy=10)
    _, wrong = attempts(FEW, SEED, lambda: wait_behind_another(client), kind, 0.004)
    assert not wrong, f"seed {SEED}"
    deadline = time.monotonic() + 5
    while client.read_limit("slow").waiting:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", [Boom, SoftLimit])
def test_an_exception_set_in_a_thread_ends_its_call_and_leaves_nothing(
    file_client: Client, kind: type[BaseException], count: int
) -> None:
    """`PyThreadState_SetAsyncExc`, as soft time limits of thread pools use it."""
    random = Random(SEED)
    share = count if count == FEW else count // 2
    seen: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                while not over.is_set():
                    with file_client.concurrency("slot", timeout_seconds=30):
                        pass
            except BaseException as error:
                seen.append(error)

    hold(file_client)  # CPython may hand the exception to a thread that the thread is just starting
    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(share):
            set_in_thread(thread, kind)
            deadline = time.monotonic() + 30
            again = time.monotonic() + 1
            while len(seen) <= number and time.monotonic() < deadline:
                threading.Event().wait(random.uniform(0, 0.002))
                if time.monotonic() > again:  # CPython gave it to a thread that the thread was just starting
                    set_in_thread(thread, kind)
                    again += 1
            assert len(seen) > number, f"seed {SEED}: exception {number} did not arrive"
    finally:
        over.set()
        thread.join(30)
    assert {type(error) for error in seen} == {kind}
    assert_nothing_is_left(file_client, "slot")
    assert acquires_within_a_second(file_client.url)


@pytest.mark.parametrize("count", COUNTS)
def test_a_task_cancelled_at_any_instant_leaves_nothing(client: Client, count: int) -> None:
    mine = AsyncClient(client.url)
    random = Random(SEED)

    async def work() -> None:
        async with mine.concurrency("slot"):
            await asyncio.sleep(random.choice([0, 0.0005]))
        await mine.rate_limit("rate")

    async def main() -> None:
        for _ in range(count // 10):
            tasks = [asyncio.create_task(work()) for _ in range(10)]
            for task in tasks:
                await asyncio.sleep(random.uniform(0, 0.0005))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert_nothing_is_left(client, "slot")
    assert acquires_within_a_second(client.url)


INTERRUPTED_LOOPS: Final = """
import asyncio, contextlib, signal, sys, time, warnings
from random import Random
from ebbgate import AsyncClient
url, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
warnings.simplefilter("ignore")  # what asyncio says of its own loops
mine, random = AsyncClient(url), Random(seed)
async def main():
    for _ in range(4):
        async with mine.concurrency("slot"):
            await asyncio.sleep(0)
        await mine.rate_limit("rate")
asyncio.run(main())
begun = time.perf_counter()
asyncio.run(main())
longest = 1.5 * (time.perf_counter() - begun)
def interrupt(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
for _ in range(count):
    with contextlib.suppress(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, longest))
        asyncio.run(main())
        signal.setitimer(signal.ITIMER_REAL, 0)
print("done", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("count", COUNTS)
def test_an_interrupted_event_loop_leaves_nothing(file_client: Client, count: int) -> None:
    """Ctrl-C ends one `asyncio.run` after the other, at any instant; the process lives on."""
    share = count if count == FEW else count // 10  # each makes a loop of its own
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_LOOPS, file_client.url, str(share), str(SEED)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "done\n", f"seed {SEED}"
        assert_nothing_is_left(file_client, "slot", within_seconds=5)
        assert acquires_within_a_second(file_client.url)
    finally:
        program.kill()
        program.communicate()


def test_an_exception_while_a_client_is_opened_or_closed_leaves_it_usable(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    with Client(url) as client:
        client.create_limit("slot", 1)

    def open_and_close() -> None:
        with Client(url) as client:
            hold(client)
        close_gate(url)

    longest = 1.5 * typical_seconds(open_and_close)
    _, wrong = attempts(60, SEED, open_and_close, Boom, longest)
    assert not wrong, f"seed {SEED}"
    close_gate(url)
    with Client(url) as client:
        assert_nothing_is_left(client, "slot", within_seconds=2)
    assert acquires_within_a_second(url)


def test_a_kept_traceback_keeps_no_slot(client: Client) -> None:
    """As in a notebook, where `sys.last_traceback` lives on."""
    kept: list[BaseException] = []
    with alarm(Boom) as (arm, _):
        longest = 1.5 * typical_seconds(lambda: hold(client))
        random = Random(SEED)
        for _ in range(FEW):
            try:
                arm(random.uniform(1e-6, longest))
                hold(client)
                arm(0)
            except Boom as error:
                kept.append(error)
    assert kept
    assert_nothing_is_left(client, "slot")


def test_a_signal_handler_that_acquires_while_a_call_is_interrupted_gets_a_named_error(
    tmp_path: Path,
) -> None:
    with Client(f"sqlite:///{tmp_path}/limits.db") as client:
        client.create_limit("slot", 1)
        gate: Any = client.gate
        with gate._mutex.lock, pytest.raises(ebbgate.errors.StoreUnavailable, match="signal handler"):
            client.rate_limit("slot")
        hold(client)
