"""The first calls of a new process, by 16 threads at once: every public entry point works, whatever it imports."""

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

THREADS: Final = 16

CALLS: Final = {
    "sync": """
        from ebbgate.sync import concurrency, rate_limit
        with concurrency("wide"):
            pass
        rate_limit("fast")
    """,
    "sync module": """
        import ebbgate
        with ebbgate.sync.concurrency("wide"):
            pass
        ebbgate.sync.cool_down("cool", 0)
    """,
    "asyncio": """
        import asyncio
        from ebbgate.asyncio import concurrency, rate_limit
        async def work():
            async with concurrency("wide"):
                pass
            await rate_limit("fast")
        asyncio.run(work())
    """,
    "Client": """
        from ebbgate import Client
        client = Client()
        client.read_limit("wide")
        with client.concurrency("wide"):
            pass
        client.rate_limit("fast")
        assert len(client.list_limits()) == 4
    """,
    "AsyncClient": """
        import asyncio
        from ebbgate import AsyncClient
        async def work():
            client = AsyncClient()
            await client.read_limit("wide")
            async with client.concurrency("wide"):
                pass
            await client.rate_limit("fast")
        asyncio.run(work())
    """,
    "decorators": """
        import asyncio
        from ebbgate.sync import concurrency
        @concurrency("wide")
        def work():
            pass
        @concurrency("wide")
        async def work_async():
            pass
        work()
        asyncio.run(work_async())
    """,
    "both modules": """
        if number % 2:
            from ebbgate.sync import concurrency
            with concurrency("wide"):
                pass
        else:
            import asyncio
            from ebbgate.asyncio import concurrency
            async def work():
                async with concurrency("wide"):
                    pass
            asyncio.run(work())
    """,
    "executor": """
        from concurrent.futures import ThreadPoolExecutor
        from ebbgate.integrations.executor import LimitedExecutor
        with LimitedExecutor(ThreadPoolExecutor(2), "wide", rate_limit="fast") as executor:
            assert list(executor.map(str, range(3))) == ["0", "1", "2"]
    """,
    "httpx": """
        import httpx
        from ebbgate.integrations.httpx import LimitedTransport
        inner = httpx.MockTransport(lambda request: httpx.Response(200))
        with httpx.Client(transport=LimitedTransport("fast", transport=inner)) as client:
            assert client.get("http://127.0.0.1/").status_code == 200
    """,
    "requests": """
        import requests
        from requests.adapters import BaseAdapter
        from ebbgate.integrations.requests import LimitedAdapter
        session = requests.Session()
        session.mount("http://", LimitedAdapter("fast"))
        try:
            session.get("http://127.0.0.1:9/", timeout=10)
        except requests.ConnectionError:
            pass  # port 9 answers nobody: what counts is that the request came so far
    """,
    "errors": """
        from ebbgate.errors import AcquireTimeout
        from ebbgate.sync import concurrency, rate_limit
        try:
            rate_limit("full", timeout_seconds=0)
            raise AssertionError("the limit is full")
        except AcquireTimeout:
            pass
        with concurrency("missing"):  # an unknown limit is warned of
            pass
    """,
    "version": """
        import ebbgate
        assert ebbgate.__version__
        from ebbgate import AsyncClient, Client
    """,
}
"""What each thread does. `number` is the number of the thread."""

SCRIPT: Final = """
import sys, threading
sys.setswitchinterval(1e-6)
{imports}
barrier = threading.Barrier({threads})
failures = []
def call(number):
{body}
def begin(number):
    barrier.wait()
    try:
        call(number)
    except BaseException as error:
        import traceback
        failures.append(traceback.format_exc())
threads = [threading.Thread(target=begin, args=(number,)) for number in range({threads})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("".join(failures[:1]) + f"{{len(failures)}} of {threads} threads failed" if failures else 0)
"""


def script(call: str, *, imported_before: bool) -> str:
    """Return the script of one process; imports are made by its threads, or by the main thread before."""
    lines = [line[8:] for line in CALLS[call].splitlines() if line.strip()]
    is_import = [line.startswith(("import", "from")) for line in lines]
    before = [line for line, is_it in zip(lines, is_import, strict=True) if is_it] if imported_before else []
    body = [line for line in lines if line not in before]
    indented = "\n".join("    " + line for line in body) or "    pass"
    return SCRIPT.format(imports="\n".join(before), threads=THREADS, body=indented)


def run(code: str, url: str) -> None:
    """Run a process to its end.

    Raises:
        AssertionError: one of its threads failed.
    """
    environment = {**os.environ, "EBBGATE_URL": url}
    environment.pop("PYTHONWARNINGS", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.fixture(params=["file", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a store with three limits."""
    path = f"sqlite:///{tmp_path / 'limits.db'}"
    if request.param == "file":
        _fill(path)
        close_gate(path)
        yield path
        return
    with served(path, durability="normal") as running:
        _fill(running.url)
        yield running.url
        close_gate(running.url)


def _fill(url: str) -> None:
    client = Client(url)
    client.create_limit("wide", 1000)
    client.create_limit("fast", 1_000_000, slot_decay_per_second=1_000_000)
    client.create_limit("full", 1, slot_decay_per_second=0.00001)
    client.rate_limit("full")
    client.create_limit("cool", 1)


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_the_first_calls_of_a_process_work_from_16_threads(url: str, call: str) -> None:
    run(script(call, imported_before=False), url)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["sync", "asyncio"])
def test_the_first_calls_work_from_16_threads_of_a_script_that_imports_at_its_top(
    url: str, call: str
) -> None:
    run(script(call, imported_before=True), url)


@pytest.mark.slow
def test_the_first_calls_of_a_process_work_from_16_threads_in_memory() -> None:
    code = CALLS["sync"].replace('"wide"', '"missing"').replace('rate_limit("fast")', "pass")
    lines = "\n".join(line[4:] for line in code.splitlines())
    run(SCRIPT.format(imports="", threads=THREADS, body=lines), "memory://")


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("imported_before", [True, False], ids=["imported before", "imported by the threads"])
@pytest.mark.parametrize("call", CALLS)
def test_the_first_calls_of_100_processes_work(url: str, call: str, imported_before: bool) -> None:
    code = script(call, imported_before=imported_before)
    for _ in range(100):
        run(code, url)
