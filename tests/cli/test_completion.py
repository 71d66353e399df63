"""Shells complete commands, flags, and the names that there are."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import COMMAND, Cli, Real


def completed(real: Real, *words: str) -> list[str]:
    """Return what bash offers when tab is pressed behind these words."""
    script = """
        source <(ebbgate completion bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        complete -p ebbgate | grep -q -- '-F _ebbgate_or_names' && _ebbgate_or_names
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{Path(COMMAND).parent}:{real.environment['PATH']}"
    said = subprocess.run(
        ["bash", "-c", script, "bash", "ebbgate", *words],
        capture_output=True, text=True, check=True, env={**real.environment, "PATH": path},
    )  # fmt: skip
    assert said.stderr == ""
    return said.stdout.split("\n")[:-1]


def test_bash_completes_names_where_names_belong(real: Real) -> None:
    for name in ("database", "dat-2", "my db", "$(touch x)"):
        assert real("limit", "create", name, "--limit", "1").code == 0
    for words in (
        "limit inspect d", "gcl update d", "limit cool-down d", "top d", "run --limit d", "run -l d",
        "run --limit x --rate-limit d", "lease ls --limit d",
    ):  # fmt: skip
        assert completed(real, *words.split()) == ["dat-2", "database"], words
    assert completed(real, "limit", "delete", "my") == ["my\\ db"]
    assert completed(real, "limit", "delete", "$") == ["\\$\\(touch\\ x\\)"], "a shell takes it for a name"
    with real.holding("--limit", "database"):
        (lease_id,) = completed(real, "lease", "revoke", "")
        assert real("lease", "inspect", lease_id).code == 0


def test_elsewhere_it_completes_commands_and_flags(real: Real) -> None:
    real("limit", "create", "database", "--limit", "1")
    assert completed(real, "limit", "ins") == ["inspect"]
    assert "--help" in completed(real, "limit", "inspect", "--")
    for words in ("limit create d", "run --limit database -- mycommand --limit d"):
        assert "database" not in completed(real, *words.split())


def test_pressing_tab_never_prints_an_error(real: Real, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBGATE_URL", "ebbgate://127.0.0.1:1")
    assert cli("--names", "limits", "") == (0, "", "")
    assert cli("--names", "nonsense")[:2] == (2, "")
    real.environment["EBBGATE_URL"] = "nonsense"
    assert completed(real, "limit", "inspect", "d") == [""]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_understand_their_scripts(cli: Cli, shell: str) -> None:
    script = cli(f"completion {shell}").out
    assert "ebbgate --names" in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
