"""Processes of one machine find each other by what lies beside the file."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate.core.commands import Away
from ebbgate.errors import StoreUnavailable
from ebbgate.neighbours.neighbours import Neighbours
from ebbgate.neighbours.push import wake_folder


def test_sessions_of_one_instant_have_sockets_of_their_own_and_outlive_each_other() -> None:
    # their ids begin alike, with the time
    ids = [f"019a8b7c-1234-7abc-aabc-{number:012x}" for number in range(3)]
    with tempfile.TemporaryDirectory(prefix="n-") as folder:
        several = [Neighbours(Path(folder) / "gate.db", session) for session in ids]
        assert len({one.mailbox.address for one in several}) == len(ids)
        several[0].clean_up_after([Away(ids[1], 1, certain=True)])
        there = [Path(one.mailbox.address).exists() for one in several]
        assert there == [True, False, True], "the dead one's, and nobody else's"
        for one in several:
            one.mailbox.close()
            one.close()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a name that leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="eg") as name:
        yield Path(name)


def test_a_link_at_the_wake_folder_is_not_followed(short_path: Path) -> None:
    store = short_path / "limits.db"
    (short_path / "elsewhere").mkdir()
    (short_path / "limits.db-wake").symlink_to(short_path / "elsewhere")
    with pytest.raises(PermissionError, match="is not a folder of this user"):
        wake_folder(store)


def test_folders_of_dead_processes_without_a_file_are_removed_at_the_next_start(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(short_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    program = (
        "import os, signal, ebbgate\n"
        "client = ebbgate.Client('memory://')\n"
        "client.create_limit('a', 1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    (left,) = short_path.iterdir()
    living = Neighbours(None, "living")
    assert not left.exists()
    other = Neighbours(None, "other")
    assert Path(living.mailbox.address).exists(), "a living process keeps its folder"
    for one in (living, other):
        one.mailbox.close()
        one.close()
    assert list(short_path.iterdir()) == []


def test_who_has_too_few_descriptors_is_told_so_and_leaves_none_open() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = None
    with tempfile.TemporaryDirectory(prefix="n-") as folder:
        before = sorted(Path("/dev/fd").iterdir())
        lowest = os.dup(0)
        os.close(lowest)
        refusals = 0
        while found is None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + refusals, limits[1]))
            try:
                found = Neighbours(Path(folder) / "gate.db", "session")
            except StoreUnavailable:
                refusals += 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            if found is None:
                assert sorted(Path("/dev/fd").iterdir()) == before
        assert refusals >= 3
        found.mailbox.close()
        found.close()
