"""Who is let in next, over all limits at once.

The rule: of all waiters that fit in the room they can see, the first in the total order (higher priority,
then arrival number) is let in; again and again until none fits. A waiter that lacks exactly one limit keeps
all room of that limit from later ones. One that lacks more keeps nothing, until it has been overtaken for
`patience`; then it secures its limits one after the other, in an order fixed at that moment: the limit that
fewest wait for comes first, so that the most shared one is kept last and shortest. It keeps its slots of
those that it has secured and all room of the next one, and nothing while one that it lacks is closed.

How it is done without looking at everybody: waiters that want the same slots of the same limits form a
`Group`, of which only the head is ever looked at. A group is parked at a limit that its head lacks and is
looked at again only when that limit gains room. What a head keeps from later ones is a claim on a limit.
`ebbgate.testing.reference` is the rule written plainly; both must agree.

Known limits: a waiter that leaves from the middle of a long group is only removed when it comes to the
front, or when half of the group has left so.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Final, Protocol

from ebbgate.core.keeping import order_of_keeping, parks_and_claims
from ebbgate.core.line import Key
from ebbgate.core.live import ALL, Group, Live
from ebbgate.core.model import Lease, Slots

MARKED_MAX: Final = 64
"""How many waiters one grant marks as overtaken at most, the first in order, so that no commit is huge."""


class Marks(Protocol):
    """What a queue has recorded about a waiter."""

    def mark_overtaken(self, lease: Lease, since_us: int) -> None:
        """Record since when later ones are let in before it."""

    def set_keeps(self, lease: Lease, keeps: tuple[str, ...]) -> None:
        """Record the order in which it keeps slots."""


class Queue:
    """All waiters of a namespace."""

    def __init__(self, patience_us: int, marks: Marks) -> None:
        """Make an empty queue.

        Args:
            patience_us: how long a waiter may be overtaken before it keeps its own slots.
            marks: records what the queue finds out about waiters.
        """
        self.lives: dict[str, Live] = {}
        self.groups: dict[tuple[Slots, int], Group] = {}
        self._patience_us = patience_us
        self._marks = marks
        self._looks: list[tuple[Key, int, Group, Live | None]] = []
        self._gaining: list[Live] = []
        self._metered: dict[Live, None] = {}  # whose `due_us` may have changed
        self._dues: list[tuple[int, int, Live]] = []
        self._patience_dues: list[tuple[int, int, Group, int]] = []
        self._serial = 0  # makes heap entries comparable
        self._left: Group | None = None  # whom the last one left that did

    # --- coming and going

    def enter(self, lease: Lease) -> None:
        """Put a waiter in its place."""
        identity = (lease.slots, -lease.priority)
        group = self.groups.get(identity)
        if group is not None and not group.waiters:
            self._dissolve(group)  # not settled yet; a limit of it may be another one by now
            group = None
        if group is None:
            group = Group(identity, tuple((self.lives[limit_id], slots) for limit_id, slots in lease.slots))
            self.groups[identity] = group
            for live, _ in group.needs:
                live.groups[group] = None
        waiters = group.waiters
        if not waiters or waiters[-1].arrival < lease.arrival:
            waiters.append(lease)
        elif lease.arrival < waiters[0].arrival:
            waiters.appendleft(lease)
        else:
            group.reorder(lease)
        for live, slots in group.needs:
            if not live.waiting:
                live.handed, live.handed_us = 0, -1
            live.waiting += 1
            if live.lines is not None:
                live.joined((identity[1], lease.arrival), slots)
        if waiters[0] is lease:
            group.noted = -1
            self.touch(group)

    def leave(self, lease: Lease) -> None:
        """Take a waiter out, wherever it stands."""
        group = self._left = self.groups[lease.slots, -lease.priority]
        for live, slots in group.needs:
            live.waiting -= 1
            if live.lines is not None:
                live.left((group.identity[1], lease.arrival), slots)
        waiters, gone = group.waiters, group.gone
        if waiters[0] is not lease:
            gone.add(lease.arrival)
            if len(gone) > len(waiters) // 2 + 16:
                group.reorder(None)
            return
        if group.claims:
            self._claim(group, group.key, ())  # they were those of this head
        waiters.popleft()
        while gone and waiters[0].arrival in gone:
            gone.remove(waiters.popleft().arrival)
        self.touch(group)

    def inherit(self, lease: Lease) -> Lease | None:
        """Return who stands first now among those who want what `lease`, the last one that left, wanted.

        It is overtaken since when that one was, if it was there already.
        """
        group = self._left
        if group is None or not group.waiters:
            return None
        head = group.waiters[0]
        if lease.overtaken_us >= 0 > head.overtaken_us and head.since_us <= lease.overtaken_us:
            self._note_overtaken(group, head, lease.overtaken_us)
            self.touch(group)  # its patience may be over already
        return head

    def waiters_of(self, live: Live) -> list[Lease]:
        """Return all that wait for slots of a limit, in order of arrival."""
        waiters = [
            lease for group in live.groups for lease in group.waiters if lease.arrival not in group.gone
        ]
        return sorted(waiters, key=lambda lease: lease.arrival)

    def ahead(self, lease: Lease) -> int:
        """Return a bound on how many that want the same stand before a waiter; exact only when 0."""
        return lease.arrival - self.groups[lease.slots, -lease.priority].waiters[0].arrival

    # --- what makes somebody worth a look

    def touch(self, group: Group) -> None:
        """Look at the head of `group` when next settling."""
        key = group.head_key() if group.waiters else group.key
        if group.queued is None or key < group.queued:
            group.queued = key
            self._push(key, group, None)

    def reconsider(self, live: Live) -> None:
        """A limit is another than before: look at everybody who wants it."""
        if live.timed:
            self._metered[live] = None
        for group in live.groups:
            self.touch(group)

    def gained(self, live: Live) -> None:
        """A limit has more room than before, for everybody or for later waiters."""
        if live.timed:
            self._metered[live] = None
        if live.parked and not live.gaining:
            live.gaining = True
            self._gaining.append(live)

    def shrunk(self, live: Live) -> None:
        """A limit has less room than before: claims of those that need it may fall."""
        if live.timed:
            self._metered[live] = None
        for group in live.claimants:
            self.touch(group)

    def granted(self, key: Key, live: Live, now_us: int) -> None:
        """Somebody at `key` was let in: mark heads before it that want this limit too as overtaken."""
        heap = live.unmarked
        marked = 0
        while heap and heap[0][0] < key and marked < MARKED_MAX:
            head_key, _, group = heapq.heappop(heap)
            if _is_unmarked(group, head_key):
                marked += 1
                self._note_overtaken(group, group.waiters[0], now_us)

    def _note_overtaken(self, group: Group, head: Lease, since_us: int) -> None:
        self._marks.mark_overtaken(head, since_us)
        self._watch_patience(group, head)

    def _watch_patience(self, group: Group, head: Lease) -> None:
        self._serial += 1
        due = (head.overtaken_us + self._patience_us, self._serial, group, head.arrival)
        heapq.heappush(self._patience_dues, due)

    # --- time

    def advance(self, now_us: int) -> None:
        """Take in what time alone has changed by `now_us`."""
        while self._dues and self._dues[0][0] <= now_us:
            due_us, _, live = heapq.heappop(self._dues)
            if live.due_us == due_us:
                live.due_us = -1
                if live.cool_until_us == due_us:
                    self.reconsider(live)  # what is kept while a limit is closed is another matter
                else:
                    self.gained(live)
        while self._patience_dues and self._patience_dues[0][0] <= now_us:
            _, _, group, arrival = heapq.heappop(self._patience_dues)
            if group.waiters and group.waiters[0].arrival == arrival:
                self.touch(group)

    def next_due(self) -> tuple[int, Lease | None]:
        """Return when time alone may let somebody in (-1: never), and who that is if it is known."""
        while self._dues and self._dues[0][2].due_us != self._dues[0][0]:
            heapq.heappop(self._dues)
        while self._patience_dues:
            _, _, group, arrival = self._patience_dues[0]
            if group.waiters and group.waiters[0].arrival == arrival:
                break
            heapq.heappop(self._patience_dues)
        due: tuple[int, Lease | None] = (-1, None)
        if self._dues:
            live = self._dues[0][2]
            due = (self._dues[0][0], live.parked[0][1].waiters[0] if live.parked else None)
        if self._patience_dues and (due[0] < 0 or self._patience_dues[0][0] < due[0]):
            due = (self._patience_dues[0][0], self._patience_dues[0][2].waiters[0])
        return due

    # --- settling

    def unsettled(self) -> bool:
        """Tell whether anybody is worth a look."""
        return bool(self._looks or self._gaining or self._metered)

    def settle(self, now_us: int, admit: Callable[[Lease, int], None] | None) -> list[Lease]:
        """Let in everybody who can be, in order; then everybody else is parked where it lacks room.

        Args:
            now_us: the instant.
            admit: lets a waiter in. None: only park, and leave those who could be let in for the next time.

        Returns:
            Who could have been let in and was left outside; nobody unless `admit` is None.
        """
        looks = self._looks
        left_outside: list[Group] = []
        while True:
            while self._gaining:
                live = self._gaining.pop()
                live.gaining = False
                if live.parked:
                    self._push(*live.parked[0], live)
            if not looks:
                break
            key, _, group, source = heapq.heappop(looks)
            if source is None and group.queued == key:
                group.queued = None
            if not group.waiters:
                self._dissolve(group)
            elif group.head_key() > key:
                self.touch(group)  # its turn is later
            elif not self._look(group, now_us, admit):
                left_outside.append(group)
            if source is not None:
                self._look_behind(source, key, now_us)
        for live in self._metered:
            self._set_due(live, now_us)
        self._metered.clear()
        for group in left_outside:
            self.touch(group)
        return [group.waiters[0] for group in left_outside]

    def _look_behind(self, live: Live, key: Key, now_us: int) -> None:
        """Go on with the next one parked at a limit that has gained room, if it can see any of it."""
        place = bisect_left(live.parked, ((key[0], key[1] + 1),))
        if place < len(live.parked) and live.visible(live.parked[place][0], now_us) > 0:
            self._push(*live.parked[place], live)

    def _look(self, group: Group, now_us: int, admit: Callable[[Lease, int], None] | None) -> bool:
        """Let the head of `group` in, or park it; False when nothing may be decided but would have to be."""
        head = group.waiters[0]
        key = group.head_key()
        lacking = [live for live, slots in group.needs if live.visible(key, now_us) < slots]
        if lacking:
            overdue = 0 <= head.overtaken_us <= now_us - self._patience_us
            if overdue and not head.keeps and len(group.needs) > 1:
                if admit is None:
                    return False
                self._marks.set_keeps(head, order_of_keeping(group))
            parks, claims = parks_and_claims(group, key, head, lacking, now_us)
            self._park(group, key, parks, claims)
            if len(group.needs) > 1:
                self._note_head(group, key, head)
            return True
        if admit is None:
            return False
        self._park(group, key, (), ())
        admit(head, now_us)
        return True

    def _note_head(self, group: Group, key: Key, head: Lease) -> None:
        if group.noted == head.arrival:
            return
        group.noted = head.arrival
        if head.overtaken_us >= 0:
            if not head.keeps:
                self._watch_patience(group, head)
            return
        for live, _ in group.needs:
            self._serial += 1
            heapq.heappush(live.unmarked, (key, self._serial, group))
            if len(live.unmarked) > 64 + 4 * len(live.groups):
                live.unmarked = [entry for entry in live.unmarked if _is_unmarked(entry[2], entry[0])]
                heapq.heapify(live.unmarked)

    # --- parking

    def _park(
        self, group: Group, key: Key, parks: tuple[Live, ...], claims: tuple[tuple[Live, int], ...]
    ) -> None:
        """Set where a group is parked and what it claims; what it gives up is gained by later ones."""
        if group.parks != parks or group.key != key:
            wanted = dict(group.needs)
            for live in group.parks:
                del live.parked[bisect_left(live.parked, (group.key,))]
                _count(live.wants, wanted[live], -1)
            for live in parks:
                insort(live.parked, (key, group), key=lambda entry: entry[0])
                _count(live.wants, wanted[live], 1)
                if live.timed:
                    self._metered[live] = None
        if group.claims != claims or (claims and group.key != key):
            self._claim(group, key, claims)
        group.parks = parks
        group.key = key

    def _claim(self, group: Group, key: Key, claims: tuple[tuple[Live, int], ...]) -> None:
        before = dict(group.claims)
        for live, _ in group.claims:
            del live.claims[bisect_left(live.claims, (group.key,))]
        if group.claims:
            for live, _ in group.needs:
                live.claimants.pop(group, None)
        group.claims = claims
        for live, slots in claims:
            insort(live.claims, (key, slots, group), key=lambda entry: entry[0])
            if slots > before.pop(live, 0) or key < group.key:
                for other in live.claimants:
                    if other.key > key:
                        self.touch(other)
            else:
                self.gained(live)
        for live in before:
            self.gained(live)
        if claims:
            claimed = {live for live, slots in claims if slots == ALL}
            for live, _ in group.needs:
                if live not in claimed:
                    live.claimants[group] = None

    def _dissolve(self, group: Group) -> None:
        """Forget a group that nobody is in any more."""
        self._park(group, group.key, (), ())
        if self.groups.get(group.identity) is group:
            del self.groups[group.identity]
            for live, _ in group.needs:
                live.groups.pop(group, None)

    def _set_due(self, live: Live, now_us: int) -> None:
        """Find out when time alone will have made room for somebody who is parked at `live`."""
        live.due_us = self._due_of(live, now_us) if live.parked else -1
        if live.due_us >= 0:
            self._serial += 1
            heapq.heappush(self._dues, (live.due_us, self._serial, live))
            if len(self._dues) > 64 + 4 * len(self.lives):
                self._dues = [entry for entry in self._dues if entry[2].due_us == entry[0]]
                heapq.heapify(self._dues)

    @staticmethod
    def _due_of(live: Live, now_us: int) -> int:
        if live.cool_until_us > now_us:
            return live.cool_until_us
        room = live.room(now_us)
        if live.claims and live.claims[0][1] != ALL:
            target = room + 1  # what is claimed makes the others' need uncertain: look at every slot
        else:
            target = min((slots for slots in live.wants if slots > room), default=0)
        return live.room_at(target, now_us) if target > 0 else -1

    def _push(self, key: Key, group: Group, source: Live | None) -> None:
        self._serial += 1
        heapq.heappush(self._looks, (key, self._serial, group, source))


def _is_unmarked(group: Group, head_key: Key) -> bool:
    return bool(group.waiters) and group.head_key() == head_key and group.waiters[0].overtaken_us < 0


def _count(counts: dict[int, int], number: int, change: int) -> None:
    left = counts.get(number, 0) + change
    if left:
        counts[number] = left
    else:
        del counts[number]
