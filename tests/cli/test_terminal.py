"""What differs on a terminal: colours, bars, width, what is told while waiting, and the one question ever asked."""

import re
import signal

import pytest

from ebbgate.client.client import Client
from tests.cli.support import Real, let_go
from tests.cli.terminal import Terminal


def test_a_terminal_gets_colours_and_bars_within_80_columns(real: Real) -> None:
    real("limit", "create", "n" * 100, "--limit", "5")
    with real.holding("--limit", "n" * 100, "--occupy", "3"):
        terminal = Terminal(real, "limit", "ls")
        assert terminal.end() == 0
    assert "\x1b[" in terminal.shown
    assert "▰▰▰▱▱" in terminal.shown
    assert "3/5" in terminal.shown
    plain = Terminal(real, "limit", "ls", NO_COLOR="1")
    assert plain.end() == 0
    assert "\x1b[" not in plain.shown
    assert max(map(len, plain.shown.splitlines())) <= 80
    assert plain.shown.count("n") >= 100, "nothing is cut, it goes on in the next line"


def test_deleting_asks_on_a_terminal_unless_told_not_to(real: Real) -> None:
    with Client(real.url) as client:
        for name in ("a", "b", "c"):
            client.create_limit(name, 5)
        for answer, code in (("n\n", 1), ("\n", 1), ("y\n", 0)):
            assert "a" in [limit.name for limit in client.list_limits()]
            terminal = Terminal(real, "limit", "delete", "a")
            terminal.until("delete limit 'a'? [y/N]")
            terminal.type(answer)
            assert terminal.end() == code
        assert Terminal(real, "limit", "delete", "b", "--yes").end() == 0
        assert real("limit", "delete", "c").code == 2
        client.delete_limit("c")
        assert client.list_limits() == []


def test_ctrl_c_ends_the_command_and_run_tells_its_code(real: Real) -> None:
    real("limit", "create", "db", "--limit", "1")
    script = 'trap "echo once; trap - INT; exit 5" INT; echo ready; while :; do read -t 1 line; done'
    terminal = Terminal(real, "run", "--limit", "db", "--", "bash", "-c", script)
    terminal.until("ready")
    terminal.type("\x03")
    assert terminal.end() == 5
    assert terminal.shown.count("once") == 1


def test_whoever_waits_at_a_terminal_sees_why_in_one_line_that_is_gone_in_the_end(real: Real) -> None:
    real("limit", "create", "db", "--limit", "1")
    with real.holding("--limit", "db", "--label", "job=report") as holder:
        terminal = Terminal(real, "run", "--limit", "db", "--", "echo", "came in")
        for seconds in (1, 3):
            terminal.until_screen(lambda screen, seconds=seconds: waited(screen) >= seconds)  # type: ignore[misc]
        let_go(holder)
        assert terminal.end() == 0
    screen = terminal.screen()
    assert screen[0] == "came in", "the line is gone"
    assert all(len(line) <= 80 for line in terminal.shown.split("\r\x1b[2K")), "it is one line"


def waited(screen: list[str]) -> int:
    """Return how many seconds the line tells; 0 while there is none."""
    told = re.match(r"waiting for 'db' for (\d+)s, next in line: held by", screen[0])
    return int(told[1]) if told else 0


def test_ctrl_c_while_waiting_leaves_a_clean_line(real: Real) -> None:
    real("limit", "create", "db", "--limit", "1")
    with real.holding("--limit", "db"):
        terminal = Terminal(real, "run", "--limit", "db", "--", "true")
        terminal.until("waiting for 'db' for ")
        terminal.type("\x03")
        assert terminal.end() == 128 + signal.SIGINT
    assert terminal.screen()[0] == "ebbgate: Interrupt: nothing was run"


def test_whoever_waits_for_a_server_that_is_not_there_sees_that(real: Real) -> None:
    real.environment["EBBGATE_URL"] = "ebbgate://127.0.0.1:1"
    real.environment["EBBGATE_CONNECT_TIMEOUT"] = "3"
    terminal = Terminal(real, "run", "--limit", "db", "--", "true")
    terminal.until("waiting for 'db' for 1s: no answer yet from ebbgate://127.0.0.1:1; see")
    assert terminal.end() == 1
    assert "start one: ebbgate serve" in terminal.shown


@pytest.mark.parametrize("columns", [30, 40, 60, 80])
def test_no_column_of_a_table_is_lost_on_a_narrow_terminal(real: Real, columns: int) -> None:
    with Client(real.url) as client:
        client.create_limit("database", 5)
        client.create_limit("api", 60, slot_decay_per_second=1)
    terminal = Terminal(real, "limit", "ls", columns=columns)
    assert terminal.end() == 0
    shown = "".join(terminal.screen())
    for word in ("NAME", "LIMIT", "WAITING", "DECAY", "ENABLED", "database", "api", "0/5", "0/60"):
        assert word in shown, word
    with real.holding("--limit", "database", "--label", "job=report"):
        terminal = Terminal(real, "lease", "ls", columns=columns)
        assert terminal.end() == 0
        for word in ("ID", "STATE", "LIMITS", "HOLDER", "database", "held"):
            assert word in "".join(terminal.screen()), word
