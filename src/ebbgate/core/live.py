"""A limit in use, and those who want the same of the same limits: what the queue is made of."""

from bisect import insort
from collections import deque
from typing import Final

from ebbgate.core.decay import spent_slots, when_spent_is
from ebbgate.core.model import Lease, Limit, Meter, Slots

Key = tuple[int, int]
"""A waiter's place in the total order: (-priority, arrival number)."""

ALL: Final = 1 << 60
"""More slots than any limit has: the room of an inactive limit, and a claim on all room there is."""


class Live:
    """A limit in use: its definition, what is held and spent of it, and who is interested in its room."""

    __slots__ = (
        "claimants", "claims", "due_us", "gaining", "groups", "held", "holders", "limit", "meter", "parked",
        "unmarked", "waiting", "wants",
    )  # fmt: skip

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.meter: Meter | None = None
        self.held = 0  # slots
        self.holders = 0  # leases
        self.waiting = 0  # leases
        self.groups: dict[Group, None] = {}  # all that want slots of this limit
        self.parked: list[tuple[Key, Group]] = []  # to be looked at when room is gained, in order
        self.wants: dict[int, int] = {}  # slots wanted -> how many parked groups want so many
        self.claims: list[tuple[Key, int, Group]] = []  # room kept from later ones, in order
        self.claimants: dict[Group, None] = {}  # groups whose claims depend on this limit having room
        self.unmarked: list[tuple[Key, int, Group]] = []  # heap: heads that nobody has overtaken yet
        self.due_us = -1  # when decay alone lets a parked group in; -1: never
        self.gaining = False

    def room(self, now_us: int) -> int:
        """Return how many slots are free; below 0 after the limit was lowered."""
        if not self.limit.active:
            return ALL
        room = self.limit.limit - self.held
        return room if self.meter is None else room - spent_slots(self.meter, now_us)

    def visible(self, key: Key, now_us: int) -> int:
        """Return the room that a waiter at `key` can see: what earlier ones claim is not there for it.

        Where there is none, how far it is below 0 means nothing.
        """
        room = self.room(now_us)
        for claim in self.claims:
            if room <= 0 or claim[0] >= key:
                break
            room -= claim[1]
        return room

    def room_at(self, slots: int) -> int:
        """Return when decay alone will have freed `slots`, if nothing else changes; -1: never."""
        spent_max = self.limit.limit - self.held - slots
        if self.meter is None or spent_max < 0 or not self.limit.active:
            return -1
        return when_spent_is(self.meter, spent_max)


class Group:
    """Waiters that want the same slots at the same priority, in order of arrival."""

    __slots__ = ("claims", "gone", "identity", "key", "needs", "noted", "parks", "queued", "waiters")

    def __init__(self, identity: tuple[Slots, int], needs: tuple[tuple[Live, int], ...]) -> None:
        self.identity = identity
        self.needs = needs
        self.waiters: deque[Lease] = deque()
        self.gone: set[int] = set()  # arrival numbers of waiters that left from the middle
        self.key: Key = (0, 0)  # of the head, when it was last looked at
        self.parks: tuple[Live, ...] = ()
        self.claims: tuple[tuple[Live, int], ...] = ()
        self.noted = -1  # arrival number of the head that stands in the heaps `unmarked`
        self.queued: Key | None = None  # its place among those that are worth a look

    def head_key(self) -> Key:
        """Return the place of the first waiter; there must be one."""
        return (self.identity[1], self.waiters[0].arrival)

    def reorder(self, added: Lease | None) -> None:
        """Drop those that left from the middle and put `added` where it belongs."""
        kept = [lease for lease in self.waiters if lease.arrival not in self.gone]
        if added is not None:
            insort(kept, added, key=lambda lease: lease.arrival)
        self.gone.clear()
        self.waiters.clear()
        self.waiters.extend(kept)
