"""What keeps the queue quick does not change what it decides: heaps are swept, groups are tidied."""

import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ebbgate.core import decay
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Release, Tick
from ebbgate.core.grace import Grace
from ebbgate.core.model import SECOND, Meter, Stored
from ebbgate.testing.reference import ReferenceBook, left_outside
from tests.core.support import T0, Desk, all_records, limit_id, seen


def test_waiters_that_leave_from_the_middle_are_swept_out_in_time() -> None:
    desk = Desk()
    desk.limit("a")
    desk.ask("h", "a")
    ids = [f"w{number}" for number in range(100)]
    for lease_id in ids:
        desk.ask(lease_id, "a")
    leaving = ids[1:90]
    random.Random(1).shuffle(leaving)
    for lease_id in leaving:
        desk.release(lease_id)
    (group,) = desk.book.queue.groups.values()
    assert len(group.waiters) < 60
    left = [ids[0], *ids[90:]]
    holder = "h"
    for expected in left:
        (told,) = desk.release(holder).told
        assert told.id == expected
        holder = told.id


def test_heads_that_came_and_went_at_a_closed_limit_leave_nothing_behind() -> None:
    """Clients that try for a while and give up, for hours, do not fill the memory."""
    desk = Desk()
    desk.limit("a", 0)
    desk.limit("b", 0)
    for number in range(300):
        desk.ask(f"l{number}", ["a", "b"])
        desk.release(f"l{number}")
    assert all(len(desk.book.names[name].unmarked) < 100 for name in "ab")


def test_instants_of_decay_that_have_moved_are_swept_out() -> None:
    desk = Desk()
    desk.limit("r", 1000, decay=1.0)
    desk.ask("w0", "r", 1000, spend=True)
    desk.ask("w1", "r", 1000, spend=True)
    for number in range(200):
        desk.limit("r", 1001 + number)
    assert len(desk.book.queue._dues) < 100


def test_how_many_stand_before_a_waiter_is_bounded() -> None:
    desk = Desk()
    desk.limit("a")
    for number in range(4):
        desk.ask(f"l{number}", "a")
    ahead = desk.book.queue.ahead
    assert [ahead(desk.lease(f"l{number}")) for number in (1, 2, 3)] == [0, 1, 2]


def test_a_meter_whose_limit_is_gone_is_ignored() -> None:
    book = Book()
    book.apply(book.head, [Stored("meter", limit_id(1), Meter(limit_id(1), 1, 1, 0, 0))])
    assert not book.lives


def test_what_is_due_next_names_whose_process_should_see_to_it() -> None:
    desk = Desk()
    desk.limit("r", 1, decay=1.0)
    desk.limit("q", 1)
    desk.ask("h", "q", seconds=600)
    desk.ask("s", "r", spend=True)
    desk.ask("w", "r", spend=True)
    desk.ask("v", "q")
    assert desk.book.next_due(desk.now)[:2] == (desk.now + SECOND, "s")
    desk.now += 2 * SECOND
    assert desk.book.next_due(desk.now)[:2] == (desk.now, "s")
    desk.after(0)
    assert desk.book.next_due(desk.now).session == ""


def test_nothing_is_due_when_nothing_waits_for_time() -> None:
    assert Book().next_due(T0).at_us == -1


def test_the_reference_says_who_was_left_outside() -> None:
    """What it says of a book that has taken in a release and has not settled; asking decides nothing."""
    desk = Desk()
    desk.limit("a")
    desk.limit("b")
    for lease_id, names in (("h", ["a"]), ("b", ["b"]), ("w", ["a", "b"]), ("x", ["a"])):
        desk.ask(lease_id, names, seconds=86_400)
    other = Book()
    other.load(desk.book.head, all_records(desk.book))
    decision = desk.book.decide([Release("h", "s", 1)], desk.now)
    desk.book.confirm(decision.head)
    assert desk.state("x") == "held"  # w was overtaken
    overdue_us = desk.now + 30 * SECOND
    waits = left_outside(desk.book, overdue_us)
    assert waits is not None
    assert (waits.id, waits.keeps) == ("w", ())
    assert desk.book.next_due(overdue_us).at_us == overdue_us
    plain = ReferenceBook()
    plain.load(desk.book.head, all_records(desk.book))
    assert plain.next_due(overdue_us).at_us == overdue_us
    fits = left_outside(other, desk.now)
    assert fits is None
    other.apply(other.head, [Stored("lease", "h", None, keep=False)])
    fits = left_outside(other, desk.now)
    assert fits is not None
    assert fits.id == "x"


def test_a_book_may_be_asked_in_the_middle_of_a_decision() -> None:
    desk = Desk()
    desk.limit("a")
    decision = desk.book.decide([Acquire("l", "s", 1, (("a", 1),), 60 * SECOND)], desk.now)
    assert desk.book.next_due(desk.now).at_us == desk.now + 60 * SECOND
    desk.book.rollback()
    assert desk.book.next_due(desk.now).at_us == -1
    assert decision.outcomes


def test_time_never_goes_back_behind_the_last_decision() -> None:
    desk = Desk()
    decision = desk.book.decide([Tick()], desk.now - 5 * SECOND)
    assert decision.head.instant_us == desk.now
    desk.book.confirm(decision.head)


@given(st.fractions(0, 5, max_denominator=60), st.fractions(0, 5, max_denominator=60))
def test_the_simplest_fraction_between_two_is_found(one: Fraction, other: Fraction) -> None:
    low, high = sorted((one, other))
    if low == high:
        return
    found = decay._simplest_between(low, high)
    assert low < found < high
    for denominator in range(1, found.denominator):
        above_low = Fraction(low * denominator // 1 + 1, denominator)
        assert above_low >= high, f"{above_low} is simpler"


def test_nothing_expires_for_a_while_after_a_time_in_which_nobody_could_renew() -> None:
    grace = Grace(30 * SECOND)
    assert grace.is_over(0)
    grace.begin(0)
    assert not grace.is_over(30 * SECOND - 1)
    assert grace.is_over(30 * SECOND)
    grace.failed(40 * SECOND)
    grace.failed(41 * SECOND)
    grace.succeeded(41 * SECOND)
    grace.succeeded(42 * SECOND)
    assert grace.is_over(42 * SECOND)
    grace.failed(50 * SECOND)
    grace.succeeded(51 * SECOND + 1)
    assert not grace.is_over(81 * SECOND)
    assert grace.is_over(81 * SECOND + 1)
    grace.failed(100 * SECOND)
    grace.failed(101 * SECOND)
    assert grace.is_over(101 * SECOND)
    grace.failed(103 * SECOND)
    assert not grace.is_over(133 * SECOND - 1), "what is decided first when it answers again expires nothing"
    assert grace.is_over(133 * SECOND)


def test_a_store_out_of_reach_is_failing_until_it_answers() -> None:
    grace = Grace()
    seen = [grace.is_failing]
    for happens in (grace.failed, grace.failed, grace.succeeded):
        happens(SECOND)
        seen.append(grace.is_failing)
    assert seen == [False, True, True, False]


def test_one_grant_marks_a_bounded_number_of_waiters_as_overtaken() -> None:
    """A thousand tenants whose waiters are stepped over at once do not make one huge commit."""
    desk, plain = Desk(), ReferenceBook()
    desk.limit("shared")
    for number in range(100):
        desk.limit(f"t{number}", 0)
    desk.ask("h0", "shared", seconds=600)
    for number in range(100):
        desk.ask(f"w{number}", ["shared", f"t{number}"])
    for turn in (1, 2, 3):
        desk.ask(f"h{turn}", "shared", seconds=600)
        plain.load(desk.book.head, all_records(desk.book))
        commands = [Release(f"h{turn - 1}", "s", 1)]
        decision = desk.book.decide(commands, desk.now)
        assert seen(plain.decide(commands, desk.now)) == seen(decision)
        assert len(decision.changes) <= 64 + 2
        desk.book.confirm(decision.head)
        overtaken = sum(lease.overtaken_us >= 0 for lease in desk.book.leases.values())
        assert overtaken == min(100, 64 * turn)


def test_the_next_of_a_kind_was_overtaken_as_long_as_the_one_before_it() -> None:
    """Whether that one got in or left; but not if it came only later."""
    for leaves in (False, True):
        desk = Desk()
        desk.limit("a", 2)
        desk.limit("b")
        for lease_id, names in (
            ("h", ["a"]),
            ("g", ["a"]),
            ("b", ["b"]),
            ("w1", ["a", "b"]),
            ("w2", ["a", "b"]),
        ):
            desk.ask(lease_id, names, seconds=600)
        desk.ask("x", "a", seconds=600)
        desk.release("h")
        since_us = desk.lease("w1").overtaken_us
        assert since_us == desk.now
        desk.after(1)
        desk.ask("w3", ["a", "b"])
        if leaves:
            desk.release("w1")
        else:
            desk.release("g")
            desk.release("b")
            assert desk.state("w1") == "held"
        assert desk.lease("w2").overtaken_us == since_us
        desk.release("w2")
        assert desk.lease("w3").overtaken_us == -1
