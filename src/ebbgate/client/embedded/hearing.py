"""The leases of this process: what becomes of them is passed to those who wait for or hold them."""

from collections.abc import Sequence

from ebbgate.client.lease import Lease as HeldLease
from ebbgate.client.waiting import Gone, Heard, Waiter
from ebbgate.core.book import Book
from ebbgate.core.commands import Command, Ended, Release
from ebbgate.core.ledger import outcome_of
from ebbgate.core.model import Lease, Stored


class Hearing:
    """Who waits, who holds, and the word that reaches them."""

    def __init__(self, holding: dict[str, HeldLease] | None = None) -> None:
        """Nobody waits yet; `holding` are those who hold, nobody if it is not given."""
        self.waiters: dict[str, Waiter] = {}
        self.holding = {} if holding is None else holding

    def hear(self, lease_id: str, outcome: Heard | Gone) -> None:
        """Pass on what became of one lease."""
        waiter = self.waiters.pop(lease_id, None)
        if waiter is not None:
            waiter.hear(outcome)
            return
        holding = self.holding.get(lease_id)
        if holding is not None and isinstance(outcome, Ended):
            holding.end(outcome.why)

    def released(self, commands: Sequence[Command]) -> None:
        """Forget whose caller has gone: perhaps its asking was carried out only after that."""
        for command in commands:
            if isinstance(command, Release):
                self.waiters.pop(command.id, None)

    def took_in(self, stored: Sequence[Stored]) -> None:
        """See what others' commits mean for the leases of this process."""
        for entry in stored:
            lease = entry.record
            if isinstance(lease, Lease) and lease.state != "waiting":
                if lease.id in self.waiters:
                    self.hear(lease.id, outcome_of(lease))
                elif lease.state == "ended" and lease.id in self.holding:
                    self.holding[lease.id].end(lease.why)

    def took_in_everything(self, book: Book) -> None:
        """See the same after everything was loaded anew; who is unknown by now must ask again."""
        for lease_id in list(self.waiters):
            lease = book.leases.get(lease_id)
            if lease is None:
                self.hear(lease_id, Gone())
            elif lease.state != "waiting":
                self.hear(lease_id, outcome_of(lease))
        for lease_id, holding in list(self.holding.items()):
            lease = book.leases.get(lease_id)
            if lease is None or lease.state != "held":
                holding.end(lease.why if lease else "forgotten by the store")

    def ahead(self, book: Book) -> int:
        """Return how many stand before the first waiter of this process, at most."""
        for lease_id in list(self.waiters):
            lease = book.leases.get(lease_id)
            if lease is not None and lease.state == "waiting":
                return book.queue.ahead(lease)
        return 0

    def close(self) -> None:
        """Tell all who wait that nobody will tell them anything any more."""
        for lease_id in list(self.waiters):
            self.hear(lease_id, Ended(lease_id, "cancelled", -1, 0))
