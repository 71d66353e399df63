"""What `ebbgate run` tells while it waits: on a terminal one line that is rewritten, elsewhere a line now and then."""

import os
import sys
import threading
import time
from types import TracebackType
from typing import Final, Self

from ebbgate.cli.printing import say
from ebbgate.client.progress import Situation, Watch, next_moment_us, sentence
from ebbgate.core.model import SECOND
from ebbgate.wire.words import clean, duration

_FIRST_SECONDS: Final = 1.5
"""After this a person at a terminal is told that there is no answer; why they wait, they are told after 1 s."""

_UNANSWERED_SECONDS: Final = 4.0
"""The same elsewhere, where it cannot be taken back: why they wait is told 2 s after they have asked, and a busy
machine takes its time to ask and to answer."""

_MARGIN: Final = 4  # columns, for the ^C that a terminal echoes
_DRAW_SECONDS: Final = 0.25
_CLEAR: Final = "\r\x1b[2K"


class Waiting:
    """Tells why the command has not started yet, from entering on until `over`."""

    def __init__(self, names: list[str], url: str, *, silent: bool) -> None:
        """Begin to count.

        Args:
            names: of what is waited for.
            url: where it is asked for.
            silent: say nothing at all.
        """
        self._names = names
        self._url = url
        self.is_silent = silent
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._over = threading.Event()
        self._heard: tuple[Situation, float] | None = None  # and when the wait began, on the monotonic clock
        self._drawn = False
        self._drawing = threading.Lock()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="ebbgate-telling", daemon=True)

    def __enter__(self) -> Self:
        """Tell from now on."""
        if not self.is_silent:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Tell no more."""
        self.over()

    def over(self) -> None:
        """Tell no more, and leave no half line: what follows is the command's."""
        with self._drawing:
            self._over.set()
            if self._drawn:
                sys.stderr.write(_CLEAR)
                sys.stderr.flush()
                self._drawn = False

    def find_watch(self, _session: str, _names: tuple[str, ...]) -> Watch:
        """Return who hears why one acquisition takes long."""
        return _EverySecond(self) if self._live else _NowAndThen(self)

    def hear(self, situation: Situation, waited_us: int) -> None:
        """Take in why; without a terminal, say it."""
        first = self._heard is None
        self._heard = (situation, time.monotonic() - waited_us / SECOND)
        if not self._live:
            say(f"ebbgate: {sentence(situation, waited_us)}")
        elif first:
            self._draw()

    def _run(self) -> None:
        if not self._live:
            if not self._over.wait(_UNANSWERED_SECONDS) and self._heard is None:
                say(f"ebbgate: {self._text()}")
            return
        pause = _FIRST_SECONDS
        while not self._over.wait(pause):
            self._draw()
            pause = _DRAW_SECONDS

    def _draw(self) -> None:
        text = self._text()
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
        except OSError:
            columns = 80
        room = max(columns - _MARGIN, 1)
        if len(text) > room:
            text = text[: room - 1] + "…"
        with self._drawing:
            if not self._over.is_set():
                self._drawn = True  # before it is: a signal may end this right after
                sys.stderr.write(_CLEAR + text)
                sys.stderr.flush()

    def _text(self) -> str:
        if self._heard is not None:
            situation, begun = self._heard
            return sentence(situation, round((time.monotonic() - begun) * SECOND))
        names = ", ".join(repr(clean(name)) for name in self._names)
        waited = duration(time.monotonic() - self._begun)
        return f"waiting for {names} for {waited}: no answer yet from {clean(self._url)}; see: ebbgate doctor"


class _EverySecond:
    """For a terminal."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    def next_us(self, waited_us: int) -> int:
        return (waited_us // SECOND + 1) * SECOND

    def wants(self, _waited_us: int) -> bool:
        return not self._waiting.is_silent

    def tell(self, situation: Situation, waited_us: int) -> None:
        self._waiting.hear(situation, waited_us)


class _NowAndThen(_EverySecond):
    """For a log."""

    def next_us(self, waited_us: int) -> int:
        return next_moment_us(waited_us)
