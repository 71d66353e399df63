"""A limit in use, and those who want the same of the same limits: what the queue is made of."""

from bisect import insort
from collections import deque
from heapq import nsmallest
from typing import Final

from ebbgate.core.decay import spent_slots, when_spent_is
from ebbgate.core.line import Key, Line
from ebbgate.core.model import Lease, Limit, Meter, Slots

# A waiter's place in the total order is a `Key`: (-priority, arrival number).

ALL: Final = 1 << 60
"""More slots than any limit has: the room of an inactive limit, and a claim on all room there is."""

FEW: Final = 64
"""So many holders are put in order whenever somebody asks for the first of them."""

UNASKED_MAX: Final = 4_096
"""An order that is kept only for those who look on is given up after so many changes, and four times its
length, in which nobody did."""

PACE_MIN: Final = 5
PACE_MAX: Final = 128
"""Slots that were handed on, from which on their pace says something, and the last ones of which it is taken."""


class Live:
    """A limit in use: its definition, what is held and spent of it, and who is interested in its room."""

    __slots__ = (
        "claimants", "claims", "cool_until_us", "due_us", "endings", "endings_unasked", "gaining", "granted",
        "groups", "handed", "handed_us", "held", "holders", "limit", "lines", "lines_unasked", "meter", "parked",
        "timed", "unmarked", "waiting", "wants",
    )  # fmt: skip

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.meter: Meter | None = None
        self.cool_until_us = limit.cool_until_us
        self.timed = limit.cool_until_us >= 0  # whether time alone may bring it room
        self.held = 0  # slots
        self.holders: dict[int, Lease] = {}  # by arrival number
        self.waiting = 0  # leases
        self.groups: dict[Group, None] = {}  # all that want slots of this limit
        self.parked: list[tuple[Key, Group]] = []  # to be looked at when room is gained, in order
        self.wants: dict[int, int] = {}  # slots wanted -> how many parked groups want so many
        self.claims: list[tuple[Key, int, Group]] = []  # room kept from later ones, in order
        self.claimants: dict[Group, None] = {}  # groups whose claims depend on this limit having room
        self.unmarked: list[tuple[Key, int, Group]] = []  # heap: heads that nobody has overtaken yet
        self.due_us = -1  # when decay alone lets a parked group in; -1: never
        self.gaining = False
        # For those who look on. What is None is not kept, until somebody asks.
        self.granted = 0  # leases that were let in since this book took in the limit
        self.lines: dict[int, Line] | None = None  # slots wanted -> the keys of who wants so many
        self.lines_unasked = 0
        self.endings: Line | None = None  # (expires_us, arrival number) of the holders
        self.endings_unasked = 0
        self.handed = 0  # slots that waiters were given since `handed_us`
        self.handed_us = -1  # when one was, and others have waited ever since; -1: never

    def room(self, now_us: int) -> int:
        """Return how many slots are free; below 0 after the limit was lowered."""
        if not self.limit.active:
            return ALL
        room = self.limit.limit - self.held
        if self.cool_until_us > now_us:
            return min(room, 0)
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

    def define(self, limit: Limit, meter: Meter | None) -> None:
        """Set what the limit is, and what of it is spent."""
        self.limit, self.meter = limit, meter
        self.cool_until_us = limit.cool_until_us
        self.timed = meter is not None or limit.cool_until_us >= 0

    def is_closed(self, now_us: int) -> bool:
        """Tell whether nobody at all is let in, though the limit is enforced."""
        return not self.limit.limit or self.cool_until_us > now_us

    def room_at(self, slots: int, now_us: int) -> int:
        """Return when time alone will have freed `slots`, if nothing else changes; -1: never."""
        spent_max = self.limit.limit - self.held - slots
        if spent_max < 0 or not self.limit.active:
            return -1
        cool_us = self.cool_until_us if self.cool_until_us > now_us else -1
        if self.meter is None:
            return cool_us
        return max(when_spent_is(self.meter, spent_max), cool_us)

    # --- for those who look on

    def before(self, key: Key) -> tuple[int, int]:
        """Return how many slots are wanted by those who stand before `key`, and how many these are."""
        if self.lines is None:
            keys: dict[int, list[Key]] = {}
            for group in self.groups:
                (wanted,) = [slots for live, slots in group.needs if live is self]
                priority, gone = group.identity[1], group.gone
                keys.setdefault(wanted, []).extend(
                    [(priority, lease.arrival) for lease in group.waiters if lease.arrival not in gone]
                )
            self.lines = {wanted: Line(them) for wanted, them in keys.items()}
        self.lines_unasked = 0
        counts = [(wanted, line.before(key)) for wanted, line in self.lines.items()]
        return sum(wanted * count for wanted, count in counts), sum(count for _, count in counts)

    def joined(self, key: Key, slots: int) -> None:
        """Note, where `lines` are kept, that a waiter has come that wants so many slots."""
        assert self.lines is not None, "called only then"
        line = self.lines.get(slots)
        if line is None:
            self.lines[slots] = Line([key])
        else:
            line.add(key)

    def left(self, key: Key, slots: int) -> None:
        """Note, where `lines` are kept, that a waiter has gone."""
        assert self.lines is not None, "called only then"
        self.lines[slots].remove(key)
        self.lines_unasked += 1
        if not self.waiting or self.lines_unasked > UNASKED_MAX + 4 * self.waiting:
            self.lines = None

    def soonest(self, count: int) -> list[Lease]:
        """Return the `count` holders that expire first, in order."""
        holders = self.holders
        if len(holders) <= FEW:
            return nsmallest(count, holders.values(), key=lambda lease: (lease.expires_us, lease.arrival))
        if self.endings is None:
            self.endings = Line([(lease.expires_us, lease.arrival) for lease in holders.values()])
        self.endings_unasked = 0
        return [holders[arrival] for _, arrival in self.endings.first(count)]

    def ends_at(self, lease: Lease) -> None:
        """Note, where `endings` are kept, when a holder's lease will end."""
        if self.endings is not None:
            self.endings.add((lease.expires_us, lease.arrival))

    def ends_no_more(self, lease: Lease) -> None:
        """Note, where `endings` are kept, that a lease will not end at the time that it has."""
        assert self.endings is not None, "called only then"
        self.endings.remove((lease.expires_us, lease.arrival))
        self.endings_unasked += 1
        if self.endings_unasked > UNASKED_MAX + 4 * len(self.holders):
            self.endings = None

    def pace_us(self, slots: int, now_us: int) -> int | None:
        """Return how long `slots` take to be handed on, as it went since somebody waits; None: nobody can tell."""
        if self.handed > PACE_MAX:  # what was long ago says less and less
            self.handed_us += max(now_us - self.handed_us, 0) * (self.handed - PACE_MAX) // self.handed
            self.handed = PACE_MAX
        if self.handed < PACE_MIN:
            return None
        return slots * max(now_us - self.handed_us, 0) // self.handed


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
