"""Where the tasks of one event loop ask from: thousands of them over one connection.

What they ask in one turn of the loop goes out in one message; what comes in resolves their futures directly,
without a task or a queue between. Nothing blocks the loop; a thread aside makes the connections.
"""

import asyncio
import contextlib
import threading
from collections import deque
from typing import Final

from ebbgate.client.remote.answers import answer_in
from ebbgate.client.remote.asked import LoopAsked, time_is_up
from ebbgate.client.remote.channel import Channel, is_final
from ebbgate.client.remote.connecting import Connector
from ebbgate.client.remote.dialling import READ_BYTES, Connection, Dialler
from ebbgate.client.remote.host import GIVE_BACK_US, RELEASES_US, Host, patience_until
from ebbgate.client.remote.items import acquire_item
from ebbgate.client.remote.line import Broken
from ebbgate.client.remote.outlet import Outlet
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Ended, Outcome, Release
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, ServerUnavailable
from ebbgate.wire.questions import Answer, Question
from ebbgate.wire.stream import AnswerItem, AskItem, ByeItem, HelloItem, ReleaseItem

LOOK_US: Final = GIVE_BACK_US // 2  # how often is looked what time calls for while anything is unanswered

PART_ITEMS: Final = 32
PROMPT_US: Final = 2_000
"""A server that answered so quickly works on so many items while the rest is asked; see decision 0011."""


class LoopChannel(Channel):
    """The session and connection of one event loop. Used on its thread only, where nothing else is said."""

    def __init__(self, host: Host, dialler: Dialler, session: str, loop: asyncio.AbstractEventLoop) -> None:
        """Connect on first use."""
        super().__init__(host, dialler, session)
        self.loop = loop
        self._thread = threading.get_ident()
        self._connector = Connector(self, dialler)
        self._is_flushing = False  # at the end of this turn of the loop
        self._outlet: Outlet | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: deque[LoopAsked] = deque()  # releases whose blocks wait for the answer
        self._left: dict[str, LoopAsked] = {}  # releases whose task went on without an answer

    # --- what callers want

    async def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """Carry out one command; see `LoopPlace`."""
        now_us = self._clock()
        item = acquire_item(self._desk.number(), command)
        asked = LoopAsked(item, self.loop.create_future(), now_us, waiter)
        timer = None
        if until_us is not None or not command.wait:
            until_us = patience_until(now_us, until_us, self._host.patience_us(), waits=command.wait)
            timer = self.loop.call_later((until_us - now_us) / SECOND, time_is_up, asked)
        try:
            reply = await self._reply(asked)
        finally:
            if timer is not None:
                timer.cancel()
        assert not isinstance(reply, AnswerItem), "that answers a question"
        return reply

    async def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """Return when `waiter` has its outcome, or at `until_us`."""
        if waiter.outcome is not None:
            return
        woken: asyncio.Future[None] = self.loop.create_future()

        def wake() -> None:
            if not woken.done() and not self.loop.is_closed():
                woken.set_result(None)

        self.has_held = True  # it may be granted when the loop is closed: then a good-bye releases it
        self._host.renewer.watch()
        waiter.notify = wake
        if until_us is None:
            await woken
            return
        timer = self.loop.call_later(max(until_us - self._clock(), 0) / SECOND, wake)
        try:
            await woken
        finally:
            timer.cancel()

    def forget(self, waiter: Waiter) -> None:
        """Stop listening for what becomes of a waiter."""
        self._desk.forget(waiter.lease_id)

    async def give_back(self, command: Release) -> None:
        """Release a lease; the answer is waited for during 100 ms, the release goes on without."""
        if not self._was_connected:
            return  # nothing was ever asked
        if self._is_closed or asyncio.get_running_loop() is not self.loop:
            self._host.renewer.release_later(command)  # the block was entered on another loop
            return
        asked = self._release(command)
        self._leaving.append(asked)
        reply = await asked.future
        if reply is None:  # its loop may end before it is answered
            self._left[command.id] = asked
            self._host.renewer.release_later(command)

    def _release(self, command: Release) -> LoopAsked:
        item = ReleaseItem(self._desk.number(), command.id, command.session)
        asked = LoopAsked(item, self.loop.create_future(), self._clock())
        self._put(asked)
        return asked

    def release(self, command: Release) -> bool:
        """Have a lease released, from any thread; return False if the loop has ended.

        Raises:
            ServerUnavailable, StoreUnavailable: there is no answer yet.
        """
        asked = self._left.get(command.id)
        if asked is not None and asked.reply is not None:
            del self._left[command.id]
            if isinstance(asked.reply, EbbgateError):
                raise asked.reply
            return True
        if self.loop.is_closed():
            return False
        if asked is None:
            with contextlib.suppress(RuntimeError):  # it was closed just now
                self.loop.call_soon_threadsafe(self._release_left, command)
        raise self._unavailable()

    def _release_left(self, command: Release) -> None:
        self._left[command.id] = self._release(command)

    async def see(self, question: Question) -> Answer | None:
        """Answer a question; None where nobody answers within a second."""
        asked = LoopAsked(AskItem(self._desk.number(), question), self.loop.create_future(), self._clock())
        timer = self.loop.call_later(1, time_is_up, asked)
        try:
            return answer_in(await self._reply(asked), question)
        except EbbgateError:
            return None
        finally:
            timer.cancel()

    def lost(self, ended: Ended) -> bool:
        """Hear, on any thread, that a lease has ended; return whether it waited here."""
        if ended.id not in self._desk.queued:
            return False
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._desk.lost, ended)
        return True

    # --- asking

    def _put(self, asked: LoopAsked) -> None:
        self._desk.ask(asked)
        if self._timer is None:
            self._timer = self.loop.call_later(LOOK_US / SECOND, self._look)
        if self._connection is None:
            self._connector.start()
        elif len(self._desk.out) >= PART_ITEMS and self._desk.took_us < PROMPT_US:
            self._flush()
        elif not self._is_flushing:
            self._is_flushing = True
            self.loop.call_soon(self._flush)

    async def _reply(self, asked: LoopAsked) -> Outcome | AnswerItem:
        if self._is_closed:
            raise self._closed
        reply = None
        try:
            self._put(asked)
            reply = await asked.future
        finally:
            if reply is None:
                self._desk.give_up(asked)
        if reply is None:
            raise self._unavailable()
        if isinstance(reply, EbbgateError):
            raise reply
        return reply

    def _flush(self) -> None:
        """Send what was asked in this turn of the loop."""
        self._is_flushing = False
        connection, outlet = self._connection, self._outlet
        if connection is None or outlet is None or outlet.unsent:
            return  # what is queued is sent when there is a connection that takes it
        if outlet.error is None:
            data = self._desk.encoded(connection.line)
            if data:
                outlet.send(data)
        if outlet.error is not None:
            self._drop(connection, outlet.error)

    # --- hearing

    def _readable(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(connection, error)
            return
        desk = self._desk
        try:
            desk.received(connection.line.receive(data))
        except (Broken, EbbgateError) as error:
            if isinstance(error, EbbgateError):
                self._fail(error)
            self._drop(connection, error)
            return
        except Exception as error:  # half of what came may be lost
            self._drop(connection, error)
            raise
        if desk.has_news(connection.line):
            self._see_to_news(connection)

    def _see_to_news(self, connection: Connection) -> None:
        """Do what is not about the answer to anything."""
        desk = self._desk
        ended, desk.ended = desk.ended, []
        for loss in ended:
            self._host.ended(loss)
        if desk.hurried:
            desk.hurried = False
            self._host.hurry()
        if desk.works:
            desk.works = False
            self._connector.works()
        if desk.is_stranded:
            desk.is_stranded = False
            self._connector.seek(connection.address, self._greeting)
        if desk.goodbye_seconds >= 0:
            self._dialler.leave(connection.address, desk.goodbye_seconds)
            self._drop(connection, ConnectionError("the server stops"))
        elif desk.is_outdated:
            self._drop(connection, ConnectionError("the store did not know this session"))
        elif not self._is_flushing:
            self._flush()

    def _look(self) -> None:
        """See what time calls for; come back while there is anything."""
        self._timer = None
        if self._is_closed:
            return
        desk, now_us = self._desk, self._clock()
        leaving = self._leaving
        while leaving and (leaving[0].future.done() or leaving[0].asked_us + GIVE_BACK_US <= now_us):
            time_is_up(leaving.popleft())
        patience_us = -1
        for asked in desk.unanswered.values():
            if isinstance(asked, LoopAsked):
                if patience_us < 0:
                    patience_us = self._host.patience_us()
                if asked.asked_us + patience_us > now_us:
                    break
                if not isinstance(asked.item, ReleaseItem):
                    time_is_up(asked)
        connection = self._connection
        if connection is not None:
            if desk.look():
                self._drop(connection, TimeoutError("the server fell silent"))
            elif (desk.out or desk.pulse.asks) and not self._is_flushing:
                self._flush()
        elif now_us - self._broken_us > RELEASES_US:
            desk.drop_releases()
            self._left.clear()
        if desk.unanswered or leaving:
            self._timer = self.loop.call_later(LOOK_US / SECOND, self._look)
        elif desk.queued:
            self._timer = self.loop.call_later(1, self._look)

    # --- the connection

    def hello(self) -> HelloItem | None:
        """See `Connectable`."""
        lacks = self._connection is None and not (self._arriving or self._is_closed or self.loop.is_closed())
        return self._greeting() if lacks and self._desk.is_busy() else None

    def connected(self, connection: Connection, hello: HelloItem) -> None:
        """See `Connectable`."""
        self._arriving = connection
        with contextlib.suppress(RuntimeError):  # the loop is closed
            if not self._is_closed:
                self.loop.call_soon_threadsafe(self._take_over, connection, hello.epoch)
                return
        self._end_arriving()

    def _take_over(self, connection: Connection, epoch: int) -> None:
        self._arriving = None
        if self._is_closed:
            connection.close()
            return
        if self._connection is not None:  # to a server that cannot reach its store
            self._stop_listening(self._connection)
            self._connection.close()
        self._desk.connected(epoch)
        self._connection = connection
        self._was_connected, self._is_attached, self._error = True, False, None
        self._outlet = Outlet(self.loop, connection, self._flush)
        self.loop.add_reader(connection.fileno(), self._readable, connection)
        self._desk.received(connection.early)
        self._see_to_news(connection)
        self._host.reconnected()
        if self._timer is None:
            self._timer = self.loop.call_later(LOOK_US / SECOND, self._look)

    def not_connected(self, error: EbbgateError) -> None:
        """See `Connectable`."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._fail, error)
        self._host.unreachable()

    def _fail(self, error: EbbgateError) -> None:
        self._note(error)
        if is_final(error):
            self._desk.fail(error)

    def _drop(self, connection: Connection, error: Exception) -> None:
        """Give a connection up; another one is made if anybody needs it."""
        if self._connection is not connection:
            return
        self._connection = None
        self._broken_us = self._clock()
        self._note(error)
        self._stop_listening(connection)
        connection.close()
        if self._desk.is_busy() and not self._is_closed:
            self._connector.start(connection.address)

    def _stop_listening(self, connection: Connection) -> bytes:
        """Have the loop look after a connection no longer; return what it has not sent yet."""
        outlet, self._outlet = self._outlet, None
        if not self.loop.is_closed():
            self.loop.remove_reader(connection.fileno())
            if outlet is not None:
                outlet.close()
        return outlet.unsent if outlet else b""

    # --- the end

    def let_go(self) -> None:
        """Close the connection of a loop that has ended."""
        self._connector.stop()
        self._is_closed = True
        self._end_arriving()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def retire(self) -> None:
        """Have all who ask or wait ask again, from any thread: another gate serves them."""
        self._connector.stop()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._retire)

    def _retire(self) -> None:
        self._is_closed = True
        self._closed = ServerUnavailable("the server is gone")
        for asked in self._desk.unanswered.values():
            if isinstance(asked.item, ReleaseItem):
                self._host.renewer.release_later(Release(asked.item.id, self.session, self.epoch))
        self._desk.retire(self._closed)
        if self._connection is not None:
            self._drop(self._connection, self._closed)

    def close(self, until_us: int) -> None:
        """Say good-bye, and tell all who wait that it is over; from any thread."""
        self._connector.stop()
        if threading.get_ident() == self._thread or not self.loop.is_running():
            self._close(until_us)
            return
        done = threading.Event()

        def close() -> None:
            self._close(until_us)
            done.set()

        with contextlib.suppress(RuntimeError):  # the loop was closed just now
            self.loop.call_soon_threadsafe(close)
            done.wait(max(until_us - self._clock(), 0) / SECOND)

    def _close(self, until_us: int) -> None:
        connection, self._connection = self._connection, None
        self._is_closed = True
        self._end_arriving()
        if self._timer is not None:
            self._timer.cancel()
        if connection is not None:
            bye = ByeItem(self._desk.number(), self.session)
            connection.part([bye], self._stop_listening(connection), until_us - self._clock())
        if not self.loop.is_closed():
            self._desk.close()
