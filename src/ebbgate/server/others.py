"""The other servers on a store: which of them live, and what becomes of the clients of one that does not.

Each server keeps a session of its own in the store, whose epoch rises with every beat. Clients carry the address
of the server that they greeted last. Those of a server that fell silent, and that greet no other one, are noted
as away: what they wait for passes on, what they hold waits for its countdown.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from ebbgate.core.commands import Away, Hello, Outcome
from ebbgate.core.grace import RECOVERY_US
from ebbgate.core.model import SERVER, Session
from ebbgate.counting import counted
from ebbgate.errors import EbbgateError
from ebbgate.server.decider import Decider, ignore
from ebbgate.server.sessions import Sessions
from ebbgate.version import version

_log: Final = logging.getLogger("ebbgate.server")

BEAT_SECONDS: Final = 2.0

SILENT_SECONDS: Final = 10.0
"""After so long without a beat a server counts as gone. It may come back: it has lost nothing."""


class _Heard(NamedTuple):
    """The last beat of a server."""

    epoch: int
    at: float  # when it was first seen, by the time of the loop


class OtherServers:
    """What one server knows of the others."""

    def __init__(self, decider: Decider, sessions: Sessions, *, recovery_grace_us: int = RECOVERY_US) -> None:
        """Nobody is known yet.

        Args:
            decider: of a store that may have several.
            sessions: knows who is connected here.
            recovery_grace_us: for how long the clients of a server that is gone may greet another one.
        """
        self._decider = decider
        self._sessions = sessions
        self._grace_us = recovery_grace_us
        self._epoch = 0
        self._heard: dict[str, _Heard] = {}
        self._known: set[str] = set()  # those whose clients were not looked for
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many there are beside this one."""
        return len(self._heard)

    def start(self) -> None:
        """Begin to beat; the decider has begun."""
        self._looked_at = asyncio.get_running_loop().time()
        self._beat()

    def close(self) -> None:
        """Beat no more, and say so; clients that have nowhere to go yet keep their places for a while."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._decider.submit((Away(self._decider.address, self._epoch, certain=True, grace_us=0),), ignore)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_SECONDS, self._beat)
        address = self._decider.address
        self._epoch += 1
        hello = Hello(
            address, self._epoch, socket.gethostname(), os.getpid(), {"version": version()}, wake=address,
            remembers="nothing",
        )  # fmt: skip
        self._decider.submit((hello,), self._looked)

    def _looked(self, outcomes: Sequence[Outcome] | EbbgateError) -> None:
        """See who lives, now that all is known that was committed."""
        now, before = asyncio.get_running_loop().time(), self._looked_at
        self._looked_at = now
        if isinstance(outcomes, EbbgateError) or self._timer is None:
            return
        was_blind = (
            now - before > 2 * BEAT_SECONDS
        )  # then nobody can tell for how long the others were silent
        book, heard = self._decider.book, self._heard
        servers = {id_: session for id_, session in book.sessions.items() if id_.startswith(SERVER)}
        servers.pop(self._decider.address, None)
        for id_, session in servers.items():
            if was_blind or id_ not in heard or heard[id_].epoch != session.epoch:
                heard[id_] = _Heard(session.epoch, now)
        silent = [id_ for id_ in servers if now - heard[id_].at > SILENT_SECONDS]
        for id_ in heard.keys() - servers.keys() | set(silent):
            heard.pop(id_, None)
        if silent:
            _log.warning("%s fell silent: %s", counted(len(silent), "server"), ", ".join(silent))
        self._miss([servers[id_] for id_ in silent])

    def _miss(self, silent: Sequence[Session]) -> None:
        """Say of the clients of servers that are gone, and that greeted no other one, that they are away."""
        living = {self._decider.address, *self._heard}
        if living == self._known and not silent:
            return
        self._known = living
        gone = [Away(server.id, server.epoch, certain=True, grace_us=0) for server in silent]
        absent = [
            session for session in self._decider.book.sessions.values()
            if session.remembers == "spends" and session.away_us < 0 and session.wake not in living
        ]  # fmt: skip
        self._sessions.miss(absent, self._grace_us)
        if gone:
            self._decider.submit(gone, ignore)
