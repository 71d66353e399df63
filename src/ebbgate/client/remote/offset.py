"""From when a lease is counted that was granted by a clock elsewhere: one `Offset` a connection, without I/O.

Every message from the server carries the store's time. An answer bounds how far the store's clock may be ahead
of the local one: its time was read after the question was sent, so `store_us - sent_us` is the most. A grant
that was made at `at_us` of the store was made at `at_us` less that bound of the local clock, or later.

A bound ages: clocks are trusted to run alike within 1 %, as a lease is. It says nothing about a store's clock
that has stepped since. Therefore `hurry`, and a message that is later than the bound allows, make it worthless.

All instants are integers in microseconds, by the local clock unless they are the store's.

Known limit: a clock of the store that steps forward by less than a message takes to arrive is not noticed here;
whoever decides suspends expiry then (`core.grace`) and says `hurry` before it tells of another grant.
"""

from typing import Final

from ebbgate.core.model import SECOND

FRESH_US: Final = 30 * SECOND
"""A grant is counted without another question only if the last exchange was sent since then."""

KEPT_US: Final = 10 * SECOND
"""A closer bound is preferred to newer ones for so long: what took long on the way says little."""

DRIFT: Final = 100
"""Clocks run alike within one part in so many."""


class Offset:
    """How far the store's clock is ahead of the local one at most, as one connection has shown it.

    Not safe for use by several threads at once.
    """

    __slots__ = ("_most_us", "_sent_us", "_since_us")

    def __init__(self, now_us: int) -> None:
        """Know nothing: the connection begins now."""
        self._since_us = now_us  # what was sent before is worth nothing
        self._sent_us = -1  # of the exchange that bounds it; -1: none does
        self._most_us = 0

    def hurry(self, now_us: int) -> None:
        """Forget what is known: the store's clock ran ahead, or its decider stalled."""
        self._since_us = now_us
        self._sent_us = -1

    def heard(self, store_us: int, now_us: int) -> None:
        """Take in a message that answers nothing: a grant, a loss, a sign of life.

        Args:
            store_us: the store's time in it.
            now_us: when it was read.
        """
        if self._sent_us >= 0 and store_us - now_us > self._most(now_us):
            self._sent_us = -1  # the store's clock has stepped since

    def exchanged(self, sent_us: int, store_us: int, now_us: int) -> None:
        """Take in an answer.

        Args:
            sent_us: when its question was sent, on this connection.
            store_us: the store's time in it.
            now_us: when it was read.
        """
        self.heard(store_us, now_us)
        if sent_us < self._since_us:
            return
        most_us = store_us - sent_us
        if self._sent_us < 0 or sent_us - self._sent_us > KEPT_US or most_us <= self._most(sent_us):
            self._sent_us, self._most_us = sent_us, most_us

    def is_fresh(self, now_us: int) -> bool:
        """Tell whether there was an exchange that is young enough to count by."""
        return self._sent_us >= 0 and now_us - self._sent_us <= FRESH_US

    def counted_from(self, at_us: int, now_us: int) -> int:
        """Return the local instant from which a lease that was granted is surely counted; never later than now.

        Args:
            at_us: when it was granted, by the store's clock.
            now_us: the local time; there must have been an exchange.
        """
        assert self._sent_us >= 0, "nothing was exchanged since the connection or the last hurry: ask again"
        from_us = at_us - self._most(now_us)
        from_us -= max(self._sent_us - from_us, 0) // DRIFT  # a grant from before the exchange
        return min(from_us, now_us)

    def must_ask(self, at_us: int, duration_us: int, now_us: int) -> bool:
        """Tell whether a client that was told of a grant has to ask again, and count from what that answers.

        Args:
            at_us: when it was granted, by the store's clock.
            duration_us: of the lease.
            now_us: the local time.
        """
        if not self.is_fresh(now_us):
            return True
        return now_us >= self.counted_from(at_us, now_us) + duration_us - duration_us // 100 - SECOND // 10

    def _most(self, now_us: int) -> int:
        """Return by how much the store's clock is ahead now, at the most."""
        return self._most_us + max(now_us - self._sent_us, 0) // DRIFT
