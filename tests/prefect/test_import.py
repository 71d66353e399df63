"""`ebbgate import prefect`: limits are copied, and nothing is changed where they come from."""

import json
import shlex
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import COMMAND
from tests.prefect.contract import LIMITS
from tests.prefect.environments import python_of
from tests.prefect.support import Caller
from tests.prefect.theirs import prefect_server
from tests.server.processes import Served, environment_of


class Importer:
    """The command, with an empty store of its own."""

    def __init__(self, folder: Path, **more: str) -> None:
        """Keep the store in `folder`."""
        self.environment = environment_of(folder, {"EBBGATE_URL": f"sqlite:///{folder}/here.db", **more})

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command line; return what it says on both outputs."""
        done = subprocess.run(
            [COMMAND, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=self.environment,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout, done.stderr


@pytest.fixture
def source(served: Served) -> Iterator[Caller]:
    """A server with limits to copy; ours shows them as Prefect's does."""
    caller = Caller(served.url)
    caller.create("from-db", 5)
    caller.create("from-api", 60, 1 / 60)
    caller.ask("POST", f"{LIMITS}/", {"name": "from-off", "limit": 0, "active": False})
    caller.create("deployment:1f0", 1)
    yield caller
    for name in ("from-db", "from-api", "from-off", "deployment:1f0"):
        caller.ask("DELETE", f"{LIMITS}/{name}")


def test_every_limit_is_copied_with_all_that_it_is(source: Caller, tmp_path: Path) -> None:
    ebbgate, url = Importer(tmp_path), f"http://{source.place}/api"
    before = source.ask("POST", f"{LIMITS}/filter").body
    copied = {
        entry["name"]: entry
        for entry in json.loads(ebbgate("import", "prefect", "--url", url, "-o", "json")[0])
    }
    assert {name: copied[name]["result"] for name in ("from-db", "from-api", "from-off", "deployment:1f0")} == {
        "from-db": "created", "from-api": "created", "from-off": "created", "deployment:1f0": "skipped",
    }  # fmt: skip
    here = {limit["name"]: limit for limit in json.loads(ebbgate("limit", "ls", "-o", "json")[0])}
    assert (here["from-db"]["limit"], here["from-db"]["active"]) == (5, True)
    assert here["from-api"]["slot_decay_per_second"] == 1 / 60
    assert (here["from-off"]["limit"], here["from-off"]["active"]) == (0, False)
    assert "deployment:1f0" not in here
    assert source.ask("POST", f"{LIMITS}/filter").body == before


def test_what_is_here_stays_as_it_is_and_that_is_said(source: Caller, tmp_path: Path) -> None:
    ebbgate, url = Importer(tmp_path), f"http://{source.place}"
    ebbgate("limit", "create", "from-db", "--limit", "7")
    ebbgate("limit", "create", "from-api", "--limit", "60", "--disable")
    told, words = ebbgate("import", "prefect", "--url", url)
    assert "differs" in told
    assert "ebbgate limit update from-db --limit 5" in words
    assert json.loads(ebbgate("limit", "inspect", "from-db", "-o", "json")[0])["limit"] == 7
    for line in words.splitlines():
        if line.startswith("to have 'from-"):
            ebbgate(*shlex.split(line.partition(": ebbgate ")[2]))
    again = json.loads(ebbgate("import", "prefect", "--url", url, "-o", "json")[0])
    results = {entry["name"]: entry["result"] for entry in again}
    assert (results["from-db"], results["from-api"]) == ("exists", "exists")


def test_a_rehearsal_changes_nothing(source: Caller, tmp_path: Path) -> None:
    ebbgate, url = Importer(tmp_path), f"http://{source.place}/api/"
    _, words = ebbgate("import", "prefect", "--url", url, "--dry-run", code=1)
    assert "does not exist" in words
    assert not (tmp_path / "here.db").exists()
    ebbgate("limit", "create", "own", "--limit", "1")
    told, words = ebbgate("import", "prefect", "--url", url, "--dry-run")
    assert "would be created" in told
    assert "would be created" in words
    assert [limit["name"] for limit in json.loads(ebbgate("limit", "ls", "-o", "json")[0])] == ["own"]


def test_slots_that_are_occupied_there_are_named(source: Caller, tmp_path: Path) -> None:
    ebbgate = Importer(tmp_path)
    lease = source.acquire("from-db").lease_id
    assert "from-db" in ebbgate("import", "prefect", "--url", f"http://{source.place}/api")[1]
    source.release(lease)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/api", "ftp://x/api", "nonsense", ""])
def test_a_server_that_is_none_is_an_error_in_one_line(tmp_path: Path, url: str) -> None:
    ebbgate = Importer(tmp_path)
    expected = 1 if url.startswith("http") else 2
    told, words = ebbgate("import", "prefect", f"--url={url}", code=expected)
    assert (told, words.count("\n")) == ("", 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_limits_of_a_real_server_are_copied_behind_its_password(tmp_path: Path) -> None:
    secret = {"PREFECT_SERVER_API_AUTH_STRING": "admin:secret"}
    basic = {"Authorization": f"Basic {b64encode(b'admin:secret').decode()}"}
    with prefect_server(python_of("newest"), tmp_path, secret) as url:
        theirs = Caller(url)
        names = [f"limit {number}" for number in range(205)] + ["a?b"]
        for name in names:
            body = {"name": name, "limit": 3, "slot_decay_per_second": 0.25}
            assert theirs.ask("POST", f"{LIMITS}/", body, **basic).status == 201
        assert "PREFECT_API_AUTH_STRING" in Importer(tmp_path)("import", "prefect", "--url", url, code=1)[1]
        ebbgate = Importer(tmp_path, PREFECT_API_AUTH_STRING="admin:secret", PREFECT_API_URL=f"{url}/api")
        told, words = ebbgate("import", "prefect", "-o", "json", code=1)
        copied = {entry["name"]: entry["result"] for entry in json.loads(told)}
        assert {copied[name] for name in names[:-1]} == {"created"}
        assert copied["a?b"] == "refused"
        assert "1 of 206" in words
