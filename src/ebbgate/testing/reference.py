"""The queue's rule written plainly: no index, no memory, everybody is looked at every time.

`ReferenceBook` decides like `Book`, but asks `PlainQueue` who is next, and counts what is held and spent anew
at every look, with exact fractions. The same commands at the same instants must give the same decisions.

The rule: look at all waiters in the total order (higher priority, then arrival number), each with the room
that earlier ones leave it, and let in the first that fits; again from the start until none fits.
What a waiter that does not fit leaves to later ones:

- it lacks exactly one limit: no room of that limit;
- it lacks several: everything;
- it lacks any, wants several, is the first of its kind and was overtaken for `patience`: it secures its
  limits one after the other, in an order that is fixed at that moment: fewest waiters first, then fewest
  slots, then by id. Later ones are not left its slots of those that it has secured, nor any room of the next
  one; they are left everything while a limit that it lacks is closed.

A waiter is the first of its kind if no earlier one wants the same slots at the same priority. It is overtaken
when a later one is let in that takes slots of a limit that it wants too; one grant marks 64 at most so.

Known limit: every decision costs the square of the number of waiters.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

from ebbgate.core.book import Book
from ebbgate.core.line import Key
from ebbgate.core.live import ALL, Group, Live
from ebbgate.core.model import SECOND, Lease, Limit
from ebbgate.core.queue import MARKED_MAX, Queue


def _key(lease: Lease) -> Key:
    return (-lease.priority, lease.arrival)


class PlainLive(Live):
    """A limit in use that counts everything anew whenever it is asked."""

    __slots__ = ("book",)

    def __init__(self, limit: Limit, book: Book) -> None:
        super().__init__(limit)
        self.book = book

    def room(self, now_us: int) -> int:
        """See `Live.room`."""
        if not self.limit.active:
            return ALL
        if self.limit.cool_until_us > now_us:
            return min(0, self.limit.limit - self.taken())
        return self.limit.limit - self.taken() - math.ceil(self.spent(now_us))

    def taken(self) -> int:
        """Return how many slots are held."""
        return sum(
            slots
            for lease in self.book.leases.values()
            if lease.state == "held"
            for limit_id, slots in lease.slots
            if limit_id == self.limit.id
        )

    def spent(self, now_us: int) -> Fraction:
        """Return what is spent, exactly."""
        meter = self.meter
        if meter is None:
            return Fraction(0)
        left_us = meter.empty_us + Fraction(meter.rest, meter.numerator) - now_us
        return max(Fraction(0), left_us * Fraction(meter.numerator, meter.denominator) / SECOND)

    def visible(self, key: Key, now_us: int) -> int:
        """See `Live.visible`."""
        assert isinstance(self.book.queue, PlainQueue)
        return self.book.queue.visible(self, key, now_us)


class PlainQueue(Queue):
    """All waiters, as one list that is looked through from the start."""

    def __init__(self, patience_us: int, book: Book) -> None:
        super().__init__(patience_us, book)
        self.book = book
        self.patience_us = patience_us
        self.waiters: list[Lease] = []

    # --- coming and going

    def enter(self, lease: Lease) -> None:
        """See `Queue.enter`."""
        self.waiters.append(lease)
        self.waiters.sort(key=_key)
        self._count()

    def leave(self, lease: Lease) -> None:
        """See `Queue.leave`."""
        self.waiters.remove(lease)
        self._count()

    def _count(self) -> None:
        for live in self.lives.values():
            live.waiting = sum(any(i == live.limit.id for i, _ in lease.slots) for lease in self.waiters)

    def waiters_of(self, live: Live) -> list[Lease]:
        """See `Queue.waiters_of`."""
        wanting = [lease for lease in self.waiters if any(i == live.limit.id for i, _ in lease.slots)]
        return sorted(wanting, key=lambda lease: lease.arrival)

    def _first_of_kind(self) -> Iterator[Lease]:
        kinds = set()
        for lease in self.waiters:
            if (lease.slots, lease.priority) not in kinds:
                kinds.add((lease.slots, lease.priority))
                yield lease

    def inherit(self, lease: Lease) -> Lease | None:
        """See `Queue.inherit`."""
        for heir in self._first_of_kind():
            if (heir.slots, heir.priority) == (lease.slots, lease.priority):
                if 0 <= lease.overtaken_us >= heir.since_us and heir.overtaken_us < 0:
                    self.book.mark_overtaken(heir, lease.overtaken_us)
                return heir
        return None

    def overtake(self, key: Key, live: Live, now_us: int) -> None:
        """See `Queue.granted`."""
        marked = 0
        for head in self._first_of_kind():
            wants = any(limit_id == live.limit.id for limit_id, _ in head.slots)
            if _key(head) < key and wants and len(head.slots) > 1 and head.overtaken_us < 0:
                self.book.mark_overtaken(head, now_us)
                marked += 1
                if marked == MARKED_MAX:
                    return

    # --- the rule

    def visible(self, live: Live, key: Key, now_us: int) -> int:
        """Return what all that stand before `key` leave of a limit."""
        kept: dict[str, int] = {}
        for lease in self.waiters:
            if _key(lease) >= key:
                break
            self._keep(lease, kept, now_us)
        return live.room(now_us) - kept.get(live.limit.id, 0)

    def _lacking(self, lease: Lease, kept: dict[str, int], now_us: int) -> list[str]:
        return [i for i, n in lease.slots if self.lives[i].room(now_us) - kept.get(i, 0) < n]

    def _keep(self, lease: Lease, kept: dict[str, int], now_us: int) -> None:
        """Add what one that does not fit keeps from later ones."""
        lacking = self._lacking(lease, kept, now_us)
        if not lacking:
            return
        secured: list[str] = []
        target = lacking[0] if len(lacking) == 1 else ""
        if lease.keeps and lease in self._first_of_kind():
            if any(self._is_shut(i, now_us) for i in lacking):
                return
            target = next(i for i in lease.keeps if i in lacking)
            secured = list(lease.keeps[: lease.keeps.index(target)])
        for limit_id in secured:
            kept[limit_id] = kept.get(limit_id, 0) + dict(lease.slots)[limit_id]
        if target:
            kept[target] = kept.get(target, 0) + ALL

    def _is_shut(self, limit_id: str, now_us: int) -> bool:
        limit = self.lives[limit_id].limit
        return limit.limit == 0 or limit.cool_until_us > now_us

    def _is_overdue(self, lease: Lease, now_us: int) -> bool:
        if lease.keeps or len(lease.slots) < 2 or not 0 <= lease.overtaken_us <= now_us - self.patience_us:
            return False
        return lease in self._first_of_kind()

    def settle(self, now_us: int, admit: Callable[[Lease, int], None] | None) -> list[Lease]:
        """See `Queue.settle`."""
        while (lease := self.next_in_line(now_us, decide=admit is not None)) is not None:
            if admit is None:
                return [lease]
            admit(lease, now_us)
        return []

    def next_in_line(self, now_us: int, *, decide: bool) -> Lease | None:
        """Return the first that fits; those that were overtaken for too long keep slots from now on."""
        kept: dict[str, int] = {}
        for lease in self.waiters:
            if not self._lacking(lease, kept, now_us):
                return lease
            if self._is_overdue(lease, now_us):
                if not decide:
                    return lease
                self.book.set_keeps(lease, tuple(sorted((i for i, _ in lease.slots), key=self._scarcity)))
            self._keep(lease, kept, now_us)
        return None

    def _scarcity(self, limit_id: str) -> tuple[int, int, str]:
        live = self.lives[limit_id]
        return (live.waiting, live.limit.limit, limit_id)

    # --- what an index would need

    def unsettled(self) -> bool:
        """See `Queue.unsettled`: nothing is remembered, so always."""
        return True

    def touch(self, group: Group) -> None:
        """Remember nothing."""

    def gained(self, live: Live) -> None:
        """Remember nothing."""

    def reconsider(self, live: Live) -> None:
        """Remember nothing."""

    def shrunk(self, live: Live) -> None:
        """Remember nothing."""

    def advance(self, now_us: int) -> None:
        """Remember nothing."""


class ReferenceBook(Book):
    """A book with the plain queue; slow, and for small histories only."""

    plain: PlainQueue

    def clear(self) -> None:
        """See `Records.clear`."""
        super().clear()
        self.queue = self.plain = PlainQueue(self.settings.patience_us, self)
        self.lives = self.queue.lives

    def _place_limit(self, limit_id: str, limit: Limit | None) -> None:
        if limit is not None and limit_id not in self.lives:
            self.lives[limit_id] = PlainLive(limit, self)
            self.names.setdefault(limit.name, self.lives[limit_id])
        super()._place_limit(limit_id, limit)

    def grant(self, lease: Lease, now_us: int, *, waited: bool) -> None:
        """See `Ledger.grant`; who is overtaken is found by looking at everybody."""
        for limit_id, _ in self.active(lease.slots):
            self.plain.overtake(_key(lease), self.lives[limit_id], now_us)
        super().grant(lease, now_us, waited=waited)


def left_outside(book: Book, now_us: int) -> Lease | None:
    """Return whom the plain rule would let in next, or have keep its slots, on a book's records.

    Nobody, when the book has settled at `now_us`.
    """
    plain = PlainQueue(book.settings.patience_us, book)
    for limit in book.limits.values():
        live = PlainLive(limit, book)
        live.define(limit, book.lives[limit.id].meter)
        plain.lives[limit.id] = live
    plain.waiters = sorted((lease for lease in book.leases.values() if lease.state == "waiting"), key=_key)
    return plain.next_in_line(now_us, decide=False)
