"""Keys of a terminal: read one by one and unechoed, the terminal set back in the end whatever happens."""

import codecs
import contextlib
import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Final, Self

_SEQUENCES: Final = {
    "[A": "up", "OA": "up", "[B": "down", "OB": "down", "[C": "right", "OC": "right", "[D": "left", "OD": "left",
    "[5~": "page up", "[6~": "page down", "[H": "home", "OH": "home", "[1~": "home", "[7~": "home",
    "[F": "end", "OF": "end", "[4~": "end", "[8~": "end", "[3~": "delete",
}  # fmt: skip
_CONTROL: Final = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\t": "tab",
    "\x0c": "redraw",
}
_ESCAPE_SECONDS: Final = 0.05  # what belongs to one key comes together


class Keys:
    """The keyboard, from entering on."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self._fd = sys.stdin.fileno()
        self._before: list[int | list[bytes | int]] = []
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def __enter__(self) -> Self:
        """Have keys come one by one."""
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Set the terminal back."""
        self.give_back()
        os.close(self._woken)
        os.close(self._wake)

    def take(self) -> None:
        """Have keys come one by one, unechoed; signals still come as signals."""
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSADRAIN)

    def give_back(self) -> None:
        """Set the terminal back; what was typed and not read goes, so that no shell takes it for a command."""
        if self._before:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSAFLUSH, self._before)
            self._before = []

    def wake(self) -> None:
        """End `read` early, from any thread."""
        with contextlib.suppress(OSError):
            os.write(self._wake, b".")

    def read(self, seconds: float) -> list[str]:
        """Return the keys that were pressed: characters, or words like "up".

        Args:
            seconds: wait for one at most so long; less if somebody calls `wake`.

        Raises:
            EOFError: the terminal is gone.
        """
        ready = select.select((self._fd, self._woken), (), (), seconds)[0]
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._fd not in ready:
            return []
        text = self._more()
        while _is_open(text) and select.select((self._fd,), (), (), _ESCAPE_SECONDS)[0]:
            text += self._more()
        return keys_in(text)

    def _more(self) -> str:
        data = os.read(self._fd, 1024)
        if not data:
            raise EOFError
        return self._decode(data)


def _is_open(text: str) -> bool:
    """Tell whether more of the last key may be on its way."""
    tail = text[text.rfind("\x1b") + 1 :] if "\x1b" in text else "x"
    return tail in {"", "[", "O"} or (tail[0] == "[" and tail[1:].isdigit())


def keys_in(text: str) -> list[str]:
    """Return the keys that a terminal sent as `text`; those that nobody knows are left out."""
    keys: list[str] = []
    place = 0
    while place < len(text):
        character = text[place]
        place += 1
        if character != "\x1b":
            if character in _CONTROL or character.isprintable():
                keys.append(_CONTROL.get(character, character))
            continue
        if text[place : place + 1] not in {"[", "O"}:
            keys.append("escape")
            continue
        end = place + 1
        while end < len(text) and text[end] in "0123456789;":
            end += 1
        known = _SEQUENCES.get(text[place : end + 1])
        if known:
            keys.append(known)
        place = end + 1
    return keys
