"""Clients that die, and clients whose connections are cut: the first lose their slots in time, the others nothing."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ebbgate import Client
from tests.client.remote.support import pass_time, wait_until
from tests.faults.server_process import ROOT, ServerProcess
from tests.faults.server_proxy import How, Network, Proxy

GRACE_SECONDS = 1.0
FLAGS = ("--away-grace", str(GRACE_SECONDS), "--recovery-grace", "2", "--lease-duration-min", "0.5")
HOLD = """
import sys
from ebbgate import Client
with Client(sys.argv[1]).concurrency("db", lease_duration=300):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(url: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Have another process hold a slot."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_the_slots_of_a_killed_client_pass_on_after_the_away_grace(folder: Path) -> None:
    with ServerProcess(folder, *FLAGS) as server, Client(server.url) as client:
        client.create_limit("db", 1)
        with holding(server.url) as process:
            killed = []

            def kill() -> None:
                wait_until(lambda: client.list_waiters("db"))
                killed.append(time.monotonic())
                process.kill()

            killing = threading.Thread(target=kill)
            killing.start()
            with client.concurrency("db", timeout_seconds=60):
                passed_on = time.monotonic() - killed[0]
            killing.join()
        assert GRACE_SECONDS <= passed_on < GRACE_SECONDS + 15, "its countdown is 300 s"
        assert "lost_holder" in {lease.why for lease in client.list_leases("db", "ended")}
        server.end()


def test_who_is_cut_off_again_and_again_comes_back_and_loses_nothing(folder: Path) -> None:
    with ServerProcess(folder, *FLAGS) as server, Network(server.port) as network:
        direct = Client(server.url)
        direct.create_limit("db", 1)
        proxies = [network.proxy(), network.proxy()]
        holder, waiter = (Client(proxy.url) for proxy in proxies)
        got_in = threading.Event()

        def wait() -> None:
            with waiter.concurrency("db", timeout_seconds=60):
                got_in.set()

        with holder.concurrency("db", lease_duration=5) as lease:
            waiting = threading.Thread(target=wait)
            waiting.start()
            wait_until(lambda: direct.list_waiters("db"))
            before = [(seen.id, seen.arrival) for seen in direct.list_leases("db")]
            ways: list[How] = ["fin", "reset"]
            for how in ways * 4:
                for proxy in proxies:
                    network.within(partial(cut_all, proxy, how))
                wait_until(lambda: all(proxy.wires for proxy in proxies))
                pass_time(0.25)  # part of a lease, so that it is renewed between
            pass_time(GRACE_SECONDS + 0.5)
            assert [(seen.id, seen.arrival) for seen in direct.list_leases("db")] == before
            assert not lease.lost
            assert not got_in.is_set()
        assert got_in.wait(10)
        waiting.join()
        assert {ended.why for ended in direct.list_leases("db", "ended")} == {"released"}
        for client in (holder, waiter, direct):
            client.close()
        server.end()


def cut_all(proxy: Proxy, how: How) -> None:
    """Cut every connection."""
    for wire in list(proxy.wires):
        wire.cut(how)
