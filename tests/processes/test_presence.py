"""A living process keeps its slots, whatever happens to the files beside the store, and a dead one is noticed."""

import errno
import os
import signal
from pathlib import Path
from typing import cast

import pytest

from ebbgate import Client
from ebbgate.neighbours.presence import Presence
from tests.interface.helpers import wait_until
from tests.processes.conftest import Start

HOLD_AND = """
    with concurrency("db") as lease:
        say(token=lease.fencing_token)
        path = os.environ["EBBGATE_URL"].removeprefix("sqlite:///")
        {then}
        say(done=True)
        hear()
        say(lost=lease.lost)
"""

TRY = """
    try:
        with concurrency("db", timeout_seconds=1.5):
            say(inside=True)
    except errors.AcquireTimeout:
        say(inside=False)
"""

MISHAPS = {
    "its presence file is opened and closed": "open(path + '-presence').close()",
    "it copies the presence file": "import shutil; shutil.copy(path + '-presence', path + '-copy')",
    "it copies the whole folder": """
        import shutil
        no_sockets = shutil.ignore_patterns("*-wake")
        shutil.copytree(os.path.dirname(path), os.path.dirname(path) + "-copy", ignore=no_sockets)
    """,
    "it forks a child that ends": """
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    """,
    "the package is imported twice": """
        for name in [name for name in sys.modules if name.partition(".")[0] == "ebbgate"]:
            del sys.modules[name]
        from ebbgate import Client as Again, errors as again_errors
        assert Again is not Client
        try:
            with Again().concurrency("db", timeout_seconds=0):
                say(inside=True)
        except again_errors.AcquireTimeout:
            pass
        Again().close()
    """,
    "the presence file is removed": "os.remove(path + '-presence')",
    "the presence file is replaced": """
        open(path + '-new', 'w').close()
        os.rename(path + '-new', path + '-presence')
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_living_process_keeps_its_slot_when(client: Client, start: Start, mishap: str) -> None:
    client.create_limit("db", 1)
    lines = MISHAPS[mishap].strip().splitlines()
    holder = start(HOLD_AND.format(then="\n".join([lines[0], *lines[1:]])))
    assert "token" in holder.hear()
    assert holder.hear().get("done")
    other = start(TRY)
    assert other.hear()["inside"] is False
    holder.say()
    assert holder.hear()["lost"] is False
    assert holder.ends() == 0
    assert other.ends() == 0


@pytest.mark.slow
@pytest.mark.parametrize("mishap", ["the presence file is removed", "the presence file is replaced"])
def test_a_death_is_noticed_although(client: Client, start: Start, mishap: str) -> None:
    """The holder joins the new presence file within a second or so, and its end is noticed there."""
    client.create_limit("db", 1)
    holder = start(HOLD_AND.format(then=MISHAPS[mishap].strip()))
    holder.hear()
    holder.hear()
    presence = Path(client.url.removeprefix("sqlite:///") + "-presence")
    wait_until(lambda: presence.exists() and _is_locked(presence))
    waiter = start(
        """
        with concurrency("db", timeout_seconds=20):
            say(inside=True)
        """
    )
    holder.signal(signal.SIGKILL)
    holder.ends()
    assert waiter.hear()["inside"] is True


def _is_locked(path: Path) -> bool:
    """Tell whether any process has a lock on the file: /proc/locks names its inode."""
    inode = path.stat().st_ino
    return any(line.split()[5].endswith(f":{inode}") for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.slow
def test_a_death_is_noticed_while_a_forked_child_lives_on(client: Client, start: Start) -> None:
    client.create_limit("db", 1)
    holder = start(
        """
        with concurrency("db"):
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)
            say(child=child)
            hear()
        """
    )
    child = cast("int", holder.hear()["child"])
    try:
        holder.signal(signal.SIGKILL)
        holder.ends()
        other = start(
            """
            with concurrency("db", timeout_seconds=20):
                say(inside=True)
            """
        )
        assert other.hear()["inside"] is True
    finally:
        os.kill(child, signal.SIGKILL)


def test_several_presences_of_one_process_outlive_each_other(tmp_path: Path) -> None:
    first, second, third = (Presence(tmp_path / "presence") for _ in range(3))
    first.end()
    assert not second.is_alive(first.offset)
    assert third.is_alive(second.offset)
    assert second.is_alive(third.offset)
    second.end()
    third.end()


def test_a_presence_of_another_file_counts_as_alive(tmp_path: Path) -> None:
    before = Presence(tmp_path / "presence")
    (tmp_path / "presence").unlink()
    assert not before.is_current()
    after = Presence(tmp_path / "presence")
    assert after.is_current()
    assert after.is_alive(before.offset)
    assert before.is_alive(after.offset)
    before.end()
    assert after.is_alive(before.offset), "nothing is known of the other file"
    after.end()


def test_without_locks_of_descriptions_a_second_copy_in_one_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ebbgate.neighbours.presence._SETLK", -1)  # as where the system has none: EINVAL
    first = Presence(tmp_path / "presence")
    with pytest.raises(OSError, match="import the package once") as caught:
        Presence(tmp_path / "presence")
    assert caught.value.errno == errno.EDEADLK
    assert not first.is_alive(first.offset ^ 1)
    first.end()
    Presence(tmp_path / "presence").end()
