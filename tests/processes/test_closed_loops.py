"""Event loops that are closed while tasks wait or are inside a block: the slots pass on, and no other caller fails."""

from typing import Final

import pytest

from tests.processes.test_exits import run, url

__all__ = ["url"]

PROLOGUE: Final = """
import asyncio, gc, threading, time, warnings
from ebbgate import Client
from ebbgate.asyncio import concurrency
from ebbgate import sync
client = Client()
def wait_until(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.005)
def waiting():
    return client.read_limit("db").waiting
def enter(loop):
    inside = asyncio.Event()
    async def hold():
        async with concurrency("db"):
            inside.set()
            await asyncio.sleep(1000)
    async def enter():
        task = asyncio.create_task(hold())
        await inside.wait()
        return task
    return loop.run_until_complete(enter())
def begin_to_wait(loop):
    async def wait():
        async with concurrency("db"):
            pass
    async def begin():
        task = asyncio.create_task(wait())
        while not await asyncio.to_thread(waiting):
            await asyncio.sleep(0.005)
        return task
    return loop.run_until_complete(begin())
"""

LOOPS: Final = {
    "a waiter": """
        with sync.concurrency("db"):
            loop = asyncio.new_event_loop()
            task = begin_to_wait(loop)
            loop.close()
            wait_until(lambda: waiting() == 0, 20)
        with sync.concurrency("db", timeout_seconds=20):
            print("passed on")
    """,
    "a waiter that is granted the slot afterwards": """
        with sync.concurrency("db"):
            loop = asyncio.new_event_loop()
            task = begin_to_wait(loop)
            loop.close()
        with sync.concurrency("db", timeout_seconds=20):
            print("passed on")
    """,
    "a waiter, in another thread": """
        tasks = []
        def work():
            loop = asyncio.new_event_loop()
            tasks.append(begin_to_wait(loop))
            loop.close()
        with sync.concurrency("db"):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            wait_until(lambda: waiting() == 0, 20)
        with sync.concurrency("db", timeout_seconds=20):
            print("passed on")
    """,
    "a holder": """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop = asyncio.new_event_loop()
            task = enter(loop)
            loop.close()
            with sync.concurrency("db", timeout_seconds=20):
                print("passed on")
        assert any(w.category.__name__ == "EventLoopClosedWarning" for w in caught), caught
    """,
    "a holder, and another loop acquires": """
        warnings.simplefilter("ignore")
        loop = asyncio.new_event_loop()
        task = enter(loop)
        loop.close()
        async def again():
            async with concurrency("db", timeout_seconds=20):
                print("passed on")
        asyncio.run(again())
        asyncio.run(again())
    """,
    "a waiter, and the next caller is of the same thread": """
        with sync.concurrency("db"):
            loop = asyncio.new_event_loop()
            task = begin_to_wait(loop)
            loop.close()
            for _ in range(20):
                client.update_limit("db", limit=2)
                client.update_limit("db", limit=1)
        async def again():
            async with concurrency("db", timeout_seconds=20):
                print("passed on")
        asyncio.run(again())
    """,
    "a waiter, at exit": """
        import atexit
        holder = sync.concurrency("db")
        holder.__enter__()
        loop = asyncio.new_event_loop()
        task = begin_to_wait(loop)
        loop.close()
        print("passed on")
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("code", LOOPS)
def test_the_slot_passes_on_when_a_loop_is_closed_with(url: str, code: str) -> None:
    lines = [line[8:] for line in LOOPS[code].splitlines()]
    quiet = ["import logging", "logging.getLogger('asyncio').disabled = True", "gc.disable()"]
    done = run(PROLOGUE + "\n".join([*quiet, *lines, "import os", "print('end', flush=True)"]), url)
    assert "Traceback" not in done.stderr.replace("Task was destroyed", ""), done.stderr
    assert done.returncode == 0, done.stderr
    assert "passed on" in done.stdout, done.stdout + done.stderr
