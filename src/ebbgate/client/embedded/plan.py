"""When this process should look again though nobody tells it anything."""

from collections.abc import Sequence
from typing import Final, Protocol

from ebbgate.client.embedded.timing import OVERDUE_US, RETRY_US
from ebbgate.core.book import Book
from ebbgate.core.grace import Grace


class Port(Protocol):
    """Where callers of one kind wait."""

    def nudge(self) -> None:
        """Have it look at the plan again: something is due sooner."""

    def close(self) -> None:
        """Give back what it holds open."""

    def abandon(self) -> None:
        """The same in a child after a fork."""


class Plan:
    """The next moment at which time alone changes something that is this process's to see to."""

    def __init__(self, sessions: Sequence[str]) -> None:
        """Plan nothing yet, for the process of these sessions."""
        self.at_us = -1  # by the store's clock; -1: not until told
        self.ports: Final[list[Port]] = []  # those who wait by it
        self.grace: Final = Grace()
        self._own = frozenset(["", *sessions])
        self._not_before_us = -1
        self._left_us = -1  # since when something is due that its own process has not seen to

    def make(self, book: Book, now_us: int) -> None:
        """Plan anew, and wake those who wait if it is sooner than before."""
        may_expire = self.grace.is_over(now_us)
        due = book.next_due(now_us, expire=may_expire)
        at_us = due.at_us
        if at_us >= 0 and due.session not in self._own:
            # Its own process sees to it, unless it is stopped or busy. The bound starts once: what is still due at
            # the next look is due "now" again.
            if at_us > now_us:
                self._left_us = -1
            elif self._left_us < 0:
                self._left_us = now_us
            at_us = (at_us if self._left_us < 0 else self._left_us) + OVERDUE_US
        else:
            self._left_us = -1
        if not may_expire and not 0 <= at_us <= self.grace.until_us:
            at_us = self.grace.until_us
        if at_us >= 0:
            at_us = max(at_us, self._not_before_us)
        sooner = at_us >= 0 and not 0 <= self.at_us <= at_us
        self.at_us = at_us
        if sooner:
            for port in self.ports:
                port.nudge()

    def failed(self, now_us: int) -> None:
        """The store was out of reach: look again a little later."""
        self.grace.failed(now_us)
        self._not_before_us = now_us + RETRY_US

    def succeeded(self, now_us: int) -> None:
        """The store answered: what was due has been seen to."""
        self._left_us = -1
        if self.grace.is_failing:
            self.grace.succeeded(now_us)
