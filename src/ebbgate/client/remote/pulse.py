"""Whether the server at the other end is still there.

A process that dies closes its connections, and a machine that dies does not. Where there are other servers, one
that says nothing is asked whether it is there: its event loop answers at once, however slow its store may be.
"""

from typing import Final

from ebbgate.client.remote.line import Line
from ebbgate.core.model import SECOND

SILENT_US: Final = 20 * SECOND
"""A connection over which nothing came for so long, though something is unanswered, is given up."""

QUIET_US: Final = SECOND // 2
"""With other servers: after so long without an answer, the server is asked whether it is there."""

IDLE_US: Final = 3 * SECOND
"""The same where nothing is asked, but somebody waits."""

GONE_US: Final = SECOND
"""How long it has to say so."""


class Pulse:
    """Of one connection after the other."""

    def __init__(self, *, has_others: bool = False) -> None:
        """Nothing was heard yet; `has_others` is whether there are servers that could be asked instead."""
        self.has_others = has_others
        self.asks = False  # the server is to be asked whether it is there
        self.heard_us = 0  # when something came last, or another connection was made
        self._asked_us = -1

    def heard(self, now_us: int) -> None:
        """Something came, or another connection was made."""
        self.heard_us = now_us
        self._asked_us = -1

    def ask(self, line: Line) -> None:
        """Ask over a connection, if it is time to."""
        if self.asks:
            self.asks = False
            line.ping()

    def is_gone(self, now_us: int, sent_us: int, *, waits: bool) -> bool:
        """Tell whether the connection is to be given up.

        Args:
            now_us: by the local clock.
            sent_us: when the oldest command was sent that is not answered; -1: none was.
            waits: whether somebody waits.
        """
        quiet_us = now_us - self.heard_us
        if 0 <= sent_us < now_us - SILENT_US and quiet_us >= SILENT_US:
            return True
        if not self.has_others:
            return False
        if self._asked_us >= 0:
            return now_us - self._asked_us >= GONE_US
        is_owed = 0 <= sent_us <= now_us - QUIET_US and quiet_us >= QUIET_US
        if is_owed or (waits and quiet_us >= IDLE_US):
            self.asks = True
            self._asked_us = now_us
        return False
