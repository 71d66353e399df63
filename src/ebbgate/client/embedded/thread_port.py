"""Where the threads of a process wait: they share one socket.

One of them listens and looks for all; the others sleep until it tells them, or until it leaves and one of
them takes over. Under both lies a poll: a push is only a hint.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ebbgate.client.embedded.timing import patience_of
from ebbgate.client.locks import TrackedLock
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Outcome
from ebbgate.core.model import SECOND
from ebbgate.stores.base import PATIENCE_US

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate

POLL_US: Final = 50_000
"""How soon a waiter near the head of its queue gets in if the push is lost."""

POLL_MAX_US: Final = 400_000
"""The same for one far behind, who is told long before it matters."""


FOLLOW_US: Final = SECOND // 2
"""How soon a thread looks whether another one still listens for it."""


def pause_us(gate: "EmbeddedGate") -> int:
    """Return how long a waiting process may sleep before it must look again; 0 or less: it is time."""
    poll_us = min(POLL_US + POLL_US // 8 * gate.hearing.ahead(gate.book), POLL_MAX_US)
    plan_us = gate.plan.at_us
    return poll_us if plan_us < 0 else min(poll_us, plan_us - gate.store.clock())


class ThreadPort:
    """Where the threads of a process wait."""

    def __init__(self, gate: "EmbeddedGate") -> None:
        self._gate = gate
        self._leading = TrackedLock()
        self._is_led = False  # whether a thread listens; may be wrong for a second after an interrupt
        self._followers: list[threading.Event] = []
        self._mailbox = gate.new_mailbox()
        self.address = self._mailbox.address
        self.session = gate.session
        self.epoch = gate.epoch
        self.forget = gate.forget
        self.give_back = gate.give_back
        self.see = gate.see
        self.counted_from = gate.counted_from
        gate.ports.append(self)

    def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """Carry out one command; see `EmbeddedGate.call`."""
        gate = self._gate
        if until_us is None:
            return gate.call((command,), waiter)[0]
        return gate.call((command,), waiter, patience_us=patience_of(until_us, gate.clock()))[0]

    def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """Return when `waiter` has its outcome, or at `until_us`."""
        woken = threading.Event()
        waiter.notify = woken.set
        clock = self._gate.clock
        try:
            while waiter.outcome is None and (until_us is None or clock() < until_us):
                leads = False
                if self._leading.is_mine():  # a signal handler of the thread that listens waits, too
                    self._follow(woken, until_us)
                    continue
                try:
                    leads = self._leading.acquire(0)
                    if leads:
                        self._is_led = True
                        waiter.notify = self._rouser()
                        self._lead(waiter, until_us)
                finally:
                    waiter.notify = woken.set
                    if leads:
                        self._is_led = False
                    try:
                        self._leading.release()
                    except RuntimeError:
                        pass  # not acquired
                if not leads:
                    self._follow(woken, until_us)
        finally:
            self._call_a_leader()

    def _follow(self, woken: threading.Event, until_us: int | None) -> None:
        """Sleep until told something: that the waiting is over, or that nobody leads any more."""
        left_us = SECOND if until_us is None else until_us - self._gate.clock()
        try:
            self._followers.append(woken)
            # Who left the lead before this one stood in the list could not call it: hence the second look.
            if self._is_led:
                woken.wait(min(max(left_us, 0), FOLLOW_US) / SECOND)
        finally:
            with contextlib.suppress(ValueError):  # it was called
                self._followers.remove(woken)
        woken.clear()

    def _call_a_leader(self) -> None:
        """Wake one follower if nobody leads: whoever leaves does this, for the call may have been meant for it."""
        if not self._is_led:
            with contextlib.suppress(IndexError):
                self._followers.pop(
                    0
                ).set()  # removed, so that one left behind by an interrupt is called once

    def _rouser(self) -> Callable[[], None]:
        """Return what ends the listening of this thread; it need not tell itself."""
        leader = threading.get_ident()

        def rouse() -> None:
            if threading.get_ident() != leader:
                self._gate.push(self.address)

        return rouse

    def _lead(self, waiter: Waiter, until_us: int | None) -> None:
        """Listen and look for all threads, until `waiter` has its outcome or runs out of time."""
        gate, mailbox = self._gate, self._mailbox
        while waiter.outcome is None:
            gate.deaths.bury(gate.deaths.find())
            sleep_us = pause_us(gate)
            if until_us is not None:
                left_us = until_us - gate.clock()
                if left_us <= 0:
                    return
                sleep_us = min(sleep_us, left_us)
            if sleep_us > 0:
                mailbox.wait(sleep_us / SECOND)
                mailbox.empty()
            gate.look(PATIENCE_US if until_us is None else max(until_us - gate.clock(), 0))

    def nudge(self) -> None:
        """Wake whoever listens, to look sooner."""
        if self._is_led:
            self._gate.push(self.address)

    def close(self) -> None:
        """Unbind the socket."""
        self._mailbox.close()

    def abandon(self) -> None:
        """Close this process's copy of the socket after a fork."""
        self._mailbox.abandon()
