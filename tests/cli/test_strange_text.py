"""Text that users wrote never commands the terminal of another user, and never hides what it is."""

import msgspec
import pytest

from ebbgate.client.client import Client
from ebbgate.wire import LeaseInfo
from tests.cli.support import Cli, Real
from tests.cli.terminal import Terminal

STRANGE = "a\x1b[31m\x07\x7f\u0085\u009b31m\u200b\u202e\u2066\ufeff\U000e0041\u2028z"
"""ESC, BEL, DEL, NEL, CSI, zero width space, bidirectional controls, a byte order mark, a tag, a line separator."""


def is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    "line", ["lease ls", "limit inspect db", "lease ls -o json", "top --once", "top db --once"]
)
def test_labels_are_shown_escaped(cli: Cli, real: Real, line: str) -> None:
    cli("limit create db --limit 1")
    with real.holding("-l", "db", "--label", f"job={STRANGE}", "--label", f"{STRANGE}=x"):
        said = cli(line)
        assert said.code == 0
        assert is_plain(said.out), said.out
        as_json = cli("lease ls -o json")
        (lease,) = as_json.parsed(list[LeaseInfo])
        assert lease.holder.labels["job"] == STRANGE, "escaped, not changed"
        assert is_plain(as_json.out)
        assert is_plain(cli(f"lease inspect {lease.id}").out)


def test_descriptions_are_shown_escaped(cli: Cli, url: str) -> None:
    with Client(url) as client:
        client.create_limit("db", 1, description=STRANGE)
    for line in ("limit inspect db", "limit inspect db -o json", "export", "export -o json"):
        assert is_plain(cli(line).out), line


def test_json_at_a_terminal_commands_nothing(real: Real) -> None:
    with Client(real.url) as client:
        client.create_limit("db", 1, description=STRANGE)
    terminal = Terminal(real, "limit", "ls", "-o", "json")
    assert terminal.end() == 0
    assert is_plain(terminal.shown.replace("\r\n", "\n"))
    assert msgspec.json.decode(terminal.shown)[0]["description"] == STRANGE


@pytest.mark.parametrize(
    "character", ["\u202e", "\u200b", "\u200d", "\u00ad", "\U000e0041", "\u009b", "\u2028"]
)
def test_names_with_invisible_characters_are_refused(cli: Cli, character: str) -> None:
    name = f"a{character}b"
    for words in (["limit", "create", name, "-l", "1"], ["run", "-l", name, "--", "true"]):
        for more in ([], ["-o", "json"]):
            refused = cli(words[0], *words[1:3], *more, *words[3:])
            assert refused.code == 2, refused
            assert f"character 2 is U+{ord(character):04X}" in refused.err
            assert is_plain(refused.err)
