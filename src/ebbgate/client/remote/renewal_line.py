"""The renewer's own connection: it keeps leases alive while the others are busy, blocked or broken.

Only the renewer's thread uses it, but for making it. It says a greeting for every session that holds a lease,
so that none of them is taken for away as long as this connection is there.
"""

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

from ebbgate.client.lease import Lease
from ebbgate.client.locks import is_from_the_system
from ebbgate.client.remote.connecting import Connector
from ebbgate.client.remote.desk import SESSION_CODES
from ebbgate.client.remote.dialling import READ_BYTES, Connection, Dialler, Stale, refusal_of
from ebbgate.client.remote.host import GIVE_BACK_US, GREETING, Sessions, greeting
from ebbgate.client.remote.items import item_of
from ebbgate.client.remote.line import Broken
from ebbgate.client.remote.pulse import Pulse
from ebbgate.core.commands import Command, Done, Ended, Outcome, Release
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, InvalidRequest, NotAuthorized, ServerUnavailable, StoreUnavailable
from ebbgate.neighbours.polls import new_poll
from ebbgate.wire.stream import (
    AnswerItem,
    ByeItem,
    Down,
    EndedItem,
    FailedItem,
    GoodbyeItem,
    HelloItem,
    HurryItem,
    RefusedItem,
    Up,
    error_of,
    outcome_of,
)

_log: Final = logging.getLogger("ebbgate")

ANSWER_US: Final = 5 * SECOND  # then the next batch of renewals says the same again
EXPECTED_US: Final = 2 * SECOND  # for so long a session is greeted for that is about to hold a lease


class RenewalLine:
    """See `RenewalGate`."""

    epoch = 0  # each session has its own

    def __init__(self, sessions: Sessions, dialler: Dialler) -> None:
        """Connect when the first lease is held."""
        self.holding: dict[str, Lease] = {}
        self.clock: Callable[[], int] = sessions.clock
        self._sessions = sessions
        self._dialler = dialler
        self._connector = Connector(self, dialler)
        self._connection: Connection | None = None
        self._arrived: tuple[Connection, HelloItem] | None = None
        self._expected: dict[str, int] = {}  # sessions about to hold their first lease; since when
        self._guard = threading.Lock()  # of what comes from other threads
        self._greeted: dict[str, int] = {}  # session -> epoch, over this connection
        self._newest: dict[str, int] = {}  # session -> epoch that the store knows
        self._greetings: dict[int, str] = {}  # number -> session, unanswered
        self._farewells: dict[str, int] = {}  # sessions that are over; when that was said last
        self._parting: dict[int, str] = {}  # number of a good-bye -> session
        self._waiting: dict[int, int] = {}  # number of a command -> its place in the batch
        self._outcomes: list[Outcome | None] = []
        self._numbers = GREETING
        self._unsent = b""
        self._pulse = Pulse(has_others=dialler.has_others)
        self._asked_us = 0  # when something was asked first since something came
        self._was_away = False  # a connection is gone, or could not be made
        self._listener, self._bell = socket.socketpair()
        self._listener.setblocking(False)
        self._bell.setblocking(False)

    # --- what the renewer wants

    def interrupt(self) -> None:
        """Make `listen` return now."""
        try:
            self._bell.send(b"\0")
        except OSError as error:  # it was rung before, or all is over
            if not is_from_the_system(error):
                raise

    def listen(self, timeout_seconds: float) -> None:
        """Return when something may have become of a held lease, or after the timeout."""
        has_loops = self._sessions.reap()
        if self._take_over():
            return
        self._attach()
        until_us = self.clock() + round(timeout_seconds * SECOND)
        if self._look() or self._farewells or has_loops:
            until_us = min(until_us, self.clock() + SECOND)
        self._exchange(until_us)

    def call(self, commands: Sequence[Command]) -> list[Outcome | None]:
        """Carry out commands; None stands for an outcome that is not known: say the same again.

        Raises:
            ServerUnavailable: none is known.
        """
        self._take_over()
        self._outcomes = [None] * len(commands)
        self._waiting.clear()
        left = [entry for entry in enumerate(commands) if not self._is_released(*entry)]
        items = [self._item(*entry) for entry in left]
        if items:
            self._carry_out(items)
        if commands and not any(self._outcomes):
            raise ServerUnavailable("no server answers")
        return self._outcomes

    def _is_released(self, place: int, command: Command) -> bool:
        """Release a lease where it was asked for; return False if that is over, or the command is another one."""
        if not isinstance(command, Release):
            return False
        patience_us = 0 if place and self._outcomes[place - 1] is None else GIVE_BACK_US
        try:
            if not self._sessions.release_elsewhere(command, patience_us):
                with self._guard:
                    self._expected[command.session] = self.clock()
                return False
            self._outcomes[place] = Done(command.id)
        except EbbgateError as error:
            _log.debug("a release has no answer yet: %s", error)
        return True

    def _item(self, place: int, command: Command) -> Up:
        number = self._number()
        self._waiting[number] = place
        return item_of(number, command)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _carry_out(self, items: list[Up]) -> None:
        now_us = self.clock()
        # Whoever loses its lease meanwhile, or has just lost it, is to hear of it before anything is waited for.
        ends = [lease.deadline_us for lease in list(self.holding.values()) if not (lease.why or lease.ended)]
        until_us = min([now_us + ANSWER_US, *ends])
        connection = self._connection
        if connection is None:
            self._connector.start()
            return
        self._attach()
        self._say(items)
        while self._waiting and self._connection is connection and self.clock() < until_us:
            self._exchange(until_us)
        self._look()

    # --- the connection

    def attach(self, session: str) -> None:
        """Have a session greeted for that is about to hold its first lease; from any thread."""
        with self._guard:
            self._expected[session] = self.clock()
        self.interrupt()

    def farewell(self, session: str, epoch: int) -> None:
        """Say good-bye for a session that is over, until it is heard; from any thread."""
        with self._guard:
            self._newest[session] = max(epoch, self._newest.get(session, 0))
            self._farewells[session] = 0
        self.interrupt()

    def _held_sessions(self) -> set[str]:
        held = {lease.session for lease in list(self.holding.values())}
        since_us = self.clock() - EXPECTED_US
        with self._guard:
            expected = {session for session, at_us in self._expected.items() if at_us > since_us}
            return held | expected | self._farewells.keys()

    def _greeting(self, number: int, session: str) -> HelloItem:
        epoch = max(self._sessions.epoch_of(session), self._newest.get(session, 0))
        newest = max((lease.fencing_token for lease in list(self.holding.values())), default=0)
        return greeting(number, session, epoch, "renewer", newest)

    def _attach(self) -> None:
        """Have a connection that has greeted for every session that holds a lease, under its present epoch."""
        held = self._held_sessions()
        if self._connection is None:
            if held:
                self._connector.start()
            return
        hellos: list[Up] = []
        for session in held:
            hello = self._greeting(self._number(), session)
            if self._greeted.get(session) != hello.epoch:
                self._greeted[session] = hello.epoch
                self._greetings[hello.number] = session
                hellos.append(hello)
        with self._guard:
            self._expected.clear()
        byes = self._byes()
        if hellos or byes:
            self._say([*hellos, *byes])

    def _byes(self) -> list[Up]:
        now_us = self.clock()
        byes: list[Up] = []
        with self._guard:
            for session, said_us in self._farewells.items():
                if now_us - said_us > SECOND:
                    number = self._number()
                    self._farewells[session] = now_us
                    self._parting[number] = session
                    byes.append(ByeItem(number, session))
        return byes

    def _say(self, items: Sequence[Up]) -> None:
        connection = self._connection
        assert connection is not None, "asked only where there is one"
        connection.line.say(items)
        if self._asked_us <= self._pulse.heard_us:
            self._asked_us = self.clock()
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        data = self._unsent + connection.line.to_send()
        if not data:
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._drop(error)
            return
        self._unsent = data[sent:]

    def _exchange(self, until_us: int) -> None:
        """Send what is to be sent and take in what comes, once; return at `until_us`, or when interrupted."""
        poll = new_poll()
        poll.register(self._listener, select.POLLIN)
        connection = self._connection
        if connection is not None:
            poll.register(connection, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        for fd, _ in poll.poll(max(until_us - self.clock(), 0) / 1_000):
            if fd == self._listener.fileno():
                with contextlib.suppress(OSError):
                    self._listener.recv(4096)
            elif connection is not None:
                if self._unsent:
                    self._send(connection)
                self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            messages = connection.line.receive(connection.sock.recv(READ_BYTES))
        except BlockingIOError:
            return
        except (OSError, Broken, EbbgateError) as error:
            self._drop(error)
            return
        self._pulse.heard(self.clock())
        for item in (item for _, items in messages for item in items):
            self._hear(connection, item)
        if connection is self._connection and connection.line.has_output:
            self._send(connection)

    def _hear(self, connection: Connection, item: Down) -> None:
        number = getattr(item, "number", 0)
        if number in self._greetings:
            self._greeted_or_not(self._greetings.pop(number), item)
        elif number in self._parting:
            session = self._parting.pop(number)
            if not isinstance(item, FailedItem):
                self._greeted.pop(session, None)
                with self._guard:
                    self._farewells.pop(session, None)
                    self._newest.pop(session, None)
        elif number in self._waiting:
            self._answered(self._waiting.pop(number), item)
        elif isinstance(item, EndedItem) and not number:
            self._sessions.ended(Ended(item.id, item.why, item.at_us, item.arrival))
        elif isinstance(item, HurryItem):
            self._sessions.hurry()
        elif isinstance(item, GoodbyeItem):
            self._dialler.leave(connection.address, item.after_seconds)
            self._drop(ConnectionError("the server stops"))

    def _greeted_or_not(self, session: str, item: Down) -> None:
        refusal = refusal_of(item)
        if refusal is None:
            return
        self._greeted.pop(session, None)
        if isinstance(refusal, Stale):
            self._newest[session] = refusal.newest
        _log.info("the renewer was not welcome: %s", refusal)

    def _answered(self, place: int, item: Down) -> None:
        if isinstance(item, AnswerItem | HurryItem | GoodbyeItem):
            return
        if isinstance(item, RefusedItem) and item.code in SESSION_CODES:
            self._greeted.clear()  # greet again, and say the same
        elif isinstance(item, FailedItem):
            error = error_of(item)
            _log.info("not renewed yet: %s", error)
            if isinstance(error, InvalidRequest):
                self._greeted.clear()
            elif self._dialler.has_others and isinstance(error, StoreUnavailable):
                self._drop(error)  # another server may reach the store
        else:
            self._outcomes[place] = outcome_of(item)

    def _look(self) -> bool:
        """Give the connection up if it is silent; return whether an answer is missing."""
        connection = self._connection
        if connection is None or self._asked_us <= self._pulse.heard_us:
            return False
        if self._pulse.is_gone(self.clock(), self._asked_us, waits=False):
            self._drop(TimeoutError("the server fell silent"))
        else:
            self._pulse.ask(connection.line)
            self._send(connection)
        return True

    def _drop(self, error: Exception) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        _log.debug("the renewer's connection ended: %s", error)
        connection.close()
        self._greeted.clear()
        self._greetings.clear()
        self._parting.clear()
        self._waiting.clear()
        self._unsent = b""
        if self.holding:
            self._connector.start(connection.address)

    # --- making it

    def hello(self) -> HelloItem | None:
        """See `Connectable`."""
        session = next(iter(self._held_sessions()), None)
        if session is None or self._arrived is not None or self._connection is not None:
            return None
        return self._greeting(GREETING, session)

    def stale(self, hello: HelloItem, newest: int) -> None:
        """See `Connectable`."""
        self._newest[hello.session] = newest

    def connected(self, connection: Connection, hello: HelloItem) -> None:
        """See `Connectable`."""
        with self._guard:
            self._arrived = (connection, hello)
        self.interrupt()

    def not_connected(self, error: EbbgateError) -> None:
        """See `Connectable`."""
        level = logging.DEBUG
        if isinstance(error, NotAuthorized):
            level = logging.WARNING
            for lease in list(self.holding.values()):
                lease.unrenewable = "not renewed, because the server no longer accepts this API key"
        _log.log(level, "the renewer has no connection: %s", error)
        self._was_away = True
        self._sessions.unreachable()

    def _take_over(self) -> bool:
        """Begin to use a connection that was made; return whether there is one."""
        with self._guard:
            arrived, self._arrived = self._arrived, None
        if arrived is None:
            return False
        connection, hello = arrived
        self._connection = connection
        self._greeted[hello.session] = hello.epoch
        self._pulse.heard(self.clock())
        self._connector.works()
        if self._was_away:
            self._sessions.hurry()  # nobody knows how long nothing could be renewed
        self._was_away = True
        for item in (item for _, items in connection.early for item in items):
            self._hear(connection, item)
        self._attach()
        return True

    # --- the end

    def close(self, until_us: int) -> None:
        """Say good-bye for all sessions that were greeted for; the renewer's thread has ended."""
        self._connector.stop()
        self._take_over()
        connection, self._connection = self._connection, None
        if connection is not None:
            byes = [ByeItem(self._number(), session) for session in self._greeted]
            connection.part(byes, self._unsent, until_us - self.clock())
        self._listener.close()
        self._bell.close()

    def retire(self) -> None:
        """Connect no more, and let the renewer's thread go; from any thread."""
        self._connector.stop()
        self.interrupt()

    def abandon(self) -> None:
        """Close this process's copies of its sockets after a fork."""
        self._listener.close()
        self._bell.close()
