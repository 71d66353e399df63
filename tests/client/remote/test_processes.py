"""Processes that fork, end and die, as the server and their neighbours see it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from ebbgate import Client
from tests.client.remote.conftest import Serve
from tests.client.remote.support import PATIENCE_SECONDS, Served, pass_time, wait_until


def run(program: str, server: Served, *arguments: str) -> "subprocess.Popen[str]":
    """Start a program that uses the server."""
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "EBBGATE_URL": server.url},
    )  # fmt: skip


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_program_that_ends_gives_back_what_it_holds_before_it_would_be_taken(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 3)
    program = """
        import asyncio
        from ebbgate.sync import concurrency
        from ebbgate.asyncio import concurrency as in_task

        concurrency("db").__enter__()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(in_task("db").__aenter__())
        asyncio.run(in_task("db").__aenter__())
        loop.close()
        print("held", flush=True)
        input()
    """
    process = run(program, server)
    assert first_line(process) == "held"
    assert client.read_limit("db").held_slots == 3
    begun = time.monotonic()
    process.communicate("go\n", PATIENCE_SECONDS)
    assert process.returncode == 0
    wait_until(lambda: client.read_limit("db").held_slots == 0)
    assert time.monotonic() - begun < 8, "the away grace is 10 s"
    client.close()


def test_a_program_ends_in_time_though_the_server_stands_still(serve: Serve) -> None:
    server = serve()
    Client(server.url).create_limit("db", 1)
    program = """
        from ebbgate.sync import concurrency

        concurrency("db").__enter__()
        print("held", flush=True)
        input()
    """
    process = run(program, server)
    assert first_line(process) == "held"
    server.stop()
    begun = time.monotonic()
    process.communicate("go\n", PATIENCE_SECONDS)
    assert time.monotonic() - begun < 20
    server.go_on()


def test_what_a_killed_process_held_passes_on_after_the_away_grace(serve: Serve) -> None:
    server = serve("--away-grace", "0.5", "--recovery-grace", "0")
    client = Client(server.url)
    client.create_limit("db", 1)
    program = """
        from ebbgate.sync import concurrency

        concurrency("db").__enter__()
        print("held", flush=True)
        input()
    """
    process = run(program, server)
    assert first_line(process) == "held"
    process.send_signal(signal.SIGKILL)
    with client.concurrency("db", timeout_seconds=60) as lease:
        assert lease.waited_seconds < 30, "its countdown is ten times as long"
    process.communicate()
    client.close()


def test_a_forked_child_owns_nothing_and_takes_nothing_from_its_parent(serve: Serve) -> None:
    """Neither its leases nor its connections; it makes its own."""
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 4)
    program = """
        import asyncio, os, time, warnings
        from ebbgate import Client
        from ebbgate.sync import concurrency
        from ebbgate.asyncio import concurrency as in_task

        warnings.simplefilter("ignore", DeprecationWarning)  # later versions of Python warn of any fork

        async def hold_in_task():
            async with in_task("db"):
                return Client().read_limit("db").held_slots

        with concurrency("db", lease_duration=4.5) as lease:
            assert asyncio.run(hold_in_task()) == 2
            child = os.fork()
            if child == 0:
                with concurrency("db"):
                    assert Client().read_limit("db").held_slots == 2
                assert asyncio.run(hold_in_task()) == 2
                lease.raise_if_lost()
                raise SystemExit(0)
            assert os.waitpid(child, 0)[1] == 0
            first = lease.expires_at
            while lease.expires_at == first:  # the child's end has not harmed the renewer's connection
                time.sleep(0.01)
            assert Client().read_limit("db").held_slots == 1
            assert asyncio.run(hold_in_task()) == 2
            assert not lease.lost
        assert Client().read_limit("db").held_slots == 0
        print("well", flush=True)
    """
    process = run(program, server)
    assert process.communicate(timeout=60)[0] == "well\n"
    assert process.returncode == 0
    client.close()


def test_a_child_that_outlives_its_parent_keeps_none_of_its_connections_open(serve: Serve) -> None:
    server = serve("--away-grace", "0.3", "--recovery-grace", "0")
    client = Client(server.url)
    client.create_limit("db", 1)
    program = """
        import os
        from ebbgate.sync import concurrency

        concurrency("db").__enter__()
        if os.fork() == 0:
            print("child", flush=True)
            input()
        else:
            os.kill(os.getpid(), 9)
    """
    process = run(program, server)
    assert first_line(process) == "child"
    with client.concurrency("db", timeout_seconds=10):
        pass
    process.communicate("end\n")
    client.close()


def test_workers_of_a_pool_that_forks_each_use_the_server(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 2)
    program = """
        import multiprocessing, warnings
        from ebbgate import Client
        from ebbgate.sync import concurrency

        warnings.simplefilter("ignore", DeprecationWarning)

        def work(number):
            with concurrency("db", timeout_seconds=30):
                return number

        if __name__ == "__main__":
            with concurrency("db"):
                with multiprocessing.get_context("fork").Pool(4) as pool:
                    assert sorted(pool.map(work, range(40))) == list(range(40))
                    pool.close()
                    pool.join()
            print(Client().read_limit("db").held_slots, flush=True)
    """
    process = run(program, server)
    assert process.communicate(timeout=60)[0] == "0\n"
    client.close()


def test_closing_a_client_sends_its_good_bye_so_that_nobody_waits_for_the_grace(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve("--away-grace", "60")
    client = Client(server.url)
    client.create_limit("db", 1)
    block = client.concurrency("db")
    block.__enter__()
    client.close()
    other = Client(server.url, api_key="another gate")
    with other.concurrency("db", timeout_seconds=20):
        pass
    other.close()
    pass_time(0)
