"""Where the threads of a process ask from: they share one connection, and no thread of its own is needed.

Whoever asks sends, and takes along what others have queued. One of those who wait for an answer reads for all
(it has the lead); the others sleep until their answer is there, or until the lead is theirs. So a thread that
is alone pays for no other.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Final

from ebbgate.client.locks import is_from_the_system
from ebbgate.client.remote.answers import answer_in
from ebbgate.client.remote.asked import Sleeper, ThreadAsked
from ebbgate.client.remote.channel import Channel, is_final
from ebbgate.client.remote.connecting import Connector
from ebbgate.client.remote.dialling import READ_BYTES, Connection, Dialler
from ebbgate.client.remote.host import (
    GIVE_BACK_US,
    RELEASES_US,
    Host,
    patience_until,
)
from ebbgate.client.remote.items import acquire_item
from ebbgate.client.remote.line import Broken
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Ended, Outcome, Release
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, ServerUnavailable
from ebbgate.wire.questions import Answer, Question
from ebbgate.wire.stream import AnswerItem, AskItem, ByeItem, HelloItem, ReleaseItem, Up

FOLLOW_US: Final = SECOND // 4
"""How often a thread that sleeps looks whether another one still reads for it."""

LOOK_US: Final = SECOND
"""How often whoever reads looks what time calls for."""


class ThreadChannel(Channel):
    """The session and connection of the threads of a process."""

    def __init__(self, host: Host, dialler: Dialler, session: str) -> None:
        """Connect on first use."""
        super().__init__(host, dialler, session)
        self._connector = Connector(self, dialler)
        self._mutex = threading.Lock()  # guards all of this, the desk and the line; held for microseconds
        self._sending = threading.Lock()
        self._leader = 0  # the thread that reads; 0: none, or one that was interrupted
        self._led: Connection | None = None  # what it reads, or read last: not always the connection of now
        self._followers: list[Sleeper] = []
        self._look_us = 0  # when whoever reads looks next though there is always something to read
        self._left: dict[str, ThreadAsked] = {}  # releases whose caller went on without an answer

    # --- what callers want

    def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """Carry out one command; see `ThreadPlace`."""
        until_us = patience_until(self._clock(), until_us, self._host.patience_us(), waits=command.wait)
        reply = self._reply(ThreadAsked(acquire_item(self._number(), command), waiter), until_us)
        assert not isinstance(reply, AnswerItem), "that answers a question"
        return reply

    def request(self, make: Callable[[int], Up], until_us: int) -> Outcome | AnswerItem:
        """Carry out what `make` makes of a number.

        Raises:
            ServerUnavailable, StoreUnavailable: it is not known whether it was carried out.
        """
        return self._reply(ThreadAsked(make(self._number())), until_us)

    def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """Return when `waiter` has its outcome, or at `until_us`."""
        sleeper = Sleeper()
        with self._mutex:
            waiter.notify = sleeper.finish
            sleeper.done = waiter.outcome is not None
        self._until(sleeper, until_us)

    def forget(self, waiter: Waiter) -> None:
        """Stop listening for what becomes of a waiter."""
        with self._mutex:
            self._desk.forget(waiter.lease_id)

    def give_back(self, command: Release) -> None:
        """Release a lease within 100 ms, or have the renewer see to it."""
        if not self._was_connected:
            return  # nothing was ever asked
        try:
            self.release(command, GIVE_BACK_US)
        except EbbgateError:
            self._host.renewer.release_later(command)

    def release(self, command: Release, patience_us: int) -> None:
        """Release a lease. Without an answer it stays asked for, after what was asked before.

        Raises:
            ServerUnavailable, StoreUnavailable: there was no answer in time.
        """
        asked = self._left.pop(command.id, None)
        if asked is None:
            asked = ThreadAsked(ReleaseItem(self._number(), command.id, command.session))
            self._submit(asked)
        try:
            self._until(asked.sleeper, self._clock() + patience_us)
        finally:
            if asked.reply is None:
                self._left[command.id] = asked
        if asked.reply is None:
            raise self._unavailable()
        if isinstance(asked.reply, EbbgateError):
            raise asked.reply

    def see(self, question: Question) -> Answer | None:
        """Answer a question; None where nobody answers within a second."""
        try:
            reply = self.request(lambda number: AskItem(number, question), self._clock() + SECOND)
            return answer_in(reply, question)
        except EbbgateError:
            return None

    def lost(self, ended: Ended) -> bool:
        """Hear that a lease has ended; return whether it waited here."""
        with self._mutex:
            waited = ended.id in self._desk.queued
            if waited:
                self._desk.lost(ended)
        return waited

    # --- asking

    def _number(self) -> int:
        with self._mutex:
            return self._desk.number()

    def _submit(self, asked: ThreadAsked) -> None:
        with self._mutex:
            if self._is_closed:
                raise self._closed
            self._desk.ask(asked)
            connected = self._connection is not None
        if connected:
            self._flush()
        else:
            self._connector.start()

    def _reply(self, asked: ThreadAsked, until_us: int) -> Outcome | AnswerItem:
        try:
            self._submit(asked)
            self._until(asked.sleeper, until_us)
        finally:
            if asked.reply is None:
                with self._mutex:
                    self._desk.give_up(asked)
        reply = asked.reply
        if reply is None:
            raise self._unavailable()
        if isinstance(reply, EbbgateError):
            raise reply
        return reply

    def _flush(self) -> None:
        """Send what all threads have queued."""
        connection = self._connection
        if connection is None:
            return
        try:
            with self._sending:
                with self._mutex:
                    if connection is not self._connection:
                        return  # what is not answered was said over the new one
                    data = self._desk.encoded(connection.line)
                if data:
                    connection.send(data)
        except BaseException as error:
            if not (
                isinstance(error, OSError) and is_from_the_system(error)
            ):  # from outside: how much was sent?
                self._break(connection)
                raise
            self._drop(connection, error)

    # --- waiting

    def _until(self, sleeper: Sleeper, until_us: int | None) -> None:
        """Return when `sleeper` is done or at `until_us`; read for all while nobody else does."""
        me = threading.get_ident()
        led: Connection | None = None  # what was read: whoever drops it leaves the closing to its reader
        try:
            while not sleeper.done:
                left_us = LOOK_US if until_us is None else until_us - self._clock()
                if left_us <= 0:
                    return
                left_us = min(left_us, LOOK_US)
                with self._mutex:
                    connection = self._connection if self._leader in {0, me} else None
                    if connection is not None:
                        self._leader = me
                    elif sleeper.lie_down():
                        return
                    else:
                        if self._leader == me:
                            self._leader = 0  # nothing to read: whoever is called first leads next
                        self._followers.append(sleeper)
                    dropped, led = (led, connection) if led is not connection else (None, led)
                    if led is not None:
                        self._led = led
                try:
                    if dropped is not None:
                        self._close(dropped)
                    if connection is not None:
                        self._read(connection, left_us)
                    else:
                        sleeper.sleep(min(left_us, FOLLOW_US))
                        self._check_leader()
                finally:
                    if connection is None:
                        with self._mutex, contextlib.suppress(ValueError):  # it was called
                            self._followers.remove(sleeper)
        finally:
            with self._mutex:
                if self._leader == me:
                    self._leader = 0
                self._call_a_leader()
                dropped = led if led is not self._connection else None
            if dropped is not None:
                self._close(dropped)

    def _call_a_leader(self) -> None:
        """Wake one follower if nobody reads: whoever leaves does this, for the call may have been meant for it."""
        if self._leader == 0 and self._connection is not None and self._followers:
            self._followers.pop(0).wake()  # removed, so that one left behind by an interrupt is called once

    def _check_leader(self) -> None:
        """Replace a leader that does not read any more: an exception from outside ended it."""
        leader = self._leader
        if leader not in {0, threading.get_ident()} and not _is_reading(leader):
            with self._mutex:
                if self._leader == leader:
                    self._leader = 0

    def _read(self, connection: Connection, patience_us: int) -> None:
        """Take in what comes, as the one that reads for all."""
        ready = connection.is_readable(patience_us)
        if connection is not self._connection:  # a sender found it broken
            self._close(connection)
            return
        if not ready:
            self._look(connection)
            return
        try:
            data = connection.sock.recv(READ_BYTES)
            with self._mutex:
                self._desk.received(connection.line.receive(data))
                answers = self._desk.has_news(connection.line)
        except BlockingIOError:
            return
        except (Broken, EbbgateError) as error:
            if isinstance(error, EbbgateError):
                self.not_connected(error)
            self._drop(connection, error)
            return
        except BaseException as error:
            if not (isinstance(error, OSError) and is_from_the_system(error)):
                self._break(connection)  # from outside: half of what came may be lost
                raise
            self._drop(connection, error)
            return
        if answers:
            self._see_to_news(connection)
        if self._clock() >= self._look_us and connection is self._connection:
            self._look(connection)

    def _look(self, connection: Connection) -> None:
        self._look_us = self._clock() + LOOK_US
        with self._mutex:
            silent = self._desk.look()
        if silent:
            self._drop(connection, TimeoutError("the server fell silent"))
        else:
            self._flush()

    def _see_to_news(self, connection: Connection) -> None:
        """Do what is not about the answer to anything."""
        desk = self._desk
        with self._mutex:
            ended, desk.ended = desk.ended, []
            hurried, desk.hurried = desk.hurried, False
            works, desk.works = desk.works, False
            is_stranded, desk.is_stranded = desk.is_stranded, False
        for loss in ended:
            self._host.ended(loss)
        if hurried:
            self._host.hurry()
        if works:
            self._connector.works()
        if is_stranded:
            self._connector.seek(connection.address, self._greeting)
        if desk.goodbye_seconds >= 0:
            self._dialler.leave(connection.address, desk.goodbye_seconds)
            self._drop(connection, ConnectionError("the server stops"))
        elif desk.is_outdated:
            self._drop(connection, ConnectionError("the store did not know this session"))
        else:
            self._flush()

    # --- the connection

    def hello(self) -> HelloItem | None:
        """See `Connectable`."""
        with self._mutex:
            if self._clock() - self._broken_us > RELEASES_US:
                self._desk.drop_releases()
                self._left.clear()
            wanted = self._desk.is_busy() and self._connection is None and not self._is_closed
            if not wanted:
                return None
            return self._greeting()

    def connected(self, connection: Connection, hello: HelloItem) -> None:
        """See `Connectable`."""
        with self._sending, self._mutex:
            if self._is_closed:
                connection.close()
                return
            self._desk.connected(hello.epoch)
            self._desk.received(connection.early)
            older, self._connection = self._connection, connection
            self._was_connected, self._is_attached, self._error = True, False, None
            left = older is not None and self._is_led_by_another(older)
        if older is not None:  # to a server that cannot reach its store
            older.shut_down()
            if not left:
                self._close(older)  # else whoever reads does it, woken by its end
        self._see_to_news(connection)
        self._host.reconnected()
        with self._mutex:
            self._call_a_leader()

    def not_connected(self, error: EbbgateError) -> None:
        """See `Connectable`."""
        with self._mutex:
            self._error = error
            if is_final(error):
                self._desk.fail(error)
        self._host.unreachable()

    def _break(self, connection: Connection) -> None:
        """End a connection of which it is not known what went over it."""
        self._drop(connection, ConnectionError("interrupted"))

    def _drop(self, connection: Connection, error: Exception) -> None:
        """Give a connection up; another one is made if anybody needs it."""
        with self._mutex:
            if self._connection is not connection:
                return
            self._connection = None
            self._broken_us = self._clock()
            self._note(error)
            left = self._is_led_by_another(connection)
            busy = self._desk.is_busy() and not self._is_closed
        connection.shut_down()
        if not left:
            self._close(connection)  # else whoever reads does it, woken by its end
        if busy:
            self._connector.start(connection.address)

    def _is_led_by_another(self, connection: Connection) -> bool:
        """Tell whether another thread reads it, and so has to close it."""
        return self._led is connection and self._leader not in {0, threading.get_ident()}

    def _close(self, connection: Connection) -> None:
        with self._sending:
            connection.close()

    # --- the end

    def retire(self) -> None:
        """Have all who ask or wait ask again: another gate serves them."""
        self._connector.stop()
        self._closed = ServerUnavailable("the server is gone")
        with self._mutex:
            self._is_closed = True
            self._desk.retire(self._closed)
        connection = self._connection
        if connection is not None:
            self._drop(connection, self._closed)

    def close(self, until_us: int) -> None:
        """Say good-bye, and tell all who wait that it is over."""
        if self._connection is not None:
            bye = self.session
            with contextlib.suppress(EbbgateError):
                self.request(lambda number: ByeItem(number, bye), until_us)
        self._connector.stop()
        with self._mutex:
            self._is_closed = True
            self._desk.close()
        connection = self._connection
        if connection is not None:
            self._drop(connection, ConnectionError("closed"))


_UNTIL: Final = ThreadChannel._until.__code__


def _is_reading(thread: int) -> bool:
    """Tell whether a thread is inside `ThreadChannel._until`."""
    for _ in range(3):  # its stack may change while it is walked
        frame = sys._current_frames().get(thread)
        while frame is not None:
            if frame.f_code is _UNTIL:
                return True
            frame = frame.f_back
    return False
