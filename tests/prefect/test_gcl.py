"""Every verb of `prefect gcl`, unmodified."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.prefect.environments import python_of
from tests.prefect.support import Caller
from tests.prefect.theirs import RUN_SECONDS, start, surroundings
from tests.server.processes import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIMIT_FIELDS = {
    "id",
    "created",
    "updated",
    "active",
    "name",
    "limit",
    "active_slots",
    "slot_decay_per_second",
}


class Gcl:
    """The command `prefect gcl` of one version."""

    def __init__(self, version: str, url: str, folder: Path) -> None:
        """Use the version of this environment."""
        self.process = start(python_of(version), "gcl.py", url, folder)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run it; return what it says, in one line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(arguments)}\n")
        self.process.stdin.flush()
        lines: list[str] = []
        while not lines or not lines[-1].startswith("["):
            lines.append(self.process.stdout.readline())
            assert lines[-1], lines
        ended, said = json.loads(lines[-1])
        assert ended == code, said
        assert "Traceback" not in said
        return " ".join(said.split())


@pytest.fixture
def gcl(served: Served, tmp_path: Path) -> Iterator[Callable[[str], Gcl]]:
    """Return what starts the command of a version."""
    begun: list[Gcl] = []

    def begin(version: str) -> Gcl:
        begun.append(Gcl(version, served.url, tmp_path))
        return begun[-1]

    yield begin
    for command in begun:
        command.process.kill()
        command.process.communicate()


def test_the_command_as_people_type_it(served: Served, tmp_path: Path) -> None:
    command = [str(python_of("newest").with_name("prefect")), "gcl", "create", "typed", "--limit", "3"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=RUN_SECONDS, stdin=subprocess.DEVNULL,
        env=surroundings(tmp_path, served.url),
    )  # fmt: skip
    assert done.returncode == 0, done
    assert Caller(served.url).read("typed")["limit"] == 3


@pytest.mark.parametrize("version", ["newest", "oldest"])
def test_every_verb_of_gcl(served: Served, gcl: Callable[[str], Gcl], version: str) -> None:
    run, name, caller = gcl(version), f"gcl-{version}", Caller(served.url)
    assert "Created global concurrency limit" in run("create", name, "--limit", "5")
    assert "already exists" in run("create", name, "--limit", "5", code=1)
    assert run("create", f"{name}-r", "-l", "2", "--slot-decay-per-second", "0.5", "--disable")
    shown = json.loads(run("inspect", name, "-o", "json"))
    assert set(shown) >= LIMIT_FIELDS
    assert (shown["name"], shown["limit"], shown["active"], shown["active_slots"]) == (name, 5, True, 0)
    assert name in run("ls")
    if version == "newest":  # 3.4.10 knows no -o there
        listed = {limit["name"]: limit for limit in json.loads(run("ls", "-o", "json"))}
        assert listed[f"{name}-r"]["active"] is False
        assert listed[f"{name}-r"]["slot_decay_per_second"] == 0.5
    assert "Updated" in run("update", name, "--limit", "7", "--slot-decay-per-second", "1.5")
    assert (caller.read(name)["limit"], caller.read(name)["slot_decay_per_second"]) == (7, 1.5)
    assert "Disabled" in run("disable", name)
    assert "already disabled" in run("disable", name, code=1)
    assert "Enabled" in run("enable", name)
    assert caller.read(name)["active"] is True
    assert "Deleted" in run("delete", name)
    for verb in ("inspect", "delete", "enable", "disable"):
        assert "not found" in run(verb, name, code=1)
    assert "not found" in run("update", name, "--limit", "1", code=1)
    assert "Deleted" in run("delete", f"{name}-r")


def test_what_cannot_be_is_said(served: Served, gcl: Callable[[str], Gcl]) -> None:
    run, caller = gcl("newest"), Caller(served.url)
    assert "reads as an id" in run("create", "0" * 32, "--limit", "1", code=1)
    caller.create("gcl-busy", 2)
    lease = caller.acquire("gcl-busy").lease_id
    assert "ebbgate lease revoke" in run("update", "gcl-busy", "--active-slots", "0", code=1)
    assert "Updated" in run("update", "gcl-busy", "--active-slots", "1")
    assert "Updated" in run("update", "gcl-busy", "--active-slots", "0", "--limit", "3")
    assert json.loads(run("inspect", "gcl-busy", "-o", "json"))["active_slots"] == 1
    caller.release(lease)
