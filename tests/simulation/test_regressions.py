"""What the simulation found. Each bug is kept twice: as the seed that showed it, and as the law it broke.

A seed shows its bug only in the world it was found in; the laws stay when the simulation changes.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import pytest

from ebbgate.client.lease import Lease
from ebbgate.client.remote.desk import Asked, Desk
from ebbgate.client.renewal import Upkeep
from ebbgate.client.waiting import Waiter
from ebbgate.core.book import Book
from ebbgate.core.commands import (
    Acquire,
    Away,
    DeleteLimit,
    Ended,
    Held,
    Hello,
    PutLimit,
    Release,
    Revoke,
    Tick,
    Waiting,
)
from ebbgate.core.model import SECOND, Stored
from ebbgate.engine.engine import Engine, StoreCall
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Conflict
from ebbgate.stores.network_clock import NetworkClock
from ebbgate.testing import invariants
from ebbgate.testing.simulated.run import Run
from ebbgate.testing.simulated.store import SimulatedStore
from ebbgate.wire.stream import AcquireItem, Down, HeldItem, WaitingItem

T = TypeVar("T")

T0 = 1_700_000_000_000_000

SEEDS = [
    (3, 2_000, "a server spun through its recovery grace"),
    (1032, 5_000, "a renewal under way while the block was left told of a loss"),
    (1061, 5_000, "what had come due was forgotten when the store's clock stepped back"),
    (6031, 3_000, "a waiter was told that it waits when it had been let in long ago"),
    (30050, 4_000, "a long lease ended when the store's clock ran ahead, before its renewal was due"),
    (
        40110,
        2_500,
        "a waiter that was told and answered at once counted its lease from when it had asked first",
    ),
    (40260, 2_500, "clients that a stopping server had asked to go were taken for dead"),
    (6031, 3_000, "a lease that waited again, since the store had lost its tail, stopped all renewals"),
    (3, 2_000, "a session with connections to two servers was away when one of them broke"),
    (1073, 5_000, "who inherited a patience that was over was not looked at"),
    (1039417331032, 2_500, "a step of the store's clock aged what was remembered of a released lease"),
]


@pytest.mark.parametrize(("seed", "steps", "bug"), SEEDS)
def test_a_seed_that_failed_once_does_not_fail_again(seed: int, steps: int, bug: str) -> None:
    result = Run(seed).run(steps)
    assert not result.failures, f"again: {bug}"


def book_of(limits: dict[str, int]) -> Book:
    """A book with these limits, which have their names as ids, and a session "s"."""
    book = Book()
    commands = [PutLimit("", "create", name, name, None, slots) for name, slots in limits.items()]
    decide(book, T0, Hello("s", 1), *commands)
    return book


def decide(book: Book, now_us: int, *commands: object) -> list[object]:
    decision = book.decide(commands, now_us)  # type: ignore[arg-type]  # commands, as the tests below give them
    invariants.check(book, book.now_us)
    book.confirm(decision.head)
    return list(decision.outcomes)


def ask(lease: str, *names: str, priority: int = 0) -> Acquire:
    slots = tuple((name, 1) for name in sorted(names))
    return Acquire(lease, "s", 1, slots, 60 * SECOND, priority=priority)


def test_within_the_grace_nothing_is_planned_that_a_tick_would_not_do() -> None:
    book = book_of({"a": 1})
    decide(book, T0, ask("l", "a"), Away("s", 1, certain=True, grace_us=SECOND))
    decide(book, T0 + 5 * SECOND, Tick(expire=False))
    assert book.next_due(T0 + 5 * SECOND, expire=False).at_us == -1
    assert book.next_due(T0 + 5 * SECOND).at_us == T0 + SECOND


def test_a_decider_that_stalled_after_it_looked_expires_nothing_that_came_due_since() -> None:
    book = book_of({"a": 1})
    decide(book, T0, ask("l", "a"))
    looked_us, now_us = T0 + 59 * SECOND, T0 + 70 * SECOND
    states = []
    for until_us in (looked_us, now_us):
        decide(book, now_us, Tick(until_us=until_us))
        states.append(book.leases["l"].state)
    assert states == ["held", "ended"]


def test_what_came_due_before_the_clock_stepped_back_stays_due() -> None:
    book = book_of({"a": 1, "b": 1})
    decide(book, T0, ask("a0", "a"), ask("b0", "b"), ask("w", "a", "b"))
    decide(book, T0, Release("a0", "s", 1), ask("a1", "a"))  # w is overtaken
    late = T0 + 31 * SECOND
    assert book.next_due(late).at_us == late
    decide(book, T0 + 10 * SECOND, Tick())
    decide(book, late + SECOND, Tick())
    assert book.leases["w"].keeps


def test_an_heir_whose_patience_is_over_already_keeps_its_slots_at_once() -> None:
    book = book_of({"a": 1, "b": 1, "c": 1})
    decide(book, T0, ask("a0", "a"), ask("b0", "b"), ask("c0", "c"))
    decide(book, T0, ask("first", "a", "b"), ask("second", "a", "b", "c"))
    decide(book, T0, Release("c0", "s", 1), ask("c1", "c"))  # second is overtaken
    decide(book, T0 + SECOND, DeleteLimit("c", force=True))  # now it stands behind first, in one group
    decide(book, T0 + 40 * SECOND, Revoke("second"))
    assert book.leases["first"].keeps


def test_an_edit_always_shows_even_when_time_stands_still() -> None:
    book = book_of({"a": 1})
    decide(book, T0, PutLimit("", "update", "a", limit=2))
    assert book.limits["a"].updated_us > book.limits["a"].created_us


def test_a_lease_whose_block_was_left_while_it_was_renewed_is_not_lost() -> None:
    lost: list[Lease] = []
    held = Held("l", 1, T0, T0 + 60 * SECOND, 1, protected=True)
    lease = Lease(
        held,
        ("a",),
        60 * SECOND,
        session="s",
        clock=lambda: 0,
        sent_us=0,
        waited_us=0,
        on_loss=lost.append,
        retake=True,
    )
    holding = {"l": lease}
    upkeep = Upkeep(holding, lambda low, high: low + high)
    due = upkeep.due(30 * SECOND)
    del holding["l"]
    upkeep.renewed(due, [Ended("l", "released", T0, 1)], 30 * SECOND)
    assert due == [lease]
    assert not lost


def test_a_lease_that_waits_again_since_the_store_lost_its_tail_is_lost_and_the_others_are_renewed() -> None:
    lost: list[str] = []
    holding = {
        name: Lease(
            Held(name, 1, T0, T0 + 60 * SECOND, 1, protected=True), ("a",), 60 * SECOND, session="s",
            clock=lambda: 30 * SECOND, sent_us=0, waited_us=0, on_loss=lambda lease: lost.append(lease.id), retake=True,
        )
        for name in ("l", "m")
    }  # fmt: skip
    upkeep = Upkeep(holding, lambda low, high: low + high)
    due = upkeep.due(30 * SECOND)
    renewed = Held("m", 1, T0, T0 + 90 * SECOND, 2, protected=True)
    upkeep.renewed(due, [Waiting("l", 1), renewed], 30 * SECOND)
    assert lost == ["l"]
    assert holding["m"].renewed_us == 30 * SECOND
    assert upkeep.due(30 * SECOND) == []


def test_a_grant_that_is_told_and_answered_at_once_counts_from_when_it_was_made() -> None:
    """Who waits is resumed a moment after it was told; the answer to its last question may come in between."""
    now_us = [0]
    desk, waiter = Desk("s", lambda: now_us[0]), Waiter("l")
    desk.connected(1)
    item = AcquireItem(desk.number(), "l", (("a", 1),), 60 * SECOND)
    desk.ask(Asked(item, waiter))

    def numbers() -> list[int]:
        return [sent.number for sent in desk.sending()]

    def hear(*items: Down) -> None:
        now_us[0] += 1_000
        desk.received([(T0 + now_us[0], list(items))])

    (asked,) = numbers()
    hear(WaitingItem(asked, "l", 1))
    now_us[0] = 100 * SECOND
    assert not desk.look()
    (again,) = numbers()
    hear(WaitingItem(again, "l", 1))
    now_us[0] += 15 * SECOND
    assert not desk.look()
    (last,) = numbers()
    granted = (T0 + now_us[0], T0 + now_us[0] + 60 * SECOND, 1, True)
    hear(HeldItem(0, "l", 7, *granted), HeldItem(last, "l", 7, *granted))
    assert waiter.outcome == Held("l", 7, *granted)
    assert desk.counted_from("l", started_us=0) > 114 * SECOND


def test_a_lease_of_no_slots_that_cannot_be_renewed_does_not_keep_the_renewer_busy() -> None:
    now_us = 100 * SECOND
    held = Held("l", 1, T0, T0 + 60 * SECOND, 1, protected=False)
    lease = Lease(
        held, ("a",), 60 * SECOND, session="s", clock=lambda: now_us, sent_us=0, waited_us=0, on_loss=print, retake=True
    )  # fmt: skip
    upkeep = Upkeep({"l": lease}, lambda low, high: (low + high) / 2)
    assert upkeep.due(now_us) == [lease]
    assert upkeep.next_us(now_us) > now_us + SECOND // 2


def test_a_late_duplicate_of_a_released_lease_is_not_granted_though_the_stores_clock_stepped() -> None:
    """A stopped server had the duplicate unread; meanwhile the clock stepped by an hour, and another server ran."""
    machine_us, step_us = SECOND, 0
    clock = NetworkClock(lambda: machine_us)

    def now_us() -> int:
        clock.measured(machine_us, T0 + machine_us + step_us)
        return clock.now_us()

    book = book_of({"a": 1})
    asked = ask("l", "a")
    assert isinstance(decide(book, now_us(), asked)[0], Held)
    decide(book, now_us(), Release("l", "s", 1))
    step_us = 3_600 * SECOND
    machine_us += 8 * SECOND
    for number in range(3):  # whatever would forget the ended lease
        decide(book, now_us(), ask(f"other{number}", "a"), Release(f"other{number}", "s", 1))
    machine_us += 6 * SECOND
    assert isinstance(decide(book, now_us(), asked)[0], Ended)


class Lossy:
    """A store whose answers can be lost: what was asked is done, and the asker learns nothing."""

    def __init__(self) -> None:
        self.store = SimulatedStore()
        self.lost = 0  # so many answers to come

    def run(self, steps: Generator[StoreCall, Any, T]) -> T:
        call = next(steps)
        while True:
            try:
                if call.method == "clock":
                    call = steps.send(T0)
                    continue
                reply = getattr(self.store, call.method)(*call.arguments)
            except Conflict as error:
                reply = error
            if self.lost:
                self.lost -= 1
                reply = StoreUnavailable("the answer was lost")
            try:
                call = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # what the generator returns


def engine_on(lossy: Lossy, took_in: list[str]) -> Engine:
    def note(stored: Sequence[Stored] | None) -> None:
        took_in.extend(entry.id for entry in stored or ())

    tags = count()
    name = str(id(took_in))
    engine = Engine(Book(), new_tag=lambda: f"{name}-{next(tags)}", took_in=note)
    lossy.run(engine.refresh())
    return engine


def test_who_was_queued_by_a_commit_whose_answer_was_lost_hears_of_its_grant() -> None:
    lossy = Lossy()
    mine, others = engine_on(lossy, []), engine_on(lossy, [])
    create = PutLimit("", "create", "a", "a", None, 1)
    lossy.run(mine.carry_out([Hello("s", 1, remembers="nothing"), create, ask("first", "a")]))
    waits = ask("second", "a")
    lossy.lost = 2  # those of the commit, and of the question what became of it
    with pytest.raises(StoreUnavailable):
        lossy.run(mine.carry_out([waits]))
    lossy.run(others.refresh())
    lossy.run(others.carry_out([Release("first", "s", 1)]))
    (outcome,) = lossy.run(mine.carry_out([waits])).outcomes
    assert isinstance(outcome, Held)


def test_who_was_let_in_by_a_commit_whose_answer_was_lost_hears_of_it() -> None:
    lossy, took_in = Lossy(), list[str]()
    mine = engine_on(lossy, took_in)
    create = PutLimit("", "create", "a", "a", None, 1)
    lossy.run(mine.carry_out([Hello("s", 1), create, ask("first", "a"), ask("second", "a")]))
    lossy.lost = 2
    with pytest.raises(StoreUnavailable):
        lossy.run(mine.carry_out([Release("first", "s", 1)]))
    lossy.run(mine.refresh())
    assert "second" in took_in


def test_a_spend_whose_answer_was_lost_is_not_spent_twice() -> None:
    lossy = Lossy()
    mine = engine_on(lossy, [])
    create = PutLimit("", "create", "a", "a", None, 2, 1.0)
    lossy.run(mine.carry_out([Hello("s", 1, remembers="nothing"), create]))
    spend = replace(ask("first", "a"), spend=True, wait=False)
    lossy.lost = 2
    with pytest.raises(StoreUnavailable):
        lossy.run(mine.carry_out([spend]))
    (first,) = lossy.run(mine.carry_out([spend])).outcomes
    (second,) = lossy.run(mine.carry_out([replace(spend, id="second")])).outcomes
    assert isinstance(first, Held)
    assert isinstance(second, Held)


def test_whoever_is_hurried_renews_leases_that_were_not_due() -> None:
    """A store's clock that ran ahead may end a long lease before its renewal is due: its client is hurried."""
    held = Held("l", 1, T0, T0 + 300 * SECOND, 1, protected=True)
    lease = Lease(
        held,
        ("a",),
        300 * SECOND,
        session="s",
        clock=lambda: SECOND,
        sent_us=0,
        waited_us=0,
        on_loss=print,
        retake=True,
    )
    upkeep = Upkeep({"l": lease}, lambda low, high: low + high)
    assert not upkeep.due(SECOND)
    upkeep.hurry(SECOND)
    assert upkeep.due(SECOND) == [lease]
    upkeep.renewed([lease], [held], SECOND)
    assert not upkeep.due(2 * SECOND)
