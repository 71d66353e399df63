"""The files for operators: what they start exists, and what they promise is so.

Known limit: no image is built and no unit is run here; that takes an engine and a systemd.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebbgate import settings
from ebbgate.cli import serve as command
from ebbgate.server.options import Options
from tests.cli.support import COMMAND
from tests.server.asking import KEY_TEXT
from tests.server.certificates import make_certificates
from tests.server.processes import environment_of, started

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "ebbgate.service").read_text()
IMAGE = (DEPLOY / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def variables() -> set[str]:
    """Every variable that a server reads."""
    source = Path(command.__file__).read_text() + Path(settings.__file__).read_text()
    return set(re.findall(r"\bEBBGATE_[A-Z_]+[A-Z]\b", source))


def values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    parsed: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return parsed


def test_what_is_set_anywhere_is_read_by_a_server() -> None:
    named = {
        variable
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for variable in re.findall(r"\bEBBGATE_[A-Z_]+[A-Z]\b", path.read_text().replace("EBBGATE_NAME", ""))
    }
    assert named
    assert named - variables() == set()


def test_every_option_has_its_variable_and_the_default_of_the_server() -> None:
    """What the command line does not say is what `Options` says."""
    import inspect

    defaults = {
        name: parameter.default for name, parameter in inspect.signature(command.serve).parameters.items()
    }
    own = Options(store="memory://")
    for flag, field in {
        "host": "host", "port": "port", "durability": "durability", "away_grace": "away_grace_seconds",
        "recovery_grace": "recovery_grace_seconds", "lease_duration_min": "lease_duration_min_seconds",
        "prefect_wait": "prefect_wait_seconds",
        "drain_seconds": "drain_seconds", "connections_max": "connections_max", "log_level": "log_level",
        "allow_empty_store": "allow_empty_store", "unknown_limits": "unknown_limits",
    }.items():  # fmt: skip
        assert defaults.pop(flag) == getattr(own, field)
    assert (defaults.pop("store_upgrade") == "auto") is own.upgrade
    assert set(defaults.values()) == {None, "table"}


def test_the_unit_is_notified_gives_time_to_drain_and_owns_its_folder_alone() -> None:
    assert values("Type") == ["notify"]
    assert float(values("TimeoutStopSec")[0]) > Options(store="memory://").drain_seconds
    assert values("ExecStart") == ["/opt/ebbgate/bin/ebbgate serve"]
    assert values("DynamicUser") == ["yes"]
    assert f"sqlite:////var/lib/{values('StateDirectory')[0]}/" in values("Environment")[0]
    assert values("ProtectSystem") == ["strict"]
    assert "ProcSubset" not in re.sub(r"^#.*$", "", UNIT, flags=re.MULTILINE), (
        "the store reads the id of the boot"
    )


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "ebbgate.service"
    unit.write_text(UNIT.replace("/opt/ebbgate/bin/ebbgate", COMMAND))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_LOG_COLOR": "0"},
    )  # fmt: skip
    about_us = [line for line in done.stderr.splitlines() if "ebbgate" in line]
    assert about_us == [], done.stderr


def test_the_image_runs_as_nobody_special_on_a_folder_of_its_own() -> None:
    stages = IMAGE.split("\nFROM ")
    assert len(stages) == 3
    last = stages[-1]
    assert re.search(r"^USER 4220:4220$", last, re.MULTILINE)
    assert last.index("\nUSER") < last.index("\nENTRYPOINT")
    assert 'ENTRYPOINT ["ebbgate"]' in last
    assert 'CMD ["serve"]' in last
    assert "EBBGATE_STORE=sqlite:////data/" in last
    assert "VOLUME /data" in last
    assert "HEALTHCHECK" in last


def test_the_image_is_made_of_files_that_are_here_and_reach_it() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", IMAGE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_compose_hands_over_every_secret_and_asks_for_no_rights() -> None:
    whole = compose()
    service = whole["services"]["ebbgate"]
    assert (ROOT / service["build"]["dockerfile"]).exists()
    assert set(service["secrets"]) == set(whole["secrets"])
    for variable in ("EBBGATE_API_KEYS_FILE", "EBBGATE_TLS_CERT", "EBBGATE_TLS_KEY"):
        folder, _, name = service["environment"][variable].rpartition("/")
        assert folder == "/run/secrets"
        assert name in service["secrets"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service
    assert "network_mode" not in service
    mounted = [volume.split(":") for volume in service["volumes"]]
    assert mounted == [["data", "/data"]]
    assert "data" in whole["volumes"]
    assert float(service["stop_grace_period"].rstrip("s")) > float(
        service["environment"]["EBBGATE_DRAIN_SECONDS"]
    )


def health(folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"], capture_output=True, text=True, check=False, timeout=20,
        env=environment_of(folder, environment),
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.slow
def test_the_image_s_settings_start_a_server_that_its_health_check_finds(
    tmp_path: Path, certificates: Path
) -> None:
    """As compose starts it: on every address, with keys and TLS from files."""
    (tmp_path / "api-keys").write_text(f"# of the tests\nci={KEY_TEXT}\n")
    environment = {
        "EBBGATE_STORE": f"sqlite:///{tmp_path}/ebbgate.db", "EBBGATE_HOST": "0.0.0.0",
        "EBBGATE_ALLOWED_HOSTS": "ebbgate",
        "EBBGATE_API_KEYS_FILE": str(tmp_path / "api-keys"), "EBBGATE_TLS_CERT": str(certificates / "one.pem"),
        "EBBGATE_TLS_KEY": str(certificates / "one.key"),
    }  # fmt: skip
    with started(tmp_path, environment=environment) as served:
        port = served.url.rpartition(":")[2]
        assert health(tmp_path, {**environment, "EBBGATE_PORT": port}) == (0, "")
        assert health(tmp_path, {"EBBGATE_PORT": port})[0] == 1  # not over plain HTTP
        assert served.end() == 0
        code, said = health(tmp_path, {**environment, "EBBGATE_PORT": port})
        assert code == 1
        assert "no answer" in said
