"""What a history says, put together: one lease, one limit, one trouble at a time.

What nobody can know from outside is left open: which of two calls under way took effect first, or whether one
took effect that was never answered. `Register.possible` then gives every value that may have been in force.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ebbgate.testing import history as h

NEVER = 1 << 62


@dataclass(slots=True)
class Grant:
    """How one lease went, as its client saw it."""

    asked: h.Asked
    queued_us: int = NEVER  # first told that it waits
    arrival: int = 0  # 0: never told
    token: int = -1  # of the first grant; -1: none was seen
    tokens: list[int] = field(default_factory=list)  # of all grants of it, in order
    retakes: list[tuple[int, int, int]] = field(default_factory=list)  # token, renewal sent, answered
    seen_us: int = NEVER
    at_us: int = -1
    unknown: tuple[str, ...] = ()
    gave_up_us: int = NEVER
    end_us: int = NEVER  # from now on its client does not count on it
    deadline_us: int = NEVER
    released_us: int = NEVER
    revoked_us: int = NEVER
    lost: tuple[int, str] | None = None  # when its client noticed, and why
    counted: dict[str, int] = field(
        default_factory=dict
    )  # slots by limit, where it is certain that they count
    known_us: int = -1  # a call that began then showed the store to know it

    @property
    def is_hold(self) -> bool:
        """Whether its slots come back by a release."""
        return self.asked.kind == "hold"

    def over_us(self) -> int:
        """Return when its client had no more to do with it."""
        return min(self.gave_up_us, self.end_us)


@dataclass(slots=True)
class Written:
    """One value that a call may have put in force."""

    value: object
    began_us: int
    done_us: int  # NEVER: not known to have taken effect


class Register:
    """What was written over time to one field of a limit."""

    def __init__(self, losses: list[int]) -> None:
        """Nothing was written yet; `losses` are the instants at which the store lost what it knew."""
        self.writes: list[Written] = []
        self._losses = losses

    def possible(self, from_us: int, to_us: int) -> list[object]:
        """Return every value that may have been in force at some instant from `from_us` to `to_us`."""
        undone_us = max((lost_us for lost_us in self._losses if lost_us <= to_us), default=-1)
        certain_us = max(
            (w.began_us for w in self.writes if w.done_us <= from_us and w.began_us > undone_us), default=-1
        )
        return [w.value for w in self.writes if w.began_us <= to_us and w.done_us >= certain_us]


class LimitFacts:
    """One limit over time."""

    def __init__(self, which: str, losses: list[int]) -> None:
        self.which = which
        self.fields: dict[str, Register] = {
            name: Register(losses) for name in ("name", "limit", "decay", "active")
        }
        self.created = (NEVER, NEVER)  # the call's begin and end
        self.deleted_us = NEVER  # when a call began that may have deleted it
        self.gone_us = NEVER  # since when it is certainly deleted

    def take(self, called: h.ChangeCalled, done_us: int) -> None:
        """Take in one change that was not refused."""
        if called.verb == "delete":
            self.deleted_us = min(self.deleted_us, called.when_us)
            self.gone_us = min(self.gone_us, done_us)
            return
        values: dict[str, object] = {
            "name": called.new_name,
            "limit": called.limit,
            "decay": called.decay,
            "active": called.active,
        }
        if called.verb == "create":
            self.created = (called.when_us, done_us)
            values["name"] = called.name
            values["decay"] = called.decay or 0.0
            values["active"] = called.active is not False
        for name, value in values.items():
            if value is not None:
                self.fields[name].writes.append(Written(value, called.when_us, done_us))

    def most(self, from_us: int, to_us: int) -> int:
        """Return the largest number of slots that it may have had."""
        return max(
            (v for v in self.fields["limit"].possible(from_us, to_us) if isinstance(v, int)), default=0
        )

    def least(self, from_us: int, to_us: int) -> int:
        """Return the smallest number of slots that it may have had."""
        return min(
            (v for v in self.fields["limit"].possible(from_us, to_us) if isinstance(v, int)), default=0
        )

    def fastest(self, from_us: int, to_us: int) -> float:
        """Return the fastest rate at which spent slots may have come back, in slots per second."""
        decay = self.fields["decay"]
        rates = [v for v in decay.possible(from_us, to_us) if isinstance(v, float | int)]
        if 0 in rates:  # what is spent comes back at the rate before
            rates = [v for v in decay.possible(-1, to_us) if isinstance(v, float | int)]
        return max(rates, default=math.inf)

    def was_active(self, from_us: int, to_us: int) -> bool | None:
        """Tell whether it was enforced all the time; None: nobody can know, or not all the time."""
        values = set(self.fields["active"].possible(from_us, to_us))
        return bool(values.pop()) if len(values) == 1 else None


@dataclass(slots=True)
class Trouble:
    """A time in which somebody may not have reached the store."""

    client: str  # "": nobody
    from_us: int
    to_us: int


class Facts:
    """A whole history, put together."""

    def __init__(self, events: Sequence[h.AnyEvent]) -> None:
        """Read `events`, in the order of `when_us`.

        Raises:
            ValueError: they are not in order, or contradict each other, so that nothing can be said.
        """
        self.events = events
        self.setting = h.Setting(when_us=0)
        self.grants: dict[str, Grant] = {}
        self.limits: dict[str, LimitFacts] = {}
        self.losses: list[int] = []
        self.clock_stepped = False
        self.troubles: list[Trouble] = []
        self.renewals: dict[str, list[tuple[int, int]]] = defaultdict(
            list
        )  # lease -> (sent, answered or NEVER)
        self.listings: list[h.Listed] = []
        self.ended_us = events[-1].when_us if events else 0
        self._calls: dict[str, h.ChangeCalled] = {}
        self._of_client: dict[str, list[Grant]] = defaultdict(list)
        self._open: dict[tuple[str, str], Trouble] = {}
        before_us = -NEVER
        for event in events:
            if event.when_us < before_us:
                raise ValueError(f"the history is not in order: {event} after {before_us}")
            before_us = event.when_us
            self._take(event)
        for called in self._calls.values():
            self._limit(called).take(called, NEVER)
        for grant in self.grants.values():
            grant.end_us = min(grant.end_us, grant.deadline_us)
            self._count(grant)

    def _take(self, event: h.AnyEvent) -> None:
        match event:
            case h.Asked(lease=lease):
                if lease in self.grants:
                    raise ValueError(f"lease {lease} was asked twice")
                grant = self.grants[lease] = Grant(event)
                self._of_client[event.client].append(grant)
            case h.RevokeCalled(lease=lease):
                if lease in self.grants:
                    grant = self.grants[lease]
                    grant.revoked_us = min(grant.revoked_us, event.when_us)
                    grant.end_us = min(grant.end_us, event.when_us)
            case h.Killed():
                for grant in self._of_client.pop(event.client, ()):
                    grant.end_us = min(grant.end_us, event.when_us)
                    grant.gave_up_us = min(grant.gave_up_us, event.when_us)
            case h.Stopped() | h.TroubleBegan():
                self._trouble(event, event.what if isinstance(event, h.TroubleBegan) else "stopped")
            case h.Continued() | h.TroubleEnded():
                what = event.what if isinstance(event, h.TroubleEnded) else "stopped"
                if (trouble := self._open.pop((event.client, what), None)) is not None:
                    trouble.to_us = event.when_us
            case h.ChangeCalled():
                self._calls[event.request] = event
            case h.ChangeDone():
                called = self._calls.pop(event.request)
                if event.done:
                    self._limit(called).take(called, event.when_us)
            case h.Setting() | h.StoreLost() | h.Listed() | h.Started() | h.ClockStepped():
                self._take_of_world(event)
            case _:
                self._take_of_lease(event, self._grant(event))

    def _take_of_world(self, event: h.Setting | h.StoreLost | h.Listed | h.Started | h.ClockStepped) -> None:
        match event:
            case h.Setting():
                self.setting = event
            case h.StoreLost():
                self.losses.append(event.when_us)
            case h.Listed():
                self.listings.append(event)
            case h.ClockStepped():
                self.clock_stepped = True
            case h.Started():
                pass

    def _take_of_lease(self, event: h.AnyEvent, grant: Grant) -> None:
        match event:
            case h.Queued(arrival=arrival):
                grant.queued_us = min(grant.queued_us, event.when_us)
                grant.arrival = arrival
            case h.Granted():
                _take_granted(event, grant)
            case h.NotGranted(arrival=arrival):
                grant.gave_up_us = min(grant.gave_up_us, event.when_us)
                grant.arrival = arrival or grant.arrival
            case h.ReleaseCalled():
                grant.released_us = min(grant.released_us, event.when_us)
                grant.end_us = min(grant.end_us, event.when_us)
            case h.LossNoticed(why=why):
                grant.lost = grant.lost or (event.when_us, why)
                grant.end_us = min(grant.end_us, event.when_us)
            case h.RenewSent(lease=lease):
                self.renewals[lease].append((event.when_us, NEVER))
            case h.Renewed(lease=lease):
                self._take_renewed(event, grant, self.renewals[lease])
            case _:
                pass

    def _take_renewed(self, event: h.Renewed, grant: Grant, sent: list[tuple[int, int]]) -> None:
        if (
            not sent or grant.seen_us == NEVER
        ):  # one that took nothing, its limits being inactive, has no token
            raise ValueError(f"lease {event.lease} was renewed without having been granted, or unasked")
        began_us = sent[-1][0]
        sent[-1] = (began_us, event.when_us)
        if event.token != grant.tokens[-1]:
            grant.tokens.append(event.token)
            grant.retakes.append((event.token, began_us, event.when_us))
            grant.end_us = min(grant.end_us, grant.deadline_us, event.when_us)
        elif event.when_us <= grant.deadline_us:
            grant.known_us = began_us
            grant.deadline_us = event.deadline_us
        else:
            grant.end_us = min(grant.end_us, grant.deadline_us)

    def _grant(self, event: h.AnyEvent) -> Grant:
        lease = getattr(event, "lease", "")
        if lease not in self.grants:
            raise ValueError(f"{event} is about a lease that nobody asked for")
        return self.grants[lease]

    def _trouble(self, event: h.Event, what: str) -> None:
        trouble = Trouble(event.client, event.when_us, NEVER)
        self.troubles.append(trouble)
        self._open[event.client, what] = trouble

    def _limit(self, called: h.ChangeCalled) -> LimitFacts:
        return self.limits.setdefault(called.which, LimitFacts(called.which, self.losses))

    # --- what is certain

    def _count(self, grant: Grant) -> None:
        """Find out on which limits a lease certainly counts."""
        if grant.token < 0:
            return
        asked_us = grant.asked.when_us
        named_us = min(grant.queued_us, grant.seen_us)
        for name, slots in grant.asked.slots.items():
            limit = None if name in grant.unknown else self.limit_called(name, asked_us, named_us)
            if limit is not None and limit.was_active(asked_us, grant.seen_us) is True:
                grant.counted[limit.which] = slots

    def limit_called(self, name: str, from_us: int, to_us: int) -> LimitFacts | None:
        """Return the limit of this name; None if there was none, or nobody can know."""
        named = [
            limit
            for limit in self.limits.values()
            if limit.created[0] <= to_us
            and limit.gone_us > from_us
            and name in limit.fields["name"].possible(from_us, to_us)
        ]
        if len(named) != 1:
            return None
        (limit,) = named
        alone = limit.fields["name"].possible(from_us, to_us) == [name]
        return limit if alone and limit.created[1] <= from_us and limit.deleted_us > to_us else None

    def lost_between(self, from_us: int, to_us: int) -> bool:
        """Tell whether the store lost something in between."""
        return any(from_us <= lost_us <= to_us for lost_us in self.losses)

    def in_trouble(self, client: str, from_us: int, to_us: int, *, alone: bool = False) -> bool:
        """Tell whether a client may have been cut off at any instant in between; `alone`: it, not everybody."""
        clients = {client} if alone else {"", client}
        return any(t.client in clients and t.from_us <= to_us and t.to_us >= from_us for t in self.troubles)


def _take_granted(event: h.Granted, grant: Grant) -> None:
    grant.arrival = event.arrival or grant.arrival
    if grant.token >= 0:
        return  # told twice
    grant.token = event.token if event.protected else -1
    grant.tokens.append(event.token)
    grant.seen_us = event.when_us
    grant.at_us = event.at_us
    grant.unknown = event.unknown
    grant.deadline_us = event.deadline_us if event.deadline_us >= 0 else NEVER


def in_order_of_tokens(grants: Iterable[Grant]) -> list[Grant]:
    """Return those that were granted, in the order of their first fencing tokens."""
    return sorted((grant for grant in grants if grant.token >= 0), key=lambda grant: grant.token)


def total(grants: Iterable[Grant], which: str) -> int:
    """Return how many slots of a limit these leases certainly take."""
    return sum(grant.counted.get(which, 0) for grant in grants)


__all__ = ["NEVER", "Facts", "Grant", "LimitFacts", "in_order_of_tokens", "total"]
