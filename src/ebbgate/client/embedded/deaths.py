"""Other processes of this machine that have died: noticed by whoever waits, and what they held is passed on."""

import contextlib
from typing import TYPE_CHECKING

from ebbgate.client.embedded.timing import ALIVE_EVERY_US, GIVE_BACK_US
from ebbgate.client.locks import TrackedLock
from ebbgate.core.commands import Away
from ebbgate.errors import StoreUnavailable
from ebbgate.neighbours.neighbours import Neighbours

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate


class Deaths:
    """A look at whether the other processes live."""

    def __init__(self, gate: "EmbeddedGate", neighbours: Neighbours, mutex: TrackedLock) -> None:
        """Look for `gate`, whose book only who has `mutex` may read."""
        self._gate = gate
        self._neighbours = neighbours
        self._mutex = mutex
        self._checked_us = 0

    def find(self) -> list[Away]:
        """Return what is to be said of other processes that have died; looks twice a second at most."""
        now_us = self._gate.store.clock()
        if now_us - self._checked_us < ALIVE_EVERY_US or self._mutex.is_mine():
            return []
        self._gate.stay_present()
        try:
            if not self._mutex.acquire(0):
                return []
            self._checked_us = now_us
            return self.others()
        finally:
            try:
                self._mutex.release()
            except RuntimeError:
                pass  # not acquired

    def others(self) -> list[Away]:
        """Return the same, now; the caller has the mutex."""
        return self._neighbours.find_dead(self._gate.book.sessions.values())

    def bury(self, dead: list[Away]) -> None:
        """Have the slots of dead processes passed on."""
        if dead:
            with contextlib.suppress(StoreUnavailable):
                self._gate.call(dead, patience_us=GIVE_BACK_US)
            self._neighbours.clean_up_after(dead)
