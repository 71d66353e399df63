"""Every question is answered from one book, in pages that stand still while leases come and go."""

from collections.abc import Mapping
from functools import partial

import msgspec
import pytest

from ebbgate.core.commands import Hello, Refused, Revoke
from ebbgate.core.model import SECOND
from ebbgate.errors import InvalidRequest
from ebbgate.stores.base import Past
from ebbgate.wire.questions import (
    PAGE_MAX,
    Answer,
    ListLeases,
    ListLimits,
    Question,
    ReadLease,
    ReadLimit,
    ReadSizes,
    ReadStatus,
    answer,
)
from ebbgate.wire.shapes import LeaseInfo, LimitInfo, StatusInfo
from tests.core.support import Desk


class Office:
    """A desk at which questions are answered as well; what has ended is known to it, newest first."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.past: list[Past] = []
        self.asked_for_past = 0

    def ask(self, question: Question) -> Answer:
        """Answer a question after it has travelled."""
        travelled = msgspec.json.decode(msgspec.json.encode(question), type=Question)
        assert travelled == question
        return answer(travelled, self.desk.book, self.desk.now, self._recent)

    def _recent(self) -> list[Past]:
        self.asked_for_past += 1
        return self.past

    def end(self, lease_id: str) -> None:
        """End a lease, as an operator does, and forget it."""
        lease = self.desk.lease(lease_id)
        self.desk.decide(Revoke(lease_id))
        self.past.insert(0, Past(lease, self.desk.book.sessions.get(lease.session)))
        self.desk.after(61)
        assert lease_id not in self.desk.book.leases

    def leases(self, question: ListLeases) -> list[str]:
        found = self.ask(question)
        assert isinstance(found, list)
        return [info.id for info in found]


@pytest.fixture
def office() -> Office:
    """Two limits, three sessions; four leases hold, three wait."""
    office = Office()
    desk = office.desk
    desk.limit("api", 3)
    desk.limit("db", 1)
    desk.limit("rate", 5, decay=2.0)
    desk.do(Hello("t", 1, host="there", pid=9, labels={"team": "red"}))
    desk.do(Hello("u", 1, host="away", pid=10))
    ask = partial(desk.ask, seconds=3_600)
    ask("h1", "api")
    ask("h2", "api", session="t")
    ask("h3", "api", labels={"job": "nightly"})
    ask("h4", "db", session="t")
    ask("w1", ["api", "db"])
    ask("w2", "api", session="t")
    ask("w0", "api", session="u", priority=1)
    return office


def is_not_found(found: Answer, code: str) -> bool:
    return isinstance(found, Refused) and found.code == code


def test_a_limit_is_read_by_its_name_and_by_its_id(office: Office) -> None:
    limit = office.ask(ReadLimit("api"))
    assert isinstance(limit, LimitInfo)
    assert (limit.name, limit.limit, limit.active_slots, limit.held_slots, limit.waiting) == (
        "api",
        3,
        3,
        3,
        3,
    )
    assert office.ask(ReadLimit(limit.id)) == limit
    assert office.ask(ReadLimit(limit.id.upper())) == limit


def test_an_unknown_limit_is_refused_with_what_was_perhaps_meant(office: Office) -> None:
    refused = office.ask(ReadLimit("rat"))
    assert isinstance(refused, Refused)
    assert refused == Refused("limit_not_found", {"names": ["rat"], "suggestion": "rate"})
    assert is_not_found(office.ask(ListLeases(limit="nobody")), "limit_not_found")
    assert is_not_found(office.ask(ListLeases(limit="nobody", state="ended")), "limit_not_found")


def test_limits_are_listed_by_name_in_pages(office: Office) -> None:
    for number in range(7):
        office.desk.limit(f"x{number}")
    names: list[str] = []
    while (
        isinstance(page := office.ask(ListLimits(after=names[-1] if names else "", count=3)), list) and page
    ):
        names += [info.name for info in page if isinstance(info, LimitInfo)]
        office.desk.limit(f"a{len(names)}")  # behind the page before: it does not push anybody
    assert names == ["api", "db", "rate", *(f"x{number}" for number in range(7))]
    found = office.ask(ListLimits(prefix="x", after="x2", count=2))
    assert isinstance(found, list)
    assert [info.name for info in found if isinstance(info, LimitInfo)] == ["x3", "x4"]


def test_a_lease_is_read_while_it_holds_waits_and_is_over(office: Office) -> None:
    held, waits = office.ask(ReadLease("h2")), office.ask(ReadLease("w1"))
    assert isinstance(held, LeaseInfo)
    assert isinstance(waits, LeaseInfo)
    assert (held.state, held.holder.host, held.holder.labels, held.position) == (
        "held",
        "there",
        {"team": "red"},
        None,
    )
    assert (waits.state, waits.position, waits.lacks) == ("waiting", 2, ["api", "db"])
    assert waits.blocked_by == ["h1", "h2", "h3", "h4"]
    assert office.asked_for_past == 0
    office.end("h2")
    over = office.ask(ReadLease("h2"))
    assert isinstance(over, LeaseInfo)
    assert (over.state, over.why, over.holder.host) == ("ended", "revoked", "there")
    assert is_not_found(office.ask(ReadLease("nobody")), "lease_not_found")


def test_leases_are_listed_holders_by_arrival_then_waiters_in_their_order(office: Office) -> None:
    everybody = ["h1", "h2", "h3", "h4", "w0", "w1", "w2"]
    assert office.leases(ListLeases()) == everybody
    for count in range(1, 8):
        found: list[str] = []
        while page := office.leases(ListLeases(after=found[-1] if found else "", count=count)):
            found += page
        assert found == everybody


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (ListLeases(limit="db"), ["h4", "w1"]),
        (ListLeases(limit="api", state="held"), ["h1", "h2", "h3"]),
        (ListLeases(limit="api", state="waiting"), ["w0", "w1", "w2"]),
        (ListLeases(holder="t"), ["h2", "h4", "w2"]),
        (ListLeases(holder="there", state="held"), ["h2", "h4"]),
        (ListLeases(holder="red", limit="api"), ["h2", "w2"]),
        (ListLeases(holder="nightly"), ["h3"]),
        (ListLeases(holder="nobody"), []),
        (ListLeases(holder="t", after="h2", count=1), ["h4"]),
        (ListLeases(holder="t", after="h4"), ["w2"]),
        (ListLeases(state="held", after="w0"), []),
        (ListLeases(state="waiting", after="h2"), ["w0", "w1", "w2"]),
        (ListLeases(after="nobody"), []),
    ],
    ids=repr,
)
def test_leases_are_listed_by_limit_state_and_holder(
    office: Office, question: ListLeases, expected: list[str]
) -> None:
    assert office.leases(question) == expected


def test_a_page_goes_on_where_the_last_one_ended_though_others_came_and_went(office: Office) -> None:
    assert office.leases(ListLeases(state="waiting", count=2)) == ["w0", "w1"]
    office.desk.ask("w3", "api")
    office.desk.ask("first", "api", priority=5)
    office.desk.release("w0", "u")
    assert office.leases(ListLeases(state="waiting", after="w1", count=2)) == ["w2", "w3"]


def test_what_is_over_is_listed_newest_first_in_pages(office: Office) -> None:
    for name in ("h1", "h2", "w2", "h4"):
        office.end(name)
    ended = ["h4", "w2", "h2", "h1"]
    assert office.leases(ListLeases(state="ended")) == ended
    assert office.leases(ListLeases(state="ended", after="w2", count=1)) == ["h2"]
    assert office.leases(ListLeases(state="ended", holder="t")) == ["h4", "w2", "h2"]
    assert office.leases(ListLeases(state="ended", limit="db")) == ["h4"]
    assert office.leases(ListLeases(state="ended", after="h1")) == []


def test_sizes_are_those_of_active_limits(office: Office) -> None:
    office.desk.limit("off", 9, active=False)
    sizes = office.ask(ReadSizes(["api", "off", "nobody", "db"]))
    assert isinstance(sizes, Mapping)
    assert sizes == {"api": 3, "db": 1}


def test_the_status_counts_everything_once(office: Office) -> None:
    office.desk.release("w2", "t")  # from behind others of its kind
    status = office.ask(ReadStatus())
    assert isinstance(status, StatusInfo)
    assert (status.limits, status.held, status.waiting, status.sessions, status.away) == (3, 4, 2, 3, 0)


@pytest.mark.parametrize("count", [0, -1, PAGE_MAX + 1])
def test_a_page_has_a_bounded_size(office: Office, count: int) -> None:
    for question in (
        ListLimits(count=count),
        ListLeases(count=count),
        ListLeases(state="ended", count=count),
    ):
        with pytest.raises(InvalidRequest, match="page"):
            office.ask(question)


def test_a_state_is_one_of_three(office: Office) -> None:
    with pytest.raises(InvalidRequest, match="state"):
        office.ask(ListLeases(state="gone"))


def test_an_estimate_is_shown_in_seconds(office: Office) -> None:
    office.desk.ask("s", "rate", 5, spend=True)
    office.desk.ask("w", "rate", 3, spend=True)
    info = office.ask(ReadLease("w"))
    assert isinstance(info, LeaseInfo)
    assert info.estimate_seconds == 3 / 2
    office.desk.now += SECOND
    later = office.ask(ReadLease("w"))
    assert isinstance(later, LeaseInfo)
    assert later.estimate_seconds == 1 / 2
