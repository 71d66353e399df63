"""What clients cannot see and must still hold: one acquisition takes slots once, however often it is asked.

A spend whose answer was lost is not spent again, and what was given back is not granted to nobody: late and
doubled messages change nothing.

Known limit: who waits to spend, and is cut off for longer than ended leases are remembered, is granted it once
more. So is one of a process that is its own decider, if it never heard that it has a place in the queue, since
that answer of the store was lost, and is granted before it asks again: such sessions are remembered by nobody.
That wastes slots; it does not give out too many.
"""

from typing import Final

from ebbgate.core.commands import Held, Outcome, Told
from ebbgate.core.model import REMEMBERED_US, Lease

NEVER_US: Final = 1 << 62


class Once:
    """Watches all grants of a world."""

    def __init__(self) -> None:
        """Nothing was granted yet."""
        self._asked: dict[str, tuple[int, int]] = {}  # lease -> since when, and how late a duplicate may be
        self._spent: dict[str, Held] = {}
        self._committed: dict[
            str, tuple[int, int]
        ] = {}  # spends: lease -> token and instant of the first commit
        self._unheard: set[str] = (
            set()
        )  # leases of which only their own process knows, until it is told a place
        self._returned: dict[str, tuple[int, int]] = {}  # lease -> since when, the newest token at that time
        self._lost_us = -1  # when the store lost its tail last

    def asked(self, lease_id: str, now_us: int, *, forgetful: bool, embedded: bool) -> None:
        """Note a lease.

        Args:
            lease_id: of the lease.
            now_us: since when it is asked for.
            forgetful: a duplicate of its question may come later than it is remembered.
            embedded: its session is not remembered at all.
        """
        if embedded:
            self._unheard.add(lease_id)
        self._asked[lease_id] = (now_us, REMEMBERED_US if forgetful else NEVER_US)

    def queued(self, lease_id: str) -> None:
        """Note that a client was told its place in the queue."""
        self._unheard.discard(lease_id)

    def returned(self, lease_id: str, now_us: int, token: int) -> None:
        """Note that a client knows its lease to be given back; `token` is the last one that was given."""
        self._returned[lease_id] = (now_us, token)

    def store_lost(self, now_us: int) -> None:
        """The store has lost its tail: what was asked before may happen again."""
        self._lost_us = now_us

    def decided(self, outcomes: list[Outcome], told: list[Told], now_us: int) -> None:
        """Judge what a committed decision granted.

        Raises:
            AssertionError: something was granted twice.
        """
        heard = [word.outcome for word in told if word.id not in self._unheard]
        for outcome in (*outcomes, *heard):
            if isinstance(outcome, Held) and outcome.protected and outcome.id in self._asked:
                self._granted(outcome, now_us)

    def spent(self, lease: Lease) -> None:
        """Judge a spend that was committed, whoever hears of it.

        Raises:
            AssertionError: it was committed before, under another token.
        """
        if self._asked.get(lease.id, (self._lost_us, 0))[0] <= self._lost_us:
            return
        token, at_us = self._committed.setdefault(lease.id, (lease.token, lease.at_us))
        is_told = lease.id not in self._unheard or lease.since_us == lease.at_us
        if is_told and lease.at_us - at_us < REMEMBERED_US:
            assert lease.token == token, f"{lease.id} was spent twice in the store"

    def _granted(self, held: Held, now_us: int) -> None:
        lease_id = held.id
        asked_us, late_us = self._asked[lease_id]
        if asked_us <= self._lost_us:
            return
        returned_us, newest = self._returned.get(lease_id, (now_us, held.token))
        assert held.token <= newest or now_us - returned_us > late_us, (
            f"{lease_id} was granted after it had been given back"
        )
        if held.expires_us < 0:
            first = self._spent.setdefault(lease_id, held)
            known = held.at_us - first.at_us < REMEMBERED_US
            assert held.token == first.token or not known, f"{lease_id} was spent twice"
