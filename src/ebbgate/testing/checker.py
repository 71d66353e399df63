"""Judges a history by what was promised. It knows nothing of how anything is done, only what clients saw.

The laws, by the names that violations carry:

- `slots`: at no instant more valid leases than slots. A lease is valid from when its client saw the grant
  until it called release, noticed the loss, met its own deadline, was revoked, or died. What counts is the
  limit as it may have been when the newest of those leases was granted: lowering evicts nobody.
- `rate`: in any window at most `limit + rate * window + 0.1` slots are spent, less what is held.
- `returned`: nobody holds or waits long after its client gave up, and no grant comes after that unreturned.
- `order`: nobody is let in before one who came earlier, is no less urgent, and wanted no more than it.
- `arrival`: who was answered before another one asked has the lower number; numbers are unique.
- `starved`: nobody waits beyond the bound whom nothing but its turn keeps from getting in.
- `told`: whoever was let in hears of it soon.
- `removed`: nobody is taken out of the queue who is there, and whom no operator revoked.
- `renewal`: nobody loses a lease that it had renewed in time, and everybody renews in time who can.
- `retaken`: a lease that had ended is not taken again before those who wait.
- `token`: fencing tokens are unique and rise in the order of grants.
- `zero`: when everything is given back, nothing is held.

Where the history leaves open what was in force, the checker takes what allows most.

Known limits: a lease that waits for several limits may be stepped over; `order` compares it only with leases
that want the same. After `StoreLost`, what was granted before is not held against what is granted after.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from ebbgate.testing import history as h
from ebbgate.testing.facts import NEVER, Facts, Grant, LimitFacts, in_order_of_tokens, total
from ebbgate.testing.lease_laws import (
    SECOND,
    Violation,
    removed,
    renewals,
    retaken,
    starved,
    tokens,
    told_late,
)

CREDIT: Final = 0.1 + 1e-6
"""Slots that a rate may be exceeded by: the credit for lateness, and the checker's own rounding."""


def check(events: Sequence[h.AnyEvent]) -> list[Violation]:
    """Return every violation that a history shows, in the order of time.

    Args:
        events: in the order of `when_us`.

    Raises:
        ValueError: the events contradict each other, so that nothing can be said.
    """
    facts = Facts(events)
    spent = {which: _Spent(facts, limit) for which, limit in facts.limits.items()}
    found: list[Violation] = []
    for law in (_over_rate, _over_slots):
        found.extend(law(facts, spent))
    for judge in (
        _unreturned,
        _out_of_order,
        _arrivals,
        starved,
        told_late,
        removed,
        renewals,
        retaken,
        tokens,
        _not_zero,
    ):
        found.extend(judge(facts))
    return sorted(found, key=lambda violation: violation.when_us)


# --- slots and rates


class _Spent:
    """How much of one limit was certainly spent, at the least, after each spend that clients saw."""

    def __init__(self, facts: Facts, limit: LimitFacts) -> None:
        self._facts = facts
        self._limit = limit
        self.grants = in_order_of_tokens(
            grant for grant in facts.grants.values() if not grant.is_hold and limit.which in grant.counted
        )
        self.tokens = [grant.token for grant in self.grants]
        self.levels: list[float] = []  # slots, right after each
        for place, grant in enumerate(self.grants):
            before = self._left(place - 1, grant) if place else 0.0
            self.levels.append(before + grant.counted[limit.which])

    def _left(self, place: int, now: Grant) -> float:
        """Return what is left, when `now` is granted, of what was spent by the grant at `place`."""
        last = self.grants[place]
        if self._facts.lost_between(last.asked.when_us, now.seen_us):
            return 0.0
        rate = self._limit.fastest(min(last.asked.when_us, now.asked.when_us), now.seen_us)
        return max(0.0, self.levels[place] - rate * max(now.at_us - last.at_us, 0) / SECOND)

    def before(self, grant: Grant) -> float:
        """Return what was spent when `grant` came, without it."""
        place = bisect_left(self.tokens, grant.token)
        return self._left(place - 1, grant) if place else 0.0


def _over_rate(facts: Facts, spent: dict[str, _Spent]) -> Iterator[Violation]:
    for which, of_limit in spent.items():
        limit = facts.limits[which]
        for grant, level in zip(of_limit.grants, of_limit.levels, strict=True):
            most = limit.most(grant.asked.when_us, grant.seen_us)
            if level > most + CREDIT:
                yield Violation(
                    "rate",
                    grant.seen_us,
                    f"{level:.3f} slots of limit {which} are spent, which has {most}",
                    (grant.asked.lease,),
                )


def _over_slots(facts: Facts, spent: dict[str, _Spent]) -> Iterator[Violation]:
    """Go through all grants in the order in which clients saw them, with those leases that are valid then."""
    seen = sorted((g for g in facts.grants.values() if g.token >= 0), key=lambda g: (g.seen_us, g.token))
    valid: dict[str, list[Grant]] = defaultdict(list)  # holds by limit
    for new in seen:
        for which in new.counted:
            held = [grant for grant in valid[which] if grant.end_us > new.seen_us]
            if new.is_hold and new.end_us > new.seen_us:
                held.append(new)
            valid[which] = held
            # Those of a higher token were let in while `new` held, though their clients knew first.
            later = [grant for grant in held if grant.token > new.token]
            for last in [new, *later]:
                yield from _judge_room(facts, spent[which], last, held, new.seen_us)


def _judge_room(
    facts: Facts, of_limit: _Spent, last: Grant, held: list[Grant], now_us: int
) -> Iterator[Violation]:
    """Judge whether there was room when `last` was granted; all of `held` are valid since their own grant."""
    limit = of_limit._limit
    if limit.deleted_us <= now_us:
        return
    together = [
        grant
        for grant in held
        if grant.token <= last.token
        and not facts.lost_between(max(grant.asked.when_us, grant.known_us), last.seen_us)
    ]
    taken = total(together, limit.which)
    if not last.is_hold:
        if not together:
            return  # spends among themselves are judged by their rate
        taken += last.counted[limit.which]
    most = limit.most(last.asked.when_us, last.seen_us)
    spent = of_limit.before(last)
    if taken + spent > most + CREDIT:
        yield Violation(
            "slots",
            now_us,
            f"{taken} slots of limit {limit.which} are out and {spent:.3f} spent, it has {most}",
            (last.asked.lease, *(grant.asked.lease for grant in together if grant is not last)),
        )


# --- giving back


def _unreturned(facts: Facts) -> Iterator[Violation]:
    for event in facts.events:
        if isinstance(event, h.Granted):
            grant = facts.grants[event.lease]
            if grant.gave_up_us < event.when_us and grant.released_us == NEVER and grant.is_hold:
                yield Violation(
                    "returned",
                    event.when_us,
                    "granted after its client had given up, and not given back",
                    (event.lease,),
                )
    for listed in facts.listings:
        for lease in (*listed.held, *listed.waiting):
            over = facts.grants.get(lease)
            if over is None:
                continue
            over_us = over.over_us()
            late_us = listed.when_us - over_us - facts.setting.returned_us
            if late_us > 0 and not facts.in_trouble("", over_us, listed.when_us):
                yield Violation(
                    "returned",
                    listed.when_us,
                    f"still there {late_us / SECOND:g} s beyond the bound",
                    (lease,),
                )


def _not_zero(facts: Facts) -> Iterator[Violation]:
    for listed in facts.listings:
        left = (*listed.held, *listed.waiting)
        if listed.final and left:
            yield Violation("zero", listed.when_us, "held or waiting when everything was given back", left)


# --- order


def _out_of_order(facts: Facts) -> Iterator[Violation]:
    """Who wants all that another one wants, or the one limit it waits for, is not let in before it."""
    alike: dict[tuple[int, tuple[tuple[str, int], ...]], list[Grant]] = defaultdict(list)
    sharing: dict[tuple[int, str], list[Grant]] = defaultdict(list)
    for grant in facts.grants.values():
        if grant.token < 0 or grant.arrival <= 0 or len(grant.counted) != len(grant.asked.slots):
            continue
        if facts.lost_between(grant.asked.when_us, grant.seen_us):
            continue
        epoch = sum(lost_us < grant.asked.when_us for lost_us in facts.losses)
        for which in grant.counted:
            sharing[epoch, which].append(grant)
        if len(grant.counted) > 1:
            alike[epoch, tuple(sorted(grant.counted.items()))].append(grant)
    for grants in sharing.values():
        yield from _overtaken(grants, alone=True)
    for grants in alike.values():
        yield from _overtaken(grants, alone=False)


def _overtaken(grants: list[Grant], *, alone: bool) -> Iterator[Violation]:
    """Find who was let in after one that arrived later and is no more urgent.

    With `alone`, only those that want a single limit must not be overtaken.
    """
    first: dict[int, Grant] = {}  # by priority, of those that arrived later: who was let in first
    for grant in sorted(grants, key=lambda grant: -grant.arrival):
        priority = grant.asked.priority
        if not alone or len(grant.counted) == 1:
            for other_priority, other in first.items():
                before = other.arrival > grant.arrival and other.token < grant.token
                if other_priority <= priority and before:
                    yield Violation(
                        "order",
                        grant.seen_us,
                        f"number {other.arrival} was let in before number {grant.arrival}",
                        (grant.asked.lease, other.asked.lease),
                    )
        if priority not in first or grant.token < first[priority].token:
            first[priority] = grant


def _arrivals(facts: Facts) -> Iterator[Violation]:
    numbers: dict[int, str] = {}
    highest = (0, "")  # of those that clients were told
    asked: dict[str, tuple[int, str]] = {}  # lease -> the highest number that was told before it was asked
    for event in facts.events:
        match event:
            case h.StoreLost():
                numbers.clear()
                asked.clear()
                highest = (0, "")
            case h.Asked():
                asked[event.lease] = highest
            case h.Queued() | h.Granted() | h.NotGranted():
                number, lease = event.arrival, event.lease
                if number <= 0 or lease not in asked:
                    continue  # not told, or asked before the store lost its tail
                before = asked[lease]
                if number <= before[0] and before[1] != lease:
                    yield Violation(
                        "arrival",
                        event.when_us,
                        f"number {number} was given to a call that began after {before[0]} was told",
                        (lease, before[1]),
                    )
                if numbers.setdefault(number, lease) != lease:
                    yield Violation(
                        "arrival", event.when_us, f"number {number} was given twice", (lease, numbers[number])
                    )
                highest = max(highest, (number, lease))
            case _:
                pass
