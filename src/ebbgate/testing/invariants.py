"""What is true of a book after every step: each index says what the records say, and nobody is left outside.

`check` counts everything anew from the records. A simulation calls it after each step.

Known limit: that no limit is over-full is only checked of limits that were never edited; one that was
lowered, or is active again, may hold more than it has for a while.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from ebbgate.core.book import Book
from ebbgate.core.decay import spent_slots
from ebbgate.core.live import ALL, Group, Live
from ebbgate.core.model import Lease, Slots
from ebbgate.testing.reference import left_outside


def check(book: Book, now_us: int) -> None:
    """Raise AssertionError when a book contradicts itself.

    Args:
        book: between two decisions, or after one that is not confirmed yet.
        now_us: the instant of its last decision.
    """
    _check_limits(book)
    _check_leases(book)
    _check_order(book)
    _check_timers(book)
    _check_groups(book)
    _check_orders(book)
    settled = not book.queue.unsettled() and book.now_us == now_us
    if settled:
        _check_parking(book, now_us)
        outside = left_outside(book, now_us)
        assert outside is None, f"{outside} fits, or is overdue, and was left outside"
    _check_room(book, now_us)


def _same(actual: object, expected: object, what: str) -> None:
    assert actual == expected, f"{what}: the index has {actual!r}, the records have {expected!r}"


def _in_state(book: Book, *states: str) -> list[Lease]:
    return [lease for lease in book.leases.values() if lease.state in states]


def _check_limits(book: Book) -> None:
    """Every limit has one `Live`, found by its id and by its name."""
    _same({i: live.limit for i, live in book.lives.items()}, book.limits, "limits in use")
    names = {limit.name: limit.id for limit in book.limits.values()}
    assert len(names) == len(book.limits), "two limits have one name"
    _same({name: live.limit.id for name, live in book.names.items()}, names, "names")
    for limit_id, live in book.lives.items():
        assert live.limit is book.limits[limit_id], f"{limit_id} is indexed under an older definition"
        assert book.names[live.limit.name] is live, f"{limit_id} is live twice"
        assert live.meter is None or live.meter.id == limit_id, f"{limit_id} has another limit's meter"
    held, holders = _count(_in_state(book, "held"))
    _, waiting = _count(_in_state(book, "waiting"))
    for limit_id, live in book.lives.items():
        counted = (held[limit_id], holders[limit_id], waiting[limit_id])
        _same((live.held, len(live.holders), live.waiting), counted, f"held, holders, waiting of {limit_id}")


def _count(leases: Iterable[Lease]) -> tuple[Counter[str], Counter[str]]:
    slots: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for lease in leases:
        for limit_id, wanted in lease.slots:
            slots[limit_id] += wanted
            times[limit_id] += 1
    return slots, times


def _check_leases(book: Book) -> None:
    """A lease has all of its limits or none, and the fields of its state."""
    holding: dict[str, set[str]] = defaultdict(set)
    waiting: dict[str, set[str]] = defaultdict(set)
    for lease_id, lease in book.leases.items():
        assert lease.id == lease_id, f"{lease_id} is kept under another id"
        ids = [limit_id for limit_id, _ in lease.slots]
        assert ids == sorted(set(ids)), f"{lease_id} has unsorted or doubled slots"
        assert set(lease.keeps) <= set(ids) or lease.state != "waiting", (
            f"{lease_id} keeps what it does not want"
        )
        if lease.state == "ended":
            assert lease.ended_us >= 0, f"{lease_id} ended at no instant"
            assert lease.why, f"{lease_id} ended for no reason"
            continue
        assert set(ids) <= set(book.limits), f"{lease_id} has slots of a limit that is gone"
        assert lease.ended_us == -1, f"{lease_id} is {lease.state} and ended"
        assert (lease.state == "held") == (lease.token >= 0), (
            f"{lease_id} is {lease.state}, token {lease.token}"
        )
        assert (lease.state == "held") == (lease.expires_us >= 0), f"{lease_id} is {lease.state} and expires"
        (holding if lease.state == "held" else waiting)[lease.session].add(lease_id)
    _same({id_: set(mine) for id_, mine in book.by_session.items()}, dict(holding), "held leases by session")
    _same(
        {id_: set(mine) for id_, mine in book.waiting_by_session.items()}, dict(waiting), "waiters by session"
    )
    closing = {id_ for id_, session in book.sessions.items() if session.is_closing}
    _same(set(book.closing), closing, "sessions that are closing")


def _check_order(book: Book) -> None:
    """Arrival numbers and fencing tokens are unique, and tokens rise with time."""
    arrivals = [lease.arrival for lease in book.leases.values()]
    assert len(set(arrivals)) == len(arrivals), "two leases have one arrival number"
    assert max(arrivals, default=0) <= book.arrival, "an arrival number was given twice, or will be"
    granted = sorted((lease.token, lease.at_us) for lease in book.leases.values() if lease.token >= 0)
    assert len({token for token, _ in granted}) == len(granted), "two grants have one token"
    assert [at for _, at in granted] == sorted(at for _, at in granted), "tokens do not rise with time"
    assert max((token for token, _ in granted), default=0) <= book.token, (
        "a token was given twice, or will be"
    )
    assert all(token >= at for token, at in granted), "a token is below its instant"


def _check_timers(book: Book) -> None:
    """Whatever happens by time alone stands in a heap."""
    expiries, attends, aways = set(book.expiries), set(book.attends), set(book.aways)
    for lease in _in_state(book, "held", "waiting"):
        if lease.state == "held":
            assert (lease.expires_us, lease.id) in expiries, f"{lease.id} would never expire"
        if lease.attend_due_us >= 0:
            assert (lease.attend_due_us, lease.id) in attends, f"{lease.id} would never be missed"
    for session in book.sessions.values():
        if session.away_due_us >= 0:
            assert (session.away_due_us, session.id) in aways, f"{session.id} would never be gone"
    endings = set(book.endings)
    for lease in _in_state(book, "ended"):
        assert (lease.ended_us, "lease", lease.id) in endings, f"{lease.id} would never be forgotten"
    for request in book.requests.values():
        assert (request.at_us, "request", request.id) in endings, f"{request.id} would never be forgotten"
    for heap in (book.expiries, book.attends, book.aways, book.endings):
        ordered = all(heap[(i - 1) // 2] <= heap[i] for i in range(1, len(heap)))
        assert ordered, "a heap of timers is out of order"


def _check_groups(book: Book) -> None:
    """Every waiter stands in the group of its kind, in order."""
    kinds: dict[tuple[Slots, int], list[Lease]] = defaultdict(list)
    for lease in sorted(_in_state(book, "waiting"), key=lambda lease: lease.arrival):
        kinds[lease.slots, -lease.priority].append(lease)
    groups = book.queue.groups
    for identity, group in groups.items():
        present = [lease for lease in group.waiters if lease.arrival not in group.gone]
        expected = kinds.pop(identity, [])
        assert len(present) == len(expected), (
            f"{identity}: the group has {present}, the records have {expected}"
        )
        assert all(a is b for a, b in zip(present, expected, strict=True)), f"{identity}: wrong order"
        arrivals = [lease.arrival for lease in group.waiters]
        assert arrivals == sorted(set(arrivals)), f"{identity}: a group is out of order"
        assert group.gone <= set(arrivals), f"{identity}: somebody left who was not there"
        assert not arrivals or arrivals[0] not in group.gone, f"{identity}: the head has left"
    assert not kinds, f"waiters without a group: {dict(kinds)}"


def _check_orders(book: Book) -> None:
    """The orders that are kept for those who look on are those of the records."""
    _same(book.names_in_order(), sorted(book.names), "names in order")
    for live in book.lives.values():
        _same(
            sorted(live.holders.values(), key=lambda lease: lease.arrival),
            [lease for lease in _by_arrival(book, "held") if live.limit.id in dict(lease.slots)],
            f"holders of {live.limit.id}",
        )
        if live.endings is not None:
            ends = sorted((lease.expires_us, lease.arrival) for lease in live.holders.values())
            _same(live.endings.first(), ends, f"endings of {live.limit.id}")
        if live.lines is not None:
            waiting = [(dict(lease.slots), lease) for lease in _by_arrival(book, "waiting")]
            for slots, line in live.lines.items():
                keys = [
                    (-it.priority, it.arrival) for wanted, it in waiting if wanted.get(live.limit.id) == slots
                ]
                _same(line.first(), sorted(keys), f"who wants {slots} slots of {live.limit.id}")


def _by_arrival(book: Book, state: str) -> list[Lease]:
    return sorted(_in_state(book, state), key=lambda lease: lease.arrival)


def _check_parking(book: Book, now_us: int) -> None:
    """Every head is parked at limits it lacks, and all claims are entered where they weigh."""
    parked: dict[Live, list[Group]] = defaultdict(list)
    claims: dict[Live, list[tuple[object, int, Group]]] = defaultdict(list)
    for identity, group in book.queue.groups.items():
        assert group.waiters, f"{identity}: an empty group is left"
        assert all(live is book.lives[i] for (live, _), (i, _) in zip(group.needs, identity[0], strict=True))
        assert group.key == group.head_key(), f"{identity}: parked under an old head"
        assert group.parks, f"{identity}: parked nowhere"
        wanted = dict(group.needs)
        for live in group.parks:
            parked[live].append(group)
            assert live.visible(group.key, now_us) < wanted[live], f"{identity}: parked where there is room"
        for live, slots in group.claims:
            claims[live].append((group.key, slots, group))
            assert slots in {ALL, wanted[live]}, f"{identity}: claims {slots}"
        for live, _ in group.needs:
            depends = bool(group.claims) and (live, ALL) not in group.claims
            assert (group in live.claimants) == depends, f"{identity}: not told when {live.limit.id} shrinks"
            assert group in live.groups, f"{identity}: unknown to {live.limit.id}"
        _check_noted(group)
    for live in book.lives.values():
        expected = sorted(((group.key, group) for group in parked[live]), key=lambda entry: entry[0])
        assert live.parked == expected, f"{live.limit.id}: parked are not those that say so, in order"
        assert sorted(live.claims, key=lambda claim: claim[0]) == live.claims, (
            f"{live.limit.id}: unsorted claims"
        )
        assert {c[::2] for c in live.claims} == {c[::2] for c in claims[live]}, (
            f"{live.limit.id}: lost claims"
        )
        _same(live.wants, dict(Counter(dict(group.needs)[live] for group in parked[live])), "wants")
        assert set(live.groups) <= set(book.queue.groups.values()), (
            f"{live.limit.id}: knows a group that is gone"
        )
        _check_due(book, live, now_us)


def _check_noted(group: Group) -> None:
    """A head that may be overtaken is found by whoever overtakes it."""
    head = group.waiters[0]
    if len(group.needs) > 1 and head.overtaken_us < 0:
        for live, _ in group.needs:
            noted = any(key == group.key and other is group for key, _, other in live.unmarked)
            assert noted, (
                f"{group.identity}: nobody would note that {head.id} is overtaken on {live.limit.id}"
            )


def _check_due(book: Book, live: Live, now_us: int) -> None:
    """Decay that will let a parked head in is waited for."""
    if live.due_us >= 0:
        assert (live.due_us, live) in {(due, other) for due, _, other in book.queue._dues}, (
            "a due is not waited for"
        )
    if not live.timed or not live.parked or not live.limit.active:
        return
    for key, group in live.parked:
        if live.visible(key, now_us) > -(ALL // 2):  # nobody keeps everything from it
            wanted = dict(group.needs)[live]
            at_us = live.room_at(live.room(now_us) + wanted - live.visible(key, now_us), now_us)
            assert at_us < 0 or 0 <= live.due_us <= at_us, f"{live.limit.id}: decay would let {key} in unseen"


def _check_room(book: Book, now_us: int) -> None:
    """No limit that was never edited is over-full."""
    for live in book.lives.values():
        limit = live.limit
        if limit.active and limit.updated_us == limit.created_us:
            spent = spent_slots(live.meter, now_us) if live.meter else 0
            assert live.held + spent <= limit.limit, (
                f"{limit.id}: held {live.held} + spent {spent} > {limit.limit}"
            )
