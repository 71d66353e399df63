"""Ending many leases takes several decisions, each of which ends a bounded number."""

import pytest

from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Away, Command, Hello, PutLimit, Refused, Release, Tick
from ebbgate.core.model import SECOND
from ebbgate.testing import invariants
from tests.core.support import T0, limit_id

ENDS_MAX = 10
MANY = 35


class Slices:
    """A book that ends a few leases at a time, and what it has decided."""

    def __init__(self) -> None:
        self.book = Book()
        self.book.ends_max = ENDS_MAX
        self.now = T0
        self.decide(PutLimit("r1", "put", "a", limit_id(1), limit=MANY))
        self.decide(Hello("s", 1), Hello("t", 1))

    def decide(self, *commands: Command) -> list[object]:
        self.now += 1
        decision = self.book.decide(commands, self.now)
        self.book.rollback()
        invariants.check(self.book, self.now)
        again = self.book.decide(commands, self.now)
        assert again.outcomes == decision.outcomes
        assert [(it.kind, it.id) for it in again.changes] == [(it.kind, it.id) for it in decision.changes]
        self.book.confirm(again.head)
        invariants.check(self.book, self.now)
        return list(again.outcomes)

    def acquire(self, session: str, first: int, *, seconds: int = 100) -> None:
        for number in range(first, first + MANY):
            self.decide(Acquire(f"l{number}", session, 1, (("a", 1),), duration_us=seconds * SECOND))

    def of(self, session: str) -> list[str]:
        return sorted(lease.state for lease in self.book.leases.values() if lease.session == session)

    def tick_until_nothing_is_due(self, *, expire: bool, now: int | None = None) -> list[int]:
        """Return how many leases each decision ended."""
        ended: list[int] = []
        self.now = max(self.now, now or 0)
        while 0 <= self.book.next_due(self.now, expire=expire).at_us <= self.now:
            before = sum(lease.state != "ended" for lease in self.book.leases.values())
            self.decide(Tick(expire))
            ended.append(before - sum(lease.state != "ended" for lease in self.book.leases.values()))
        return ended


@pytest.fixture
def slices() -> Slices:
    return Slices()


@pytest.mark.parametrize("expire", [True, False])
def test_a_goodbye_ends_a_bounded_number_of_leases_in_each_decision(slices: Slices, expire: bool) -> None:
    slices.acquire("s", 0)
    slices.decide(Away("s", 1, certain=True))
    assert slices.of("s").count("held") == MANY - ENDS_MAX
    assert slices.tick_until_nothing_is_due(expire=expire) == [10, 10, 5]
    assert "s" not in slices.book.sessions
    assert not slices.book.closing


def test_waiters_of_an_ended_session_leave_first_and_are_granted_nothing(slices: Slices) -> None:
    slices.acquire("s", 0)
    slices.acquire("s", 100)
    slices.decide(Away("s", 1, certain=True))
    while slices.book.closing:
        slices.decide(Tick(expire=True))
        assert "waiting" not in slices.of("s") or slices.of("s").count("held") == MANY
    assert "s" not in slices.book.sessions


def test_what_an_ended_session_was_granted_meanwhile_ends_with_its_waiters(slices: Slices) -> None:
    slices.acquire("t", 0)
    slices.acquire("s", 100)
    slices.decide(Away("s", 1, certain=False))
    slices.decide(Release("l0", "t", 1))
    assert slices.of("s").count("held") == 1
    slices.tick_until_nothing_is_due(expire=True)
    assert not {"held", "waiting"} & set(slices.of("s"))


def test_a_session_that_is_being_ended_acquires_nothing(slices: Slices) -> None:
    slices.acquire("s", 0)
    slices.decide(Away("s", 1, certain=True))
    outcome = slices.decide(Acquire("new", "s", 1, (("a", 1),), duration_us=100 * SECOND))[0]
    assert isinstance(outcome, Refused)
    assert outcome.code == "unknown_session"


def test_a_mass_expiry_ends_a_bounded_number_of_leases_in_each_decision(slices: Slices) -> None:
    slices.acquire("s", 0)
    ended = slices.tick_until_nothing_is_due(expire=True, now=slices.now + 101 * SECOND)
    assert ended == [10, 10, 10, 5]


def test_every_goodbye_of_a_decision_shares_its_bound(slices: Slices) -> None:
    slices.acquire("s", 0)
    slices.decide(Release("l0", "s", 1), Acquire("mine", "t", 1, (("a", 1),), duration_us=100 * SECOND))
    slices.decide(Away("s", 1, certain=True), Away("t", 1, certain=True))
    assert slices.of("t") == ["held"]
    slices.tick_until_nothing_is_due(expire=False)
    assert not slices.book.sessions
