"""A store of its own for every test, and two ways to the command line on it."""

from pathlib import Path

import pytest

from ebbgate.cli.main import run_command
from ebbgate.stores import open_store
from tests.cli.support import Cli, Real, Result


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'limits.db'}"
    monkeypatch.setenv("EBBGATE_URL", url)
    monkeypatch.delenv("EBBGATE_DEBUG", raising=False)
    open_store(url).close()  # commands that only read create none
    return url


@pytest.fixture
def cli(url: str, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process. Words in one string are split at spaces."""

    def call(*arguments: str) -> Result:
        words = arguments[0].split() if len(arguments) == 1 else list(arguments)
        capsys.readouterr()
        code = run_command(words)
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pycache")


@pytest.fixture
def real(url: str, cache: Path) -> Real:
    """The installed command."""
    return Real(url, cache)
