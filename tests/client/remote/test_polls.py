"""A client works in a program from which eventlet has removed `select.poll`."""

import subprocess
import sys
from pathlib import Path

from tests.serving import served

PROGRAM = """
import select, selectors, sys
del select.poll, select.epoll, selectors.PollSelector, selectors.EpollSelector
selectors.DefaultSelector = selectors.SelectSelector
from concurrent.futures import ThreadPoolExecutor
from ebbgate import Client
client = Client(sys.argv[1])
name = sys.argv[2]
client.create_limit(name, 1)
def work(_):
    with client.concurrency(name, strict=True):
        assert client.read_limit(name).held_slots == 1
with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(8)))
assert client.read_limit(name).held_slots == 0
client.close()
"""


def test_a_client_works_without_select_poll(tmp_path: Path) -> None:
    with served(f"sqlite:///{tmp_path / 'served.db'}", socket=False) as server:
        for url in (server.url, f"sqlite:///{tmp_path / 'local.db'}"):
            subprocess.run([sys.executable, "-c", PROGRAM, url, "db"], check=True, timeout=120)
