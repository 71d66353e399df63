"""The command on a terminal of its own, and what a person would see there."""

import codecs
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Callable
from fcntl import ioctl
from time import monotonic

import pyte

from tests.cli.support import COMMAND, PATIENCE_SECONDS, Real


class Terminal:
    """The command on a terminal."""

    def __init__(
        self, real: Real, *arguments: str, lines: int = 40, columns: int = 80, **environment: str
    ) -> None:
        self.size = (columns, lines)
        kept = {name: value for name, value in real.environment.items() if name != "NO_COLOR"}
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(slave)  # how it is set up, as long as nobody changes it
        self.process = subprocess.Popen(
            [COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no thread runs here
        )  # fmt: skip
        os.close(slave)
        self.shown = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def until(self, text: str) -> str:
        """Read until `text` was shown; with "" to the end."""
        deadline = monotonic() + PATIENCE_SECONDS
        while not text or text not in self.shown:
            assert select.select([self.master], [], [], deadline - monotonic())[0], self.shown
            try:
                data = os.read(self.master, 65_536)
            except OSError:  # how Linux says that the other side is closed
                data = b""
            if not data:
                assert not text, self.shown
                break
            self.shown += self._decode(data)
        return self.shown

    def screen(self) -> list[str]:
        """Return the lines that are to be seen now."""
        screen = pyte.Screen(*self.size)
        pyte.Stream(screen).feed(self.shown)
        return [line.rstrip() for line in screen.display]

    def until_screen(self, is_so: Callable[[list[str]], object]) -> list[str]:
        """Read until what is to be seen is so; return it."""
        deadline = monotonic() + PATIENCE_SECONDS
        while not is_so(self.screen()):
            assert monotonic() < deadline, "\n".join(self.screen())
            if select.select([self.master], [], [], 0.5)[0]:
                self.shown += self._decode(os.read(self.master, 65_536))
        return self.screen()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        self.until("")
        os.close(self.master)
        return self.process.wait(20)
