"""Those laws of the checker that are about one lease at a time: its wait, its renewals, its fencing token."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from ebbgate.testing import history as h
from ebbgate.testing.facts import Facts, Grant, in_order_of_tokens

SECOND: Final = 1_000_000


class Violation(NamedTuple):
    """A promise that was not kept."""

    law: str
    when_us: int
    what: str
    leases: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.when_us} {self.law}: {self.what} [{', '.join(self.leases)}]"


def starved(facts: Facts) -> Iterator[Violation]:
    """Find who waited beyond the bound though nothing but its turn kept it from getting in."""
    bound_us = facts.setting.starved_us
    by_name: dict[str, list[Grant]] = defaultdict(list)
    for grant in facts.grants.values():
        for name in grant.asked.slots:
            by_name[name].append(grant)
    for grant in facts.grants.values():
        from_us = grant.asked.when_us
        to_us = min(grant.seen_us, grant.gave_up_us, grant.end_us, facts.ended_us)
        if to_us - from_us > bound_us and not _is_excused(facts, grant, by_name, from_us, to_us):
            waited = (to_us - from_us) / SECOND
            yield Violation("starved", to_us, f"waited for {waited:g} s", (grant.asked.lease,))


def _is_excused(
    facts: Facts, grant: Grant, by_name: dict[str, list[Grant]], from_us: int, to_us: int
) -> bool:
    """Tell whether something else than its turn kept a waiter from getting in.

    Those before it may have been kept out as well, by limits that it does not want: they are looked at too.
    """
    if facts.in_trouble(grant.asked.client, from_us, to_us) or facts.lost_between(from_us, to_us):
        return True
    names: dict[str, int] = dict(grant.asked.slots)
    looked_at: set[str] = set()
    while left := [name for name in names if name not in looked_at]:
        name = left[0]
        looked_at.add(name)
        for limit in facts.limits.values():
            named = name in limit.fields["name"].possible(from_us, to_us)
            if named and limit.least(from_us, to_us) < names[name]:
                return True
        for other in by_name[name]:
            end_us = min(other.end_us, other.gave_up_us, facts.ended_us)
            if other.asked.when_us > to_us or end_us < from_us:
                continue
            held = other.seen_us < to_us
            if held and other.asked.priority > grant.asked.priority:
                return True
            if held and end_us - other.seen_us > facts.setting.long_us:
                return True
            for its_name, slots in other.asked.slots.items():
                names[its_name] = max(slots, names.get(its_name, 0))
    return False


def told_late(facts: Facts) -> Iterator[Violation]:
    """Judge by the quickest: how far the store's clock is from that of the history is not known otherwise."""
    if facts.clock_stepped:
        return
    seen = [grant for grant in facts.grants.values() if grant.token >= 0]
    offset_us = min((grant.seen_us - grant.at_us for grant in seen), default=0)
    for grant in seen:
        late_us = grant.seen_us - grant.at_us - offset_us
        if late_us <= facts.setting.told_us:
            continue
        if not facts.in_trouble(grant.asked.client, grant.seen_us - late_us, grant.seen_us):
            yield Violation(
                "told",
                grant.seen_us,
                f"heard of its grant after {late_us / SECOND:g} s",
                (grant.asked.lease,),
            )


def removed(facts: Facts) -> Iterator[Violation]:
    """Find who was taken out of the queue though it was there and nobody revoked it."""
    for event in facts.events:
        if isinstance(event, h.NotGranted) and event.why == "removed":
            grant = facts.grants[event.lease]
            asked_us = grant.asked.when_us
            excused = grant.revoked_us <= event.when_us or facts.lost_between(asked_us, event.when_us)
            if not excused and not facts.in_trouble(event.client, asked_us, event.when_us, alone=True):
                yield Violation("removed", event.when_us, "taken out of the queue", (event.lease,))


# --- renewals and tokens


def renewals(facts: Facts) -> Iterator[Violation]:
    """Find leases that were lost though they were renewed in time, or could have been."""
    for grant in facts.grants.values():
        if grant.lost is None or grant.token < 0 or not grant.is_hold:
            continue
        lost_us, why = grant.lost
        if facts.lost_between(grant.asked.when_us, lost_us):
            continue
        if min(grant.revoked_us, grant.released_us) <= lost_us:
            continue
        lease = grant.asked.lease
        if why != "deadline":
            cut_off = facts.in_trouble(grant.asked.client, grant.seen_us, lost_us)
            if facts.clock_stepped and cut_off:
                continue  # the store's clock ran ahead while it could not be told to renew
            if lost_us < grant.deadline_us:
                left = (grant.deadline_us - lost_us) / SECOND
                yield Violation(
                    "renewal", lost_us, f"ended ({why}) {left:g} s before its client's deadline", (lease,)
                )
            continue
        answered = [done_us for _, done_us in facts.renewals[lease] if done_us <= grant.deadline_us]
        # Granted while its client was stopped: the countdown began before the client saw it.
        began_us = min(grant.seen_us, grant.deadline_us - grant.asked.duration_us)
        since_us = max([began_us, *answered])
        if not facts.in_trouble(grant.asked.client, since_us, grant.deadline_us):
            yield Violation(
                "renewal", lost_us, "lost, though nothing kept its client from renewing", (lease,)
            )


def retaken(facts: Facts) -> Iterator[Violation]:
    """Find leases that were taken again while another waiter, told before that it waits, wanted the same limit."""
    waited = [
        grant for grant in facts.grants.values() if grant.token >= 0 and grant.queued_us < grant.seen_us
    ]
    for grant in facts.grants.values():
        for token, sent_us, answered_us in grant.retakes:
            for other in waited:
                if other is grant or other.queued_us >= sent_us or other.token <= token:
                    continue
                since_us = other.asked.when_us
                shared = [
                    which
                    for which in grant.counted.keys() & other.counted.keys()
                    if facts.limits[which].was_active(since_us, answered_us) is True
                ]
                excused = facts.lost_between(since_us, answered_us) or facts.in_trouble(
                    other.asked.client, since_us, answered_us, alone=True
                )
                if shared and not excused:
                    leases = (grant.asked.lease, other.asked.lease)
                    yield Violation("retaken", answered_us, "taken again before a lease that waited", leases)


def tokens(facts: Facts) -> Iterator[Violation]:
    """Find fencing tokens that were given twice, or not in the order of grants."""
    owners: dict[int, str] = {}
    for grant in facts.grants.values():
        for token in grant.tokens:
            if token > 0 and owners.setdefault(token, grant.asked.lease) != grant.asked.lease:
                yield Violation(
                    "token",
                    grant.seen_us,
                    f"token {token} was given twice",
                    (grant.asked.lease, owners[token]),
                )
    granted = in_order_of_tokens(facts.grants.values())
    for earlier, later in pairwise(granted):
        if earlier.at_us > later.at_us and not facts.lost_between(
            earlier.asked.when_us, max(earlier.seen_us, later.seen_us)
        ):
            yield Violation(
                "token",
                later.seen_us,
                f"token {later.token} was granted before {earlier.token}",
                (later.asked.lease, earlier.asked.lease),
            )
    highest = (0, "")
    asked: dict[str, tuple[int, str]] = {}
    for event in facts.events:
        if isinstance(event, h.Asked):
            asked[event.lease] = highest
        elif isinstance(event, h.Granted) and event.protected:
            if event.token <= asked[event.lease][0]:
                yield Violation(
                    "token",
                    event.when_us,
                    f"token {event.token} was given to a call that began after {highest[0]} was told",
                    (event.lease, highest[1]),
                )
            highest = max(highest, (event.token, event.lease))
