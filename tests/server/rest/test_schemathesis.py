"""Schemathesis tries everything that the OpenAPI document says, and much that it forbids, and finds nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ebbgate.server.keys import Keys
from tests.server.rest.serving import served

HERE = Path(__file__).resolve().parent
KEY = "0123456789abcdef-fuzzer"
SECONDS = 100


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with served(keys=Keys([KEY]), lease_duration_min_seconds=60.0) as rest:
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"),
            "run", f"{rest.url}/openapi.json", "-H", f"Authorization: Bearer {KEY}", "--no-color",
        ]  # fmt: skip
        environment = {
            **os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "",
        }  # fmt: skip
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Stateful" in done.stdout
        assert rest.client.get("/livez").status_code == 200
