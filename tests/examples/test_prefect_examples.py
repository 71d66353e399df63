"""What Prefect's own guide shows, run by Prefect's engine with one import line changed."""

import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.prefect.environments import python_of
from tests.prefect.theirs import finish, prefect_server, surroundings
from tests.server.processes import started

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "prefect" / "requirements"
PROGRAMS = sorted((ROOT / "examples" / "prefect").glob("*.py"))

# In one process, since importing Prefect takes seconds: the programs, one after the other, each in the
# environment that this process was started in.
ALL = """
import contextlib, os, runpy, sys
before = dict(os.environ)
for program in sys.argv[1:]:
    os.environ.clear()
    os.environ.update(before)
    with contextlib.suppress(SystemExit):
        runpy.run_path(program, run_name="__main__")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder whose name is short."""
    with tempfile.TemporaryDirectory(prefix="e-") as name:
        yield Path(name)


def verdicts(output: str) -> list[str]:
    return [line for line in output.splitlines() if line in {"proven", "NOT PROVEN"}]


def start(python: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [python, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_guides_programs_keep_to_their_limits_on_a_file_and_through_a_server(folder: Path) -> None:
    python = python_of("flows")
    with started(folder) as server, prefect_server(python, folder) as url:
        here = surroundings(folder, url, {"PYTHONPATH": str(ROOT / "src")})
        remote = {**here, "EBBGATE_URL": server.url.replace("http:", "ebbgate:")}
        both = [start(python, "-c", ALL, *map(str, PROGRAMS), **place) for place in (here, remote)]
        for said in [finish(process) for process in both]:
            assert verdicts(said) == ["proven"] * len(PROGRAMS), said


def test_what_the_sdk_needs_and_what_prefect_needs_fit_together() -> None:
    locked = dict(
        line.split("==")
        for line in (REQUIREMENTS / "flows.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for requirement in map(Requirement, needed):
        assert locked[requirement.name] in requirement.specifier, requirement


def test_each_has_one_line_that_is_not_prefects() -> None:
    assert len(PROGRAMS) == 5
    changed = re.compile(
        r"^from ebbgate\.(\w+) import (\w+)  # instead of: from prefect\.concurrency\.\1 import \2$"
    )
    for program in PROGRAMS:
        code, proof = program.read_text(encoding="utf-8").split("def main()")
        ours = [
            line for line in code.splitlines() if "ebbgate" in line and "import" in line and "pip" not in line
        ]
        assert len([line for line in ours if changed.match(line)]) == 1, program
        assert "prefect" not in proof, program


def test_the_readme_names_their_folder() -> None:
    assert "examples/prefect" in (ROOT / "README.md").read_text(encoding="utf-8")
