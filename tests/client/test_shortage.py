"""A process short of threads or descriptors gets a named error, and `on_unavailable="run"` runs the block."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import _thread, os, resource, sys, threading
import ebbgate.client.owned.opening, ebbgate.client.remote.gate
import ebbgate.client.embedded.opening, ebbgate.stores.sqlite
from ebbgate import Client
from ebbgate.errors import ServerUnavailable, StoreUnavailable
url, descriptors = sys.argv[1], int(sys.argv[2])
if descriptors < 0:
    def start(*_):  # what the interpreter raises when the system refuses a thread
        raise RuntimeError("can't start new thread")
    threading.Thread.start = _thread.start_new_thread = start
else:
    used = len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
client = Client(url)
try:
    with client.concurrency("db", timeout_seconds=5, suppress_warnings=True):
        pass
except (StoreUnavailable, ServerUnavailable) as error:
    print(type(error).__name__, error)
with client.concurrency("db", timeout_seconds=5, suppress_warnings=True, on_unavailable="run"):
    print("ran")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("descriptors", [-1, 0, 1, 3, 6])
def test_a_shortage_is_a_named_error(tmp_path: Path, descriptors: int) -> None:
    for url in ("memory://", f"sqlite:///{tmp_path / 'limits.db'}", "ebbgate://127.0.0.1:9"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, url, str(descriptors)],
            env={"EBBGATE_CONNECT_TIMEOUT": "0.2"}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("ran\n")
        if descriptors < 0:
            assert "can't start new thread" in done.stdout, url
