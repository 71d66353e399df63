"""The gate that leads to servers: for all threads and event loops of a process, one session and connection each.

One renewer keeps all their leases alive over a connection of its own.
"""

import asyncio
import functools
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from ebbgate import settings
from ebbgate.client.remote.addresses import Address
from ebbgate.client.remote.answers import answer_in
from ebbgate.client.remote.dialling import Dialler
from ebbgate.client.remote.items import check, checked, item_of
from ebbgate.client.remote.loop_channel import LoopChannel
from ebbgate.client.remote.renewal_line import RenewalLine
from ebbgate.client.remote.thread_channel import ThreadChannel
from ebbgate.client.renewal import Renewer
from ebbgate.core.commands import Command, Ended, Outcome, Release
from ebbgate.core.model import SECOND
from ebbgate.errors import ServerUnavailable, StoreUnavailable
from ebbgate.wire.ids import new_id
from ebbgate.wire.questions import Answer, Question
from ebbgate.wire.stream import AnswerItem, AskItem, Up

CLOSE_US: Final = 2 * SECOND
"""The longest that closing takes."""

RETRY_US: Final = 100_000

SEEK_US: Final = 2 * SECOND
"""How long somebody who manages limits waits for a server that reaches the store, when its own does not."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _tls() -> ssl.SSLContext:
    file = settings.ca_file()
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise ServerUnavailable(
            f"EBBGATE_CA_FILE names no certificate: {file} ({error.strerror or error}); "
            "set it to the PEM file of who signed the server's",
            transient=False,
        ) from error


def _do_nothing() -> None:
    """Nobody wants to know."""


def clock() -> int:
    """Return the local time in microseconds; it never steps, and runs while the machine sleeps."""
    return time.clock_gettime_ns(_CLOCK) // 1_000


class RemoteGate:
    """Carries commands to servers and outcomes back."""

    def __init__(
        self,
        servers: Sequence[Address],
        api_key: str | None = None,
        *,
        clock: Callable[[], int] = clock,
        unreachable: Callable[[], None] | None = None,
    ) -> None:
        """Connect on first use.

        Args:
            servers: any of them will do.
            api_key: authenticates with them.
            clock: what this process counts leases by.
            unreachable: is called, from threads of its own, whenever no server could be reached.
        """
        self.name = new_id()
        self.clock = clock
        self.unreachable = unreachable or _do_nothing
        self._dialler = Dialler(servers, api_key, _tls)
        self.renewals = RenewalLine(self, self._dialler)
        self.renewer = Renewer(self.renewals)
        self.threads = ThreadChannel(self, self._dialler, new_id())
        self._loops: dict[asyncio.AbstractEventLoop, LoopChannel] = {}
        self._ended: list[LoopChannel] = []  # whose loops have ended while leases of theirs are held
        self._guard = threading.Lock()
        self._is_closed = False

    # --- places

    def loop_place(self) -> LoopChannel:
        """Return where the tasks of the running event loop ask from."""
        loop = asyncio.get_running_loop()
        channel = self._loops.get(loop)
        if channel is None:
            self.reap()
            channel = LoopChannel(self, self._dialler, new_id(), loop)
            with self._guard:
                self._loops[loop] = channel
        return channel

    def reap(self) -> bool:
        """Close the connections of event loops that have ended, and return whether there are others to look after.

        Nothing tells when a loop ends. What its tasks hold is released, and they leave the queue.
        """
        if not self._ended and not any(loop.is_closed() for loop in list(self._loops)):
            return bool(self._loops)
        self.renewer.take_left()  # the good-bye of their session releases them
        with self._guard:
            self._ended += [self._loops.pop(loop) for loop in list(self._loops) if loop.is_closed()]
            held = {lease.session for lease in list(self.renewals.holding.values())}
            over = [channel for channel in self._ended if channel.session not in held]
            self._ended = [channel for channel in self._ended if channel.session in held]
        for channel in over:
            channel.let_go()
            if channel.has_held:
                self.renewals.farewell(channel.session, channel.epoch)  # what its tasks left is free
        return bool(self._loops or self._ended)

    def _channels(self) -> "list[ThreadChannel | LoopChannel]":
        return [self.threads, *list(self._loops.values()), *self._ended]

    def epoch_of(self, session: str) -> int:
        """See `Sessions`."""
        return max((channel.epoch for channel in self._channels() if channel.session == session), default=0)

    def release_elsewhere(self, command: Release, patience_us: int) -> bool:
        """See `Sessions`."""
        if command.session == self.threads.session:
            self.threads.release(command, patience_us)
            return True
        for channel in [*list(self._loops.values()), *self._ended]:
            if channel.session == command.session:
                return channel.release(command)
        return True  # its event loop has ended, and its session

    # --- what channels and the renewer hear

    def patience_us(self) -> int:
        """See `Host`."""
        return round(settings.connect_timeout_seconds() * SECOND)

    def ended(self, ended: Ended) -> None:
        """See `Host`: whoever holds or waits for a lease hears that it was lost."""
        lease = self.renewals.holding.get(ended.id)
        if lease is not None:
            lease.end(ended.why)
            return
        for channel in self._channels():
            if channel.lost(ended):
                return

    def hurry(self) -> None:
        """See `Host`."""
        self.renewer.hurry()

    def attach(self, session: str) -> None:
        """See `Host`."""
        self.renewals.attach(session)

    def reconnected(self) -> None:
        """See `Host`."""
        self.renewals.interrupt()

    def is_mine(self) -> bool:
        """Tell whether this process opened the gate, and did not inherit it by a fork."""
        return not self._is_closed

    # --- management

    def call(self, commands: Sequence[Command]) -> list[Outcome]:
        """Carry out commands that are about limits, or about leases by an operator's word; see `Gate`."""
        outcomes: list[Outcome] = []
        for command in commands:
            check(command)
            reply = self._carry_out(functools.partial(_item, command))
            assert not isinstance(reply, AnswerItem), "that answers a question"
            outcomes.append(reply)
        return outcomes

    def question(self, question: Question) -> Answer:
        """Answer a question from the newest records; see `Gate`."""
        return answer_in(self._carry_out(lambda number: AskItem(number, question)), question)

    def _carry_out(self, make: Callable[[int], Up]) -> Outcome | AnswerItem:
        begun_us = self.clock()
        until_us = begun_us + self.patience_us()
        while True:
            try:
                return self.threads.request(lambda number: checked(make(number)), until_us)
            except (ServerUnavailable, StoreUnavailable) as error:
                hope_us = until_us
                if isinstance(error, StoreUnavailable):  # another server may reach the store
                    hope_us = min(until_us, begun_us + SEEK_US) if self._dialler.has_others else begun_us
                late = self.clock() + RETRY_US >= hope_us
                if late or not error.transient or self.threads.is_closed:
                    raise
            time.sleep(RETRY_US / SECOND)

    # --- another way takes its place

    def lead_to(self, servers: Sequence[Address]) -> None:
        """Connect to other servers from now on."""
        self._dialler.addresses = tuple(servers)

    def heritage(self) -> tuple[tuple[str, ...], int, int]:
        """Return the sessions, that of the threads first; an epoch above all theirs; the shortest lease there is."""
        channels = self._channels()
        durations = [lease.duration_us for lease in list(self.renewals.holding.values())]
        durations += [channel.shortest_us() for channel in channels]
        epoch = 1 + max(channel.highest_epoch for channel in channels)
        return tuple(channel.session for channel in channels), epoch, min(durations)

    def retire(self) -> None:
        """Have all who ask ask again, and those who wait as well: another gate serves them."""
        for channel in self._channels():
            channel.retire()
        self.renewals.retire()

    # --- the end

    def close(self, *, at_exit: bool = False) -> None:
        """Release what is held, leave the queue, and say good-bye; at exit, what is held is lost first: see `Gate`."""
        if self._is_closed:
            return
        until_us = self.clock() + CLOSE_US
        self.renewer.stop()
        if at_exit:
            self.renewer.lose_all("the interpreter exits")
        self._is_closed = True
        for channel in self._channels():
            channel.close(until_us)
        self.renewals.close(until_us)

    def abandon(self) -> None:
        """Forget everything in a child after a fork: the parent keeps it."""
        self._is_closed = True
        self._dialler.abandon()
        self.renewals.abandon()


def _item(command: Command, number: int) -> Up:
    return item_of(number, command)
