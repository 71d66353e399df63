"""Help, version and completion: complete, and quick."""

import shlex
import subprocess
import sys
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from ebbgate import __version__
from ebbgate.cli.helptext import PAGE
from ebbgate.cli.main import application
from tests.cli.support import Cli, Real

COMMANDS = [
    "limit",
    "apply",
    "export",
    "lease",
    "run",
    "top",
    "serve",
    "demo",
    "store",
    "doctor",
    "import",
    "completion",
]
VERBS = [
    f"limit {verb}"
    for verb in ("create", "ls", "inspect", "update", "enable", "disable", "cool-down", "delete")
]
VERBS += [f"lease {verb}" for verb in ("ls", "inspect", "revoke")]
VERBS += ["store check", "store upgrade"]


def test_the_page_names_every_command_and_no_other() -> None:
    registered = {name for name in application() if not name.startswith("-")}
    assert registered == {*COMMANDS, "gcl"}
    for name in registered:
        assert f"  {name} " in PAGE or f"(also: {name})" in PAGE


def test_the_page_fits_a_terminal(cli: Cli) -> None:
    shown = cli("--help")
    assert (shown.code, shown.out, shown.err) == (0, PAGE, "")
    assert max(map(len, PAGE.splitlines())) <= 80
    assert cli("-h").out == cli("help").out == PAGE


def test_without_arguments_it_tells_what_there_is(cli: Cli) -> None:
    shown = cli("")
    assert (shown.code, shown.out, shown.err) == (0, PAGE, "")


@pytest.mark.parametrize("command", ["gcl", *COMMANDS, *VERBS, "import prefect"])
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    for shown in (cli(f"{command} --help"), cli(f"{command} -h")):
        assert (shown.code, shown.err) == (0, "")
        assert f"Usage: ebbgate {command}" in shown.out
        assert ("--output" in shown.out) is (command not in {"limit", "gcl", "lease", "import", "store"})


@pytest.mark.parametrize("command", [*COMMANDS, *VERBS, "import prefect"])
def test_every_help_ends_with_examples_that_it_explains(cli: Cli, command: str) -> None:
    shown = cli(f"{command} --help").out
    _, heading, examples = shown.partition("\nExamples:\n")
    assert heading
    assert f"ebbgate {command}" in examples
    for example in examples.split("\n  ebbgate ")[1:]:
        words = shlex.split(
            example.partition("\n\n")[0].replace("\\\n", " ").partition(">")[0].partition(" -- ")[0]
        )
        path = [
            word
            for word in words[: 1 + (words[0] in {"limit", "gcl", "lease", "import", "store"})]
            if word[0] != "-"
        ]
        explained = cli(" ".join([*path, "--help"])).out
        flags = [word for word in words if word.startswith("-")]
        assert [flag for flag in flags if f"{flag} " not in explained] == [], example


def test_the_version_is_the_package_s(real: Real) -> None:
    assert real("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_commands(cli: Cli, shell: str) -> None:
    script = cli(f"completion {shell}").out
    for word in ("limit", "gcl", "inspect", "slot-decay-per-second"):
        assert word in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_help_imports_nothing_that_is_slow(real: Real) -> None:
    """Start time, measured: `--help` without cyclopts, JSON without rich."""
    for words, absent in (
        (["--help"], ("cyclopts", "rich", "apsw", "msgspec")),
        (["limit", "ls", "-o", "json"], ("rich",)),
    ):
        said = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "ebbgate.cli.main", *words],
            capture_output=True, text=True, check=True, env=real.environment,
        ).stderr  # fmt: skip
        imported = {line.rpartition("|")[2].strip() for line in said.splitlines()}
        assert imported.isdisjoint(absent)


def test_help_is_there_at_once(real: Real) -> None:
    """The target is 150 ms. Processor time is measured, so that a busy machine does not count."""
    took: dict[str, float] = {}
    for words in ("--help", "limit create --help", "limit ls -o json"):
        times = []
        for _ in range(3):
            before = getrusage(RUSAGE_CHILDREN)
            assert real(*words.split()).code == 0
            after = getrusage(RUSAGE_CHILDREN)
            times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        took[words] = min(times)
    print({words: f"{seconds * 1000:.0f} ms" for words, seconds in took.items()})
    assert took["--help"] < 0.15
    assert max(took.values()) < 0.4
