"""Who owns a file: one at a time, whatever becomes of it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ebbgate.errors import StoreUnavailable
from ebbgate.neighbours.owner import Owner, OwnerAddress, owner_of, socket_path
from tests.cli.support import wait_until
from tests.server.processes import run_python

OWN = """\
import sys, os
from pathlib import Path
from ebbgate.errors import StoreUnavailable
from ebbgate.neighbours.owner import Owner, OwnerAddress
try:
    owner = Owner(Path(sys.argv[1]))
except StoreUnavailable:
    print("refused", flush=True)
    sys.exit()
owner.tell(OwnerAddress(url="http://127.0.0.1:1", pid=os.getpid(), host="here"))
if "fork" in sys.argv and not os.fork():
    print("owned", flush=True)
    os.close(1)
    os.read(0, 1)
    os._exit(0)
if "fork" not in sys.argv:
    print("owned", flush=True)
sys.stdin.read()
if "close" in sys.argv:
    owner.close()
    print("closed", flush=True)
"""


@contextmanager
def other(path: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Have another process try to own the file."""
    process = run_python(OWN, str(path), *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "limits.db"


def test_a_file_without_server_has_no_owner(path: Path) -> None:
    assert owner_of(path) is None
    Owner(path).close()
    assert owner_of(path) is None
    assert path.with_name("limits.db-owner").stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_an_owner_is_found_with_its_address_until_it_ends(path: Path) -> None:
    with other(path) as process:
        assert said(process) == "owned"
        assert owner_of(path) == OwnerAddress(
            url="http://127.0.0.1:1", socket=None, pid=process.pid, host="here"
        )
        with pytest.raises(StoreUnavailable) as refused:
            Owner(path)
        assert f"process {process.pid} of here" in str(refused.value)
        assert "http://127.0.0.1:1" in str(refused.value)
        assert not refused.value.transient
        process.send_signal(signal.SIGSTOP)
        assert owner_of(path) is not None, "a stopped owner may go on"
        process.kill()
        process.wait()
        assert owner_of(path) is None
    Owner(path).close()


def test_an_owner_that_closes_leaves_no_address(path: Path) -> None:
    with other(path, "close") as process:
        assert said(process) == "owned"
        assert process.stdin is not None
        process.stdin.close()
        assert said(process) == "closed"
        assert path.with_name("limits.db-owner").read_bytes() == b""
        process.wait()
        process.stdin = None


def test_the_file_may_be_named_by_a_link(path: Path, tmp_path: Path) -> None:
    owner = Owner(path)
    owner.tell(OwnerAddress(url="u", pid=1, host="h"))
    link = tmp_path / "link.db"
    link.symlink_to(path)
    assert owner_of(link) is not None
    with pytest.raises(StoreUnavailable):
        Owner(link)
    owner.close()


def test_a_child_keeps_nothing_of_what_its_parent_owned(path: Path) -> None:
    with other(path, "fork") as process:
        assert said(process) == "owned"  # the child says so
        process.kill()
        process.wait()
        assert owner_of(path) is None
        owner = Owner(path)
        owner.tell(OwnerAddress(url="u", pid=os.getpid(), host="h"))
        assert process.stdin is not None
        process.stdin.close()  # the child ends
        process.stdin = None
        assert owner_of(path) is not None
        owner.close()


def test_of_many_that_start_at_once_one_owns_the_file(path: Path) -> None:
    """Though others look all the time whether there is an owner."""
    programs = [run_python(OWN, str(path)) for _ in range(6)]
    try:
        wait_until(lambda: owner_of(path) is not None)
        answers = [said(process) for process in programs]
        assert sorted(answers) == ["owned", *["refused"] * 5]
    finally:
        for process in programs:
            process.kill()
            process.communicate()


def test_who_looks_does_not_keep_an_owner_from_starting(path: Path) -> None:
    look = """\
import sys
from pathlib import Path
from ebbgate.neighbours.owner import owner_of
print("looking", flush=True)
while True:
    owner_of(Path(sys.argv[1]))
"""
    Owner(path).close()
    looking = run_python(look, str(path))
    try:
        assert said(looking) == "looking"
        for _ in range(50):
            owner = Owner(path)
            owner.tell(OwnerAddress(url="u", pid=1, host="h"))
            owner.close()
    finally:
        looking.kill()
        looking.communicate()


def test_an_owner_that_says_nothing_keeps_the_file_closed(path: Path) -> None:
    owner = Owner(path)
    with pytest.raises(StoreUnavailable) as unknown:
        owner_of(path)
    assert unknown.value.transient
    owner.close()


def test_an_address_is_never_older_than_its_owner(path: Path) -> None:
    first = Owner(path)
    first.tell(OwnerAddress(url="http://a-long-address.example:4220", pid=1, host="h"))
    first._let_go()  # killed
    second = Owner(path)
    assert path.with_name("limits.db-owner").read_bytes() == b""
    second.tell(OwnerAddress(url="u", pid=2, host="h"))
    second.tell(OwnerAddress(url="v", pid=2, host="h"))
    found = owner_of(path)
    assert found is not None
    assert found.url == "v"
    second.close()


def test_a_socket_has_a_name_that_the_system_can_bind(tmp_path: Path) -> None:
    assert socket_path(tmp_path / "a.db").name == "a.db-owner.sock"
    deep = tmp_path / ("d" * 120) / "limits.db"
    deep.parent.mkdir()
    found = socket_path(deep)
    assert len(os.fsencode(found)) <= 100
    assert found.parent.stat().st_mode & 0o777 == 0o700
    found.parent.rmdir()
