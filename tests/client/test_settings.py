"""Where the environment sends a client."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ebbgate import Client, errors, settings
from ebbgate.client.connect import gate_for
from ebbgate.stores import path_of


def test_without_settings_all_processes_of_a_user_share_one_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the platform's data folder, whatever characters its name has."""
    monkeypatch.delenv("EBBGATE_URL", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(settings, "is_container", lambda: False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "a b%20#?c"))
    path = path_of(settings.url())
    assert path == settings.default_path()
    client = Client()
    client.create_limit("db", 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    client.close()


def test_a_container_is_told_once_that_its_file_is_private(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The limits would silently not be shared."""
    monkeypatch.delenv("EBBGATE_URL", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.warns(errors.PrivateFileWarning, match="EBBGATE_URL"):
        Client()
    Client()


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite://", "sqlite:///", "sqlite://host/x.db", "mysql://x", "memory://x"]
)
def test_an_address_of_nothing_is_refused_with_examples(url: str) -> None:
    """The next step stands in the message."""
    with pytest.raises(errors.InvalidRequest, match=r"sqlite:///|memory://"):
        gate_for(url)


@pytest.mark.parametrize("seconds", ["soon", "-1", "1e9"])
def test_a_connect_timeout_must_be_seconds(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    """Not silently something else."""
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", seconds)
    with pytest.raises(errors.InvalidRequest, match="EBBGATE_CONNECT_TIMEOUT"):
        settings.connect_timeout_seconds()


def test_a_script_that_is_not_asynchronous_imports_no_asyncio(tmp_path: Path) -> None:
    """It would be more than half of what its first acquire takes."""
    program = (
        "import sys\n"
        "from ebbgate.sync import concurrency\n"
        "with concurrency('a', suppress_warnings=True): pass\n"
        "sys.exit('asyncio' in sys.modules)"
    )
    environment = {**os.environ, "EBBGATE_URL": f"sqlite:///{tmp_path / 'x.db'}"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30, env=environment)
