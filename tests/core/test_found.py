"""Laws that the first version of the core broke; each was found here before it was mended."""

from dataclasses import replace

import pytest

from ebbgate.core.book import Book
from ebbgate.core.commands import (
    Away,
    DeleteLimit,
    Hello,
    PutLimit,
    Refused,
    Release,
    Renew,
    Revoke,
    Tick,
    wanted,
)
from ebbgate.core.model import SECOND, Settings, Stored
from ebbgate.errors import InvalidRequest
from tests.core.support import Desk, all_records, changes_of, copied, limit_id

PATIENCE = 30


def crossed() -> Desk:
    """A desk with limits a and b, both full."""
    desk = Desk()
    desk.limit("a")
    desk.limit("b")
    desk.ask("a0", "a", seconds=86_400)
    desk.ask("b0", "b", seconds=86_400)
    return desk


def test_every_held_lease_expires_however_many_came_and_went_before() -> None:
    """The heap of expiries is made anew now and then; the lease that causes it must be in it."""
    desk = Desk()
    desk.limit("a", 2)
    for number in range(600):
        lease_id = f"l{number}"
        desk.ask(lease_id, "a")
        expiry = (desk.lease(lease_id).expires_us, lease_id)
        assert expiry in desk.book.expiries
        desk.release(lease_id)


def test_a_record_is_named_once_in_a_commit_even_if_it_changes_and_is_forgotten() -> None:
    desk = Desk()
    desk.limit("a")
    desk.ask("l", "a", seconds=60)
    desk.after(60)
    desk.now += 60 * SECOND
    decision = desk.decide(Release("l", "s", 1))
    assert changes_of(decision) == {("lease", "l"): (False, changes_of(decision)["lease", "l"][1])}  # type: ignore[index]


def test_what_ended_is_forgotten_in_one_order_whoever_decides() -> None:
    """A book that has read everything anew forgets the same records at the same time."""
    desk = Desk()
    desk.limit("a", 5)
    for number in range(100):
        desk.now += 1
        desk.ask(f"l{number}", "a")
        desk.release(f"l{number}")
    desk.limit("b")
    other = Book()
    other.load(desk.book.head, all_records(desk.book))
    desk.now += 3600 * SECOND
    one, two = desk.book.decide([], desk.now), other.decide([], desk.now)
    assert changes_of(one) == changes_of(two)


def test_a_decision_that_is_undone_leaves_everybody_in_order() -> None:
    """Two of one kind leave and it is undone: the first is again before one that came between."""
    desk = Desk()
    desk.limit("a", 2)
    desk.limit("b", 9)
    desk.ask("h", "a", 2)
    desk.ask("w1", ["a", "b"])
    desk.ask("w2", "a")
    desk.ask("w3", ["a", "b"])
    desk.limit("a", 3)
    desk.limit("a", 2)
    desk.book.decide([Release("h", "s", 1), Release("w1", "s", 1), Release("w2", "s", 1)], desk.now)
    desk.book.rollback()
    desk.decide(PutLimit("x", "update", "a", limit=3))
    assert desk.state("w1") == "held"


def test_asking_what_is_due_does_not_make_a_patient_waiter_miss_its_turn() -> None:
    desk = crossed()
    desk.limit("a", 2)
    desk.ask("a1", "a", seconds=86_400)
    desk.ask("w", ["a", "b"])
    desk.release("a1")
    desk.release("b0")
    assert desk.state("w") == "held"


def test_a_waiter_forgets_that_it_keeps_slots_of_a_limit_that_is_deleted() -> None:
    desk = crossed()
    desk.limit("c")
    desk.ask("c0", "c", seconds=86_400)
    desk.ask("w", ["a", "b", "c"])
    desk.ask("a1", "a", seconds=86_400)
    desk.release("a0")
    assert desk.lease("w").overtaken_us >= 0
    desk.after(2 * PATIENCE + 1)
    assert desk.lease("w").keeps
    desk.decide(DeleteLimit("a", force=True))
    desk.decide(DeleteLimit("b", force=True))
    desk.release("c0")
    assert desk.state("w") == "held"


def test_a_patient_waiter_gathers_the_slots_of_a_limit_one_by_one() -> None:
    """It wants two of a, of which never two are free at once, and b, which is never free when it looks."""
    desk = Desk()
    desk.limit("a", 2)
    desk.limit("b", 1)
    desk.ask("a0", "a", seconds=86_400)
    desk.ask("a1", "a", seconds=86_400)
    desk.ask("b0", "b", seconds=86_400)
    desk.ask("w", {"a": 2, "b": 1})
    for number in range(2, 200):
        desk.now += SECOND
        desk.ask(f"a{number}", "a", seconds=86_400)
        desk.ask(f"b{number - 1}", "b", seconds=86_400)
        held = [lease.id for lease in desk.book.leases.values() if lease.state == "held"]
        if "w" in held:
            return
        desk.release(next(i for i in held if i.startswith("a")))
        held_b = [i for i in held if i.startswith("b")]
        if held_b:
            desk.release(held_b[0])
    raise AssertionError("starved")


def test_a_closed_limit_never_idles_another() -> None:
    """A waiter for a closed limit and a busy one keeps no slot of the busy one, however long it waits."""
    for shared, tenant in (("a", "b"), ("b", "a")):
        desk = crossed()
        desk.limit(tenant, 0)
        desk.ask("w", ["a", "b"])
        for number in range(1, 200):
            desk.now += SECOND
            desk.ask(f"{shared}{number}", shared, seconds=86_400)
            desk.release(f"{shared}{number - 1}")
            assert desk.state(f"{shared}{number}") == "held"


def test_certainty_is_not_lost_by_a_later_guess() -> None:
    """A process known to be dead stays dead when a stream of it is missed as well."""
    desk = Desk()
    desk.limit("a")
    desk.ask("l", "a")
    desk.decide(Away("s", 1, certain=True, grace_us=10 * SECOND))
    desk.decide(Away("s", 1, certain=False, grace_us=5 * SECOND))
    desk.after(10)
    assert desk.state("l") == "ended lost_holder"


def test_a_session_that_is_gone_is_forgotten_with_its_last_lease_whatever_ended_it() -> None:
    desk = Desk()
    desk.limit("a", 3)
    for lease_id in ("l", "m"):
        desk.ask(lease_id, "a")
    desk.decide(Away("s", 1, certain=False))
    desk.decide(Revoke("l"))
    assert "s" in desk.book.sessions
    desk.release("m")
    assert "s" not in desk.book.sessions


def test_nobody_is_missed_in_a_time_in_which_nobody_could_ask() -> None:
    """Within the recovery grace neither an unattended waiter nor an absent session is given up."""
    desk = Desk()
    desk.limit("a")
    desk.ask("h", "a")
    desk.ask("w", "a", attended=False)
    desk.decide(Hello("t", 1))
    desk.ask("v", "a", session="t")
    desk.decide(Away("t", 1, certain=True, grace_us=10 * SECOND))
    desk.after(3600, Tick(expire=False))
    assert [desk.state(i) for i in "hwv"] == ["held", "waiting", "waiting"]
    assert isinstance(desk.do(Hello("t", 2)), object)
    desk.after(0, Tick())
    assert [desk.state(i) for i in "hwv"] == ["ended expired", "ended cancelled", "held"]


def test_a_lease_of_another_arrival_is_another_lease() -> None:
    """An id that was forgotten and used again elsewhere comes in as one row: nothing of the old one stays."""
    desk = Desk(Settings())
    desk.limit("a")
    desk.ask("l", "a", priority=3)
    desk.release("l")
    record = copied(desk.lease("l"))
    new = replace(
        record, arrival=9, priority=0, state="waiting", why="", ended_us=-1, token=-1, expires_us=-1
    )  # type: ignore[type-var]
    desk.book.apply(desk.book.head._replace(arrival=9), [Stored("lease", "l", new)])
    assert (desk.lease("l").arrival, desk.lease("l").priority) == (9, 0)


def test_rows_may_come_in_any_order_within_what_is_taken_in() -> None:
    """A lease may be named before its limit, which was changed later."""
    desk = Desk()
    desk.limit("a")
    desk.ask("l", "a")
    fresh = Book()
    fresh.apply(desk.book.head, all_records(desk.book))
    assert fresh.leases["l"].state == "held"


def test_a_retaken_lease_is_not_missed_for_what_was_never_fetched() -> None:
    desk = crossed()
    desk.decide(Hello("t", 1))
    desk.ask("w", "a", session="t", attended=False)
    desk.release("a0")
    desk.decide(Away("t", 1, certain=True))
    assert desk.state("w") == "ended lost_holder"
    desk.decide(Hello("t", 2))
    desk.do(Renew("w", "t", 2, 300 * SECOND))
    assert desk.state("w") == "held"
    desk.after(20)
    assert desk.state("w") == "held"


def test_what_a_waiter_kept_does_not_hide_room_from_the_next_of_its_kind() -> None:
    desk = crossed()
    desk.ask("w1", ["a", "b"])
    desk.ask("w2", ["a", "b"])
    desk.ask("a1", "a", seconds=86_400)
    desk.release("a0")
    desk.after(PATIENCE)
    desk.release("a1")
    assert [claim[1] for claim in desk.book.names["a"].claims] == [1]
    desk.release("w1")
    desk.release("b0")
    assert desk.state("w2") == "held"


def test_a_limit_is_found_however_its_name_or_id_is_written() -> None:
    desk = Desk()
    desk.limit("\u00e9")
    for written in (
        "\u00e9",
        "e\u0301",
        limit_id(1),
        limit_id(1).replace("-", ""),
        f"urn:uuid:{limit_id(1)}",
    ):
        assert not isinstance(desk.do(PutLimit("", "update", written, limit=2)), Refused)
    assert not isinstance(desk.do(DeleteLimit("e\u0301")), Refused)


def test_a_name_written_in_two_ways_with_different_slots_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        wanted({"\u00e9": 1, "e\u0301": 2})
