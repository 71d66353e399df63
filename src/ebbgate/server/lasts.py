"""What is done at the end of a decision's work: sending, mostly, so that all that goes to one client goes at once."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

_log: Final = logging.getLogger("ebbgate.server")

Last = Callable[[], None]


class Lasts:
    """What is to be done last; what was added for others than those who asked comes first."""

    def __init__(self) -> None:
        """There is nothing to do."""
        self._is_working = False
        self._for_callers: list[Last] = []
        self._lasts: list[Last] = []

    def add(self, last: Last) -> None:
        """Have something done at the end of the work that is being done, or of this turn of the loop."""
        if self._is_working:
            self._lasts.append(last)
        else:
            asyncio.get_running_loop().call_soon(last)

    def begin(self) -> None:
        """Begin to work; the callers are answered first."""
        self._is_working = True

    def turn_to_others(self) -> None:
        """Go on with those who are told what they have not asked: whoever is let in has work to do."""
        self._for_callers, self._lasts = self._lasts, []

    def end(self) -> None:
        """Do all of it."""
        lasts = self._lasts + self._for_callers
        self._lasts, self._for_callers = [], []
        self._is_working = False
        for last in lasts:
            try:
                last()
            except Exception:  # noqa: BLE001 - the others must have theirs
                _log.exception("a defect: something could not be sent")
