"""The end of the interpreter with threads that go on: their slots are kept until the process ends, or lost first."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ebbgate import Client
from ebbgate.client.connect import close_gate
from tests.serving import served

DAEMON: Final = """
import atexit, sys, threading, time, warnings
def look():  # registered before the package is imported: it runs after the package's own handler
    text = "held elsewhere" if lease.lost else "kept"
    import subprocess
    code = '''
from ebbgate.errors import AcquireTimeout
from ebbgate.sync import concurrency
try:
    with concurrency("db", timeout_seconds=1.5):
        print("inside")
except AcquireTimeout:
    print("outside")
'''
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    print("lost" if lease.lost else "held", other, flush=True)
atexit.register(look)
from ebbgate.sync import concurrency
inside = threading.Event()
def work():
    global lease
    with concurrency("db") as lease:
        inside.set()
        time.sleep(1000)
threading.Thread(target=work, daemon=True).start()
inside.wait()
"""

DAEMON_LOOP: Final = DAEMON.replace(
    "from ebbgate.sync import concurrency\ninside",
    "import asyncio\nfrom ebbgate.asyncio import concurrency\ninside",
).replace(
    """def work():
    global lease
    with concurrency("db") as lease:
        inside.set()
        time.sleep(1000)
""",
    """async def hold():
    global lease
    async with concurrency("db") as lease:
        inside.set()
        await asyncio.sleep(1000)
def work():
    asyncio.run(hold())
""",
)


@pytest.fixture(params=["file", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a store with one limit of one slot."""
    path = f"sqlite:///{tmp_path / 'limits.db'}"
    if request.param == "file":
        Client(path).create_limit("db", 1)
        yield path
        close_gate(path)
        return
    with served(path, durability="normal") as running:
        Client(running.url).create_limit("db", 1)
        yield running.url
        close_gate(running.url)


def run(code: str, url: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        [python, "-c", code], env={**os.environ, "EBBGATE_URL": url}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("code", [DAEMON, DAEMON_LOOP], ids=["thread", "event loop"])
def test_a_daemon_thread_keeps_its_slot_until_the_process_ends_or_loses_it_first(url: str, code: str) -> None:
    done = run(code, url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"held outside", "lost inside", "lost outside"}, done.stdout + done.stderr
    if url.startswith("sqlite"):
        assert done.stdout.strip() == "held outside"
    with Client(url).concurrency("db", timeout_seconds=20) as lease:
        assert lease.protected, "and then it passes on"


ENDS: Final = {
    "sys.exit inside the block": "import sys\nwith concurrency('db'):\n    sys.exit(0)",
    "sys.exit in a thread": """
import sys, threading
def work():
    with concurrency('db'):
        sys.exit(3)
thread = threading.Thread(target=work)
thread.start()
""",
    "a thread that outlives the script": """
import threading, time
def work():
    threading.main_thread().join(0.5)
    for _ in range(3):
        with concurrency('db'):
            time.sleep(0.05)
    print("worked")
threading.Thread(target=work).start()
""",
    "an event loop that outlives the script": """
import asyncio, threading, time
from ebbgate.asyncio import concurrency as hold
async def hold_it():
    for _ in range(3):
        async with hold('db'):
            await asyncio.sleep(0.05)
    print("worked")
def work():
    threading.main_thread().join(0.5)
    asyncio.run(hold_it())
threading.Thread(target=work).start()
""",
    "a pool that is left at exit": """
from concurrent.futures import ThreadPoolExecutor
import time
pool = ThreadPoolExecutor(3)
def work(_):
    with concurrency('db'):
        time.sleep(0.05)
    print("worked")
[pool.submit(work, number) for number in range(4)]
""",
    "an exit handler that acquires": """
import atexit
def work():
    with concurrency('db'):
        print("worked")
atexit.register(work)
with concurrency('db'):
    pass
""",
    "exec inside the block": """
import os, sys
with concurrency('db'):
    os.execv(sys.executable, [sys.executable, '-c', 'print("worked")'])
""",
}
SERVER_KEEPS: Final = {
    "exec inside the block"
}  # the connection breaks without a good-bye: until the lease expires


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_no_slot_stays_held_after(url: str, end: str) -> None:
    if end in SERVER_KEEPS and not url.startswith("sqlite"):
        pytest.skip(
            "a server keeps the slots of a process that ended without a good-bye until its lease expires"
        )
    done = run("from ebbgate.sync import concurrency\n" + ENDS[end], url)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    if "worked" in ENDS[end]:
        assert "worked" in done.stdout, done.stdout + done.stderr
    with Client(url).concurrency("db", timeout_seconds=20) as lease:
        assert lease.protected
