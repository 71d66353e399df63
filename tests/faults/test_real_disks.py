"""A disk that is full for real: a tiny file system, and a process that may not write longer files."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

PROLOGUE = """
import contextlib, os, resource, signal, sys
from pathlib import Path
from ebbgate import Client, errors
from tests.interface.helpers import wait_until
url = sys.argv[1]
path = Path(url.removeprefix("sqlite:///"))

def uses(client, times):
    for _ in range(times):
        with client.concurrency("db", timeout_seconds=0):
            pass
"""

FILLS = """
client = Client(url)
client.create_limit("db", 1000)  # a slot that could not be given back yet must not be in the way
kept = client.concurrency("db", timeout_seconds=0)
lease = kept.__enter__()
fills()
said = set()
got_in = 0
for _ in range(300):
    try:
        with client.concurrency("db", timeout_seconds=0):
            got_in += 1
    except errors.StoreUnavailable as error:
        said.add(str(error))
assert got_in < 300 and said, (got_in, said)
assert all(expected in text for text in said for expected in [EXPECTED]), said
assert not lease.lost
held = [one.id for one in client.list_leases("db", "held")]
assert lease.id in held
makes_room()
client.gate.interrupt()  # what could not be given back is tried again now
wait_until(lambda: client.read_limit("db").held_slots == 1)
uses(client, 300)
kept.__exit__(None, None, None)
wait_until(lambda: client.read_limit("db").held_slots == 0)
client.close()
with Client(url) as client:
    with client.concurrency("db", occupy=1000, timeout_seconds=0) as later:
        assert later.fencing_token > lease.fencing_token
print("well", got_in, said)
"""


def runs(code: str, url: str) -> str:
    source = PROLOGUE + textwrap.dedent(code)
    ran = subprocess.run(
        [sys.executable, "-c", source, url], check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_a_process_that_may_not_write_longer_files(folder: Path) -> None:
    code = """
    EXPECTED = "cannot"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    def fills():
        size = path.with_name(path.name + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
    def makes_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    """
    print(runs(textwrap.dedent(code) + FILLS, f"sqlite:///{folder}/store/limits.db"))


@pytest.fixture
def tiny(folder: Path) -> Iterator[Path]:
    """Return a folder that is a file system of 32 MB."""
    made = folder / "tiny"
    made.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "none", str(made)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("only who may mount file systems can run this")
    yield made
    subprocess.run(["umount", "--lazy", str(made)], check=True)


FULL = """
EXPECTED = "make room"
def fills():
    with contextlib.suppress(OSError), open(path.with_name("filler"), "wb", buffering=0) as file:
        while True:
            if not file.write(bytes(1)):
                break
def makes_room():
    path.with_name("filler").unlink()
"""


@pytest.mark.slow
def test_a_full_file_system(tiny: Path) -> None:
    fills_quickly = FULL.replace("bytes(1)", "bytes(4096)")
    print(runs(fills_quickly + FILLS, f"sqlite:///{tiny}/limits.db"))


@pytest.mark.slow
def test_a_gate_is_not_opened_on_a_full_file_system(tiny: Path) -> None:
    """Whichever file there is no room for: the error is the one that says so, and nothing stays open."""
    code = """
    before = len(os.listdir("/proc/self/fd"))
    for used in range(0, 40 * 4096, 4096):
        for old in path.parent.rglob("*"):
            if not old.is_dir():
                old.unlink()
        for old in path.parent.iterdir():
            old.rmdir()
        filler = path.with_name("filler")
        with contextlib.suppress(OSError):
            filler.write_bytes(bytes((32 << 20) - used))
        try:
            client = Client(url)
            client.create_limit("db", 2)
            uses(client, 1)
        except errors.StoreUnavailable as error:
            assert "room" in str(error) or "cannot" in str(error), error
            client.close()
        else:
            client.close()
            break
    assert used > 0
    assert len(os.listdir("/proc/self/fd")) == before
    print("well", used)
    """
    print(runs(code, f"sqlite:///{tiny}/limits.db"))


@pytest.mark.slow
def test_a_gate_is_not_opened_without_inodes(folder: Path) -> None:
    """No further file can be made: not the log, not the presence file, not a socket."""
    made = folder / "tiny"
    made.mkdir()
    for inodes in range(2, 14):
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=4m,nr_inodes={inodes},mode=700", "none", str(made)],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            pytest.skip("only who may mount file systems can run this")
        code = """
        before = len(os.listdir("/proc/self/fd"))
        client = Client(url)
        try:
            client.create_limit("db", 2)
            uses(client, 1)
            with client.concurrency("db", occupy=2, timeout_seconds=0):
                with contextlib.suppress(errors.AcquireTimeout):
                    client.concurrency("db", timeout_seconds=0.05).__enter__()
        except errors.StoreUnavailable as error:
            print("refused:", error)
        else:
            print("well")
        client.close()
        assert len(os.listdir("/proc/self/fd")) == before
        """
        try:
            print(inodes, runs(code, f"sqlite:///{made}/limits.db"))
        finally:
            subprocess.run(["umount", "--lazy", str(made)], check=True)
