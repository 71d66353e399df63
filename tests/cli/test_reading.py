"""Commands that only read create nothing, and commands that delete ask first."""

import subprocess
from pathlib import Path

import pytest

from ebbgate.client.client import Client
from tests.cli.support import COMMAND, PATIENCE_SECONDS, Real, Result

READING = """
limit ls
limit inspect NAME
limit update NAME --limit 5
limit enable NAME
limit disable NAME
limit cool-down NAME 5
limit delete NAME --yes
lease ls
lease ls --limit NAME
lease inspect 01a231e9-14f2-75b4-a481-a4c13df10d47
lease revoke 01a231e9-14f2-75b4-a481-a4c13df10d47
top
top NAME
top -o json
export
doctor
apply -f FILE --dry-run
run --limit NAME -- true
run --rate-limit NAME -- true
run --limit NAME --if-missing run -- true
--names limits
--names leases
""".strip().splitlines()

SILENT_IF_EMPTY = ("limit ls", "lease ls", "top", "top -o json", "export", "doctor", "apply", "--names")


def run_at_home(real: Real, home: Path, line: str, url: str | None = None) -> Result:
    """Run a command with an empty home."""
    file = home.parent / "limits.yaml"
    file.write_text("limits:\n  - name: api\n    limit: 1\n")
    kept = {
        name: value for name, value in real.environment.items() if not name.startswith(("EBBGATE_", "XDG_"))
    }
    done = subprocess.run(
        [COMMAND, *line.replace("FILE", str(file)).split()], capture_output=True, text=True, check=False,
        timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL,
        env={**kept, "HOME": str(home), **({"EBBGATE_URL": url} if url else {})},
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_no_command_that_reads_creates_a_store_at_an_address_that_names_none(
    real: Real, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for line in READING:
        said = run_at_home(real, home, line, f"sqlite:///{home}/nodir/x.db")
        assert not list(home.iterdir()), line
        if line.startswith("--names"):
            assert said == (0, "", "")
            continue
        assert said.code == 1, (line, said)
        if line != "doctor":
            assert f"{home}/nodir/x.db does not exist" in said.err, line
            assert "ebbgate limit create NAME --limit 5" in said.err


@pytest.mark.slow
def test_before_the_first_limit_is_created_a_user_has_no_limits_and_no_file(
    real: Real, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for line in READING:
        said = run_at_home(real, home, line)
        assert not list(home.iterdir()), line
        fine = line.startswith(SILENT_IF_EMPTY) and line not in {"lease ls --limit NAME", "top NAME"}
        assert said.code == (0 if fine or "--if-missing" in line else 3), (line, said)
    assert "no limits yet" in run_at_home(real, home, "limit ls").err
    assert run_at_home(real, home, "limit create db --limit 1").code == 0
    assert list(home.iterdir())


@pytest.mark.parametrize("line", ["limit delete db", "gcl delete db --force", "apply -f FILE --prune"])
def test_a_command_that_deletes_limits_needs_yes_without_a_terminal(
    real: Real, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("limits: []\n")
    with Client(real.url) as client:
        client.create_limit("db", 1)
        words = line.replace("FILE", str(file)).split()
        for more in ([], ["-o", "json"]):
            refused = real(*words, *more)
            assert refused.code == 2
            assert "--yes" in refused.err
            assert client.read_limit("db").limit == 1
        assert real(*words, "--yes").code == 0
        assert client.list_limits() == []


def test_the_folder_of_a_store_is_created_with_its_first_limit(real: Real, tmp_path: Path) -> None:
    more = {"EBBGATE_URL": f"sqlite:///{tmp_path}/new/x.db"}
    assert real("limit", "create", "db", "--limit", "1", more=more).code == 0
    assert list((tmp_path / "new").iterdir())
