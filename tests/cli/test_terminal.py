"""What differs on a terminal: colours, bars, width, and the one question that is ever asked."""

import os
import pty
import select
import signal
import struct
import subprocess
import termios
from fcntl import ioctl
from time import monotonic

from ebbgate.client.client import Client
from tests.cli.support import COMMAND, Real


class Terminal:
    """The command on a terminal of 80 columns."""

    def __init__(self, real: Real, *arguments: str, **environment: str) -> None:
        kept = {name: value for name, value in real.environment.items() if name != "NO_COLOR"}
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self.process = subprocess.Popen(
            [COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no thread runs here
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def until(self, text: str) -> str:
        """Read until `text` was shown; with "" to the end."""
        deadline = monotonic() + 20
        while not text or text not in self.shown:
            assert select.select([self.master], [], [], deadline - monotonic())[0], self.shown
            try:
                data = os.read(self.master, 65_536)
            except OSError:  # how Linux says that the other side is closed
                data = b""
            if not data:
                assert not text, self.shown
                break
            self.shown += data.decode()
        return self.shown

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        self.until("")
        os.close(self.master)
        return self.process.wait(20)


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


def test_deleting_asks_on_a_terminal_and_only_there(real: Real) -> None:
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
        assert real("limit", "delete", "c").code == 0
        assert client.list_limits() == []


def test_ctrl_c_ends_the_command_and_run_tells_its_code(real: Real) -> None:
    real("limit", "create", "db", "--limit", "1")
    script = 'trap "echo once; trap - INT; exit 5" INT; echo ready; while :; do read -t 1 line; done'
    terminal = Terminal(real, "run", "--limit", "db", "--", "bash", "-c", script)
    terminal.until("ready")
    terminal.type("\x03")
    assert terminal.end() == 5
    assert terminal.shown.count("once") == 1


def test_whoever_waits_at_a_terminal_is_told_for_what(real: Real) -> None:
    real("limit", "create", "db", "--limit", "1")
    with real.holding("--limit", "db"):
        terminal = Terminal(real, "run", "--limit", "db", "--", "true")
        terminal.until("waiting for 'db'; who holds it: ebbgate limit inspect db")
        terminal.type("\x03")
        assert terminal.end() == 128 + signal.SIGINT
