"""Nobody is stepped over for ever, and nobody's patience idles what others share."""

import heapq
import itertools
import random
from collections.abc import Iterator

import pytest

from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Command, Hello, PutLimit, Release, Tick
from ebbgate.core.model import SECOND, Head
from ebbgate.testing import invariants
from tests.core.support import T0, limit_id

DAY = 86_400 * SECOND


class Town:
    """A book and holders that give back after a while, in virtual time."""

    def __init__(self, limits: dict[str, int], *, ids: list[int] | None = None) -> None:
        self.book = Book()
        self.now = T0
        self.ends: list[tuple[int, int, str]] = []
        self.holds: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self.granted: dict[str, int] = {}
        self.numbers = itertools.count()
        ids = ids or list(range(len(limits)))
        makes: list[Command] = [
            PutLimit("", "create", name, limit_id(number), limit=slots)
            for number, (name, slots) in zip(ids, limits.items(), strict=True)
        ]
        self.do(Hello("s", 1), *makes)

    def do(self, *commands: Command) -> None:
        decision = self.book.decide(commands, self.now)
        self.book.confirm(decision.head)
        assert isinstance(decision.head, Head)
        for lease in list(self.book.leases.values()):
            if lease.state == "held" and lease.id not in self.granted:
                self.granted[lease.id] = self.now
                heapq.heappush(self.ends, (self.now + self.holds[lease.id], next(self.numbers), lease.id))

    def ask(self, slots: dict[str, int], hold_us: int, prefix: str = "l", *, wait: bool = True) -> str:
        lease_id = f"{prefix}{next(self.numbers)}"
        self.holds[lease_id] = hold_us
        self.asked[lease_id] = self.now
        self.do(Acquire(lease_id, "s", 1, tuple(sorted(slots.items())), DAY, wait=wait))
        return lease_id

    def until(self, at_us: int) -> Iterator[str]:
        """Let time pass; yield who gave back."""
        while True:
            due_us = self.book.next_due(self.now).at_us
            end_us = self.ends[0][0] if self.ends else at_us + 1
            if min(end_us, due_us if due_us >= 0 else end_us) > at_us:
                break
            if 0 <= due_us < end_us:
                self.now = max(self.now, due_us)
                self.do(Tick())
                continue
            self.now, _, lease_id = heapq.heappop(self.ends)
            self.do(Release(lease_id, "s", 1))
            yield lease_id
        self.now = at_us

    def waits(self, prefix: str) -> dict[str, int]:
        """Return how long everybody of a kind has waited, or waits by now."""
        return {
            lease_id: self.granted.get(lease_id, self.now) - asked_us
            for lease_id, asked_us in self.asked.items()
            if lease_id.startswith(prefix)
        }


CROSSED = [{"a": 1, "b": 1}, {"b": 1, "c": 1}, {"a": 1, "c": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1}]


@pytest.mark.parametrize("seed", range(6))
def test_every_equal_gets_in_within_a_bound_however_busy_the_others_are(seed: int) -> None:
    """Newcomers ask for single limits more often than there is room; those who want several still get in."""
    r = random.Random(seed)
    town = Town({"a": 2, "b": 1, "c": 1})
    for second in range(240):
        for name in "abc":
            # always somebody behind: whoever leaves is followed at once by one who wants only this limit
            while town.book.names[name].waiting < 4:
                town.ask({name: 1}, r.randrange(SECOND, 3 * SECOND), "single")
        if second % 10 == 0:
            town.ask(r.choice(CROSSED), r.randrange(SECOND, 3 * SECOND), "several")
        for _ in town.until(T0 + second * SECOND):
            pass
        invariants.check(town.book, town.now)
    worst = max(town.waits("several").values())
    print(f"worst wait {worst / SECOND:.1f} s")
    assert worst <= 70 * SECOND  # patience, and a few holders of each limit one after the other


@pytest.mark.parametrize("closed", [False, True], ids=["held for an hour", "closed"])
@pytest.mark.parametrize("ids", [[1, 2], [2, 1]], ids=["tenant first", "shared first"])
@pytest.mark.parametrize("queued", [False, True], ids=["others try", "others wait"])
def test_a_stuck_tenant_never_costs_others_a_shared_slot(closed: bool, ids: list[int], queued: bool) -> None:
    town = Town({"tenant": 1, "shared": 3}, ids=ids)
    town.ask({"tenant": 1}, 7200 * SECOND, "stuck")
    if closed:
        town.do(PutLimit("", "update", "tenant", limit=0))
    for _ in range(3):
        town.ask({"shared": 1}, SECOND, "other")
    for _ in range(5):
        town.ask({"tenant": 1, "shared": 1}, SECOND, "tenant")
    for second in range(1, 200):
        for _ in town.until(T0 + second * SECOND):
            if not queued:
                lease_id = town.ask({"shared": 1}, SECOND, "other", wait=False)
                assert lease_id in town.granted, f"refused after {second} s, with a slot free"
        while queued and town.book.names["shared"].waiting < 10:
            town.ask({"shared": 1}, SECOND, "other")
    done = sum(name.startswith("other") for name in town.granted)
    assert done >= 3 * 195


def test_the_shared_limit_is_kept_last() -> None:
    """Overtaken for too long, a tenant's waiter keeps its own limit first, the shared one after that."""
    town = Town({"shared": 1, "tenant": 1})
    town.ask({"tenant": 1}, 100 * SECOND, "stuck")
    town.ask({"shared": 1}, SECOND, "other")
    mine = town.ask({"tenant": 1, "shared": 1}, SECOND, "mine")
    for second in range(1, 120):
        while town.book.names["shared"].waiting < 5:
            town.ask({"shared": 1}, SECOND, "other")
        for _ in town.until(T0 + second * SECOND):
            pass
        if second == 60:
            assert town.book.leases[mine].keeps == (limit_id(1), limit_id(0))
            assert not town.book.names["shared"].claims
    assert T0 + 100 * SECOND <= town.granted[mine] <= T0 + 102 * SECOND
