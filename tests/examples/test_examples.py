"""The examples: they need no set-up, prove what they say, with a server and without, and leave nothing behind."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tests.server.processes import started

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder whose name is short, as a home's is: names of sockets are bounded."""
    with tempfile.TemporaryDirectory(prefix="e-") as name:
        Path(name).chmod(0o711)  # PostgreSQL's user must come through, where this one is root
        yield Path(name)


def run(name: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an example as a newcomer does, from some folder, with nothing configured."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EBBGATE_")}
    places = {"HOME": str(folder), "TMPDIR": str(folder), "XDG_DATA_HOME": str(folder)}
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    return subprocess.run(
        command,
        env={**kept, **places, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def test_the_examples_are_the_ones_the_readme_names() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    assert NAMES
    assert [name for name in NAMES if f"examples/{name}.py" not in readme] == []


@contextmanager
def gate(kind: str) -> Iterator[dict[str, str]]:
    """Give the environment in which an example finds a server, or nothing."""
    if kind == "nothing":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="g-") as name, started(Path(name)) as server:
        yield {"EBBGATE_URL": server.url.replace("http:", "ebbgate:")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nothing", "server"])
@pytest.mark.parametrize("name", NAMES)
def test_an_example_proves_what_it_says_and_leaves_nothing_behind(name: str, kind: str, folder: Path) -> None:
    with gate(kind) as environment:
        done = run(name, folder, PYTHONWARNINGS="error", **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "proven"
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_processes_that_share_no_limit_are_not_proven(folder: Path) -> None:
    done = run("parallel_data_processing", folder, EBBGATE_URL="memory://")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "NOT PROVEN"


def test_the_sweep_counts_who_is_inside_at_once() -> None:
    example = load("parallel_data_processing")
    spans = [(0, 10), (10, 20), (5, 15), (6, 7)]
    parsed = [example.Parsed(1, pid, entered, left) for pid, (entered, left) in enumerate(spans)]
    assert example.most_at_once(parsed) == 3
    assert example.most_at_once(parsed[:2]) == 1, "who leaves goes before who enters"


def test_the_api_refuses_more_than_a_burst() -> None:
    with load("rate_limited_api").Api() as api:
        assert [api.admit() for _ in range(6)] == [True] * 4 + [False] * 2
