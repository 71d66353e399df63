"""The client processes that are connected by a stream: who is here, who is away, and what each is told."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ebbgate.core.book import Book
from ebbgate.core.commands import Away, Hello, Outcome, Told
from ebbgate.core.model import SECOND, Session, Stored
from ebbgate.counting import counted
from ebbgate.errors import EbbgateError
from ebbgate.server.decider import Decider
from ebbgate.wire.stream import Down, EndedItem, GoodbyeItem, HurryItem, Role, failed_item, item_of

_log: Final = logging.getLogger("ebbgate.server")

AWAY_GRACE_US: Final = 10 * SECOND
RETRY_SECONDS: Final = 0.5


class Line(Protocol):
    """One connection, as those see it who send something over it."""

    def send(self, item: Down) -> None:
        """Send an item, together with the others of this turn of the loop."""

    def end(self, code: int, reason: str) -> None:
        """Close it."""


@dataclass(slots=True)
class Present:
    """A session that has a connection here."""

    epoch: int
    main: Line | None = None
    # A greeting that its client gave up may come late, after that of the connection which is used.
    renewers: tuple[Line, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it has none any more."""
        return self.main is None and not self.renewers


class Sessions:
    """Every session that is connected to this server."""

    def __init__(self, decider: Decider, *, away_grace_us: int = AWAY_GRACE_US) -> None:
        """Nobody is connected yet.

        Args:
            decider: decides for all.
            away_grace_us: for how long one whose connections broke may come back.
        """
        self._decider = decider
        self._grace_us = away_grace_us
        self._present: dict[str, Present] = {}
        self._draining = False
        self._closed = False
        decider.audiences.append(self)
        decider.watchers.append(self._saw)
        decider.troubled.append(self._say_trouble)

    def __len__(self) -> int:
        """Return how many are connected."""
        return len(self._present)

    def attach(self, session: str, epoch: int, role: Role, line: Line) -> None:
        """Note that a session has a connection, after its greeting was committed; an older one is closed."""
        present = self._present.get(session)
        if present is None:
            present = self._present[session] = Present(epoch)
        present.epoch = max(present.epoch, epoch)
        if role == "renewer":
            present.renewers = (*(other for other in present.renewers if other is not line), line)
        elif present.main is not line:
            older, present.main = present.main, line
            if older is not None:
                older.end(4409, "this session has connected anew")

    def detach(self, session: str, line: Line, *, certain: bool) -> None:
        """Note that a connection has ended; without another one the session is away."""
        present = self._present.get(session)
        if present is None:
            return
        if present.main is line:
            present.main = None
        present.renewers = tuple(other for other in present.renewers if other is not line)
        if present.is_empty:
            del self._present[session]
            # Whoever was asked to go closes the connection itself, and may have nowhere to go to for a while: who
            # does not come back is missed by the next server, or by another one.
            if not self._draining:
                self.missed(session, present.epoch, certain=certain)

    def forget(self, session: str) -> None:
        """Note that a session is over, whatever connections it has."""
        self._present.pop(session, None)

    def missed(self, session: str, epoch: int, *, certain: bool) -> None:
        """Have it committed that a session has no connection; tried again until the store takes it."""
        gone = Away(session, epoch, certain, self._grace_us, self._decider.address)
        self._say((gone,))

    def _say(self, gone: Sequence[Away]) -> None:
        def answered(outcomes: Sequence[Outcome] | EbbgateError) -> None:
            if isinstance(outcomes, EbbgateError) and not self._closed:
                absent = [away for away in gone if away.session not in self._present]
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._say, absent)

        if gone and not self._closed:
            self._decider.submit(gone, answered)

    def _saw(self, stored: Sequence[Stored] | None, now_us: int) -> None:
        """Say of those that are connected here that they are, when another server has noted them as away.

        One connection of a session may be to it, and the other one to this. A main one to this is over when the
        session has greeted another server since.
        """
        del now_us
        for entry in stored or ():
            session = entry.record
            if not isinstance(session, Session):
                continue
            if session.away_us >= 0:
                self._say_here(entry.id)
            present = self._present.get(entry.id)
            if present is not None and present.main is not None and session.epoch > present.epoch:
                present.main.end(4409, "this session has connected to another server")

    def _say_here(self, session: str) -> None:
        """Have it committed that a session is not away; tried again until the store takes it."""
        present, known = self._present.get(session), self._decider.book.sessions.get(session)
        if present is None or known is None or known.away_us < 0 or present.epoch != known.epoch:
            return

        def answered(outcomes: Sequence[Outcome] | EbbgateError) -> None:
            if isinstance(outcomes, EbbgateError):
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._say_here, session)

        hello = Hello(
            known.id, known.epoch, known.host, known.pid, known.labels, known.presence,
            self._decider.address, known.remembers, known.key,
        )  # fmt: skip
        self._decider.submit((hello,), answered)

    def epoch_of(self, session: str) -> int:
        """Return the newest epoch that is known of a session."""
        present = self._present.get(session)
        known = self._decider.book.sessions.get(session)
        return max(present.epoch if present else 0, known.epoch if known else 0)

    # --- what they are told

    def tell(self, told: Told) -> bool:
        """See `Audience`: a grant goes to who waits for it, a loss to who keeps the lease alive as well."""
        present = self._present.get(told.session)
        if present is None:
            return False
        item = item_of(0, told.outcome, told.id)
        lost = isinstance(item, EndedItem)
        for line in present.renewers if lost else ():
            line.send(item)
        if present.main is not None and not (lost and present.main in present.renewers):
            present.main.send(item)
        return True

    def hurry(self) -> None:
        """See `Audience`."""
        for line in self._lines():
            line.send(HurryItem())

    def _say_trouble(self, error: EbbgateError) -> None:
        """Tell all that the store is out of reach: another server may reach it."""
        for line in self._lines():
            line.send(failed_item(0, error))

    def reloaded(self, book: Book) -> None:
        """See `Audience`: who is unknown by now must greet again, and everybody asks again for what it waits for."""
        del book
        for line in self._lines():
            line.end(1012, "the store was loaded anew: connect again")

    def drain(self, after_seconds: float) -> None:
        """Ask everybody to come back later, or at another server."""
        self._draining = True
        for line in self._lines():
            line.send(GoodbyeItem(after_seconds))

    def close(self) -> None:
        """Forget everybody: that connections end because the server stops says nothing about the clients."""
        self._present.clear()
        self._closed = True

    def _lines(self) -> Iterable[Line]:
        lines: dict[int, Line] = {}
        for present in self._present.values():
            for line in (present.main, *present.renewers):
                if line is not None:
                    lines[id(line)] = line
        return list(lines.values())

    # --- who did not come back

    def miss_absent(self) -> None:
        """Say of those who were served over a stream before, and have not come back, that they are away."""
        sessions = self._decider.book.sessions.values()
        self.miss(
            [session for session in sessions if session.remembers == "spends" and session.away_us < 0], 0
        )

    def miss(self, sessions: Iterable[Session], grace_us: int) -> None:
        """Say of those that are not connected here that they are away, from which follows what does after so long."""
        absent = [
            Away(session.id, session.epoch, certain=False, grace_us=grace_us)
            for session in sessions
            if session.id not in self._present
        ]
        if absent:
            _log.info("not back in time: %s", counted(len(absent), "client"))
            self._say(absent)
