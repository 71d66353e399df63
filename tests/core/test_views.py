"""What people are shown is what the book decides by."""

import random

import pytest

from ebbgate.core import line, live, views
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Hello, Release, Revoke
from ebbgate.core.model import SECOND, Settings
from ebbgate.testing import invariants
from tests.core import plain_views
from tests.core.support import REMEMBERS, Desk, Dice, World, all_records, limit_id, run_history


def test_active_slots_are_those_held_and_those_spent_rounded_up() -> None:
    desk = Desk()
    desk.limit("r", 5, decay=1.0)
    desk.ask("h", "r")
    desk.ask("s", "r", 2, spend=True)
    desk.ask("w", "r", 4)
    desk.now += SECOND // 2
    view = views.limit(desk.book, desk.now, "r")
    assert view is not None
    assert (view.held, view.spent, view.active, view.waiting) == (1, 1.5, 3, 1)


def test_a_limit_tells_since_when_somebody_waits_and_how_many_got_in() -> None:
    desk = Desk()
    desk.limit("db", 1)
    desk.limit("api", 5, decay=1.0)

    def seen(name: str) -> tuple[int, int]:
        view = views.limit(desk.book, desk.now, name)
        assert view is not None
        return view.granted, view.waiting_since_us

    assert seen("db") == (0, -1)
    desk.ask("h", "db")
    desk.ask("s", ["api"], spend=True)
    desk.now += SECOND
    first = desk.now
    desk.ask("w", "db", priority=-1)
    desk.now += SECOND
    desk.ask("x", {"db": 1, "api": 1})
    assert (seen("db"), seen("api")) == ((1, first), (1, first + SECOND))
    desk.release("h")
    assert (seen("db"), seen("api")) == ((2, first), (2, -1))


def test_a_decision_that_is_undone_has_let_in_nobody_and_a_grant_of_others_counts_once() -> None:
    desk = Desk()
    desk.limit("db", 2)
    other = Book()
    other.load(desk.book.head, all_records(desk.book))
    desk.ask("h", "db")
    desk.book.decide([Acquire("i", "s", 1, (("db", 1),), 300 * SECOND)], desk.now)
    desk.book.rollback()
    assert desk.book.names["db"].granted == 1
    stored = [entry for entry in all_records(desk.book) if entry.kind in {"session", "lease"}]
    other.apply(desk.book.head, stored)
    other.apply(desk.book.head, [*stored, *stored])
    assert other.names["db"].granted == 1


def test_limits_are_listed_by_name_and_found_by_name_or_id() -> None:
    desk = Desk()
    for name in ("db/x".replace("/", "-"), "api", "db-y"):
        desk.limit(name)
    assert [view.limit.name for view in views.limits(desk.book, desk.now, prefix="db")] == ["db-x", "db-y"]
    assert views.limit(desk.book, desk.now, limit_id(2)) == views.limit(desk.book, desk.now, "api")
    assert views.limit(desk.book, desk.now, "nobody") is None
    assert views.near_miss_of(desk.book, "db-z") in {"db-x", "db-y"}


def test_leases_are_listed_with_their_holder_and_why_they_wait() -> None:
    desk = Desk()
    desk.limit("a", 2)
    desk.limit("b")
    desk.ask("h", ["a", "b"])
    desk.ask("low", {"a": 2}, priority=-1)
    desk.ask("w", {"a": 2, "b": 1})
    desk.ask("x", {"a": 2})
    desk.ask("gone", {"a": 2})
    desk.release("gone")
    desk.ask("y", {"a": 2})
    shown = views.leases(desk.book, desk.now)
    assert [view.lease.id for view in shown] == ["h", "w", "x", "y", "low"]
    assert [view.lease.id for view in views.leases(desk.book, desk.now, limit_id=limit_id(2))] == ["h", "w"]
    assert [view.lease.id for view in views.leases(desk.book, desk.now, state="held")] == ["h"]
    held, waits, behind, last = shown[:4]
    assert (held.wait, held.names) == (None, (("a", 1), ("b", 1)))
    assert held.session is not None
    assert waits.wait == views.WaitView(1, ("a", "b"), ("h",), None)
    assert behind.wait is not None
    assert last.wait is not None
    assert (behind.wait.position, last.wait.position) == (2, 3)


def test_a_waiting_spend_is_told_when_it_gets_in() -> None:
    desk = Desk()
    desk.limit("r", 2, decay=2.0)
    desk.ask("s", "r", 2, spend=True)
    for number in range(4):
        desk.ask(f"w{number}", "r", spend=True)
    for number in range(4):
        view = views.lease_view(desk.book, desk.now, desk.lease(f"w{number}"))
        assert view.wait is not None
        assert view.wait.estimate_us == (number + 1) * SECOND // 2
    desk.limit("r", 0)
    assert views.wait_view(desk.book, desk.now, desk.lease("w0")).estimate_us is None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let orders be kept, split and given up already for a few."""
    monkeypatch.setattr(live, "FEW", 0)
    monkeypatch.setattr(live, "UNASKED_MAX", 6)
    monkeypatch.setattr(line, "CHUNK", 3)


@pytest.mark.parametrize("patience", [2, 1_000_000])
def test_what_is_shown_is_what_looking_at_everybody_finds(patience: int, small: None) -> None:
    """In random histories with several books, undone decisions, and books that are not looked at for long."""
    for seed in range(12):
        chance = random.Random(seed)

        def look(world: World, chance: random.Random = chance) -> None:
            if chance.random() < 0.4:
                book = chance.choice(world.books)
                plain_views.check(book, world.now)
                invariants.check(book, world.now)

        run_history(seed, 60, Settings(patience_us=patience * SECOND), look)


def test_keys_stand_in_order_whatever_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "CHUNK", 4)
    chance = random.Random(5)
    keys: set[tuple[int, int]] = set()
    ordered = line.Line(keys)
    for _ in range(3_000):
        key = (chance.randint(-1, 1), chance.randint(0, 60))
        if key in keys:
            keys.remove(key)
            ordered.remove(key)
        elif len(keys) < 80:
            keys.add(key)
            ordered.add(key)
        if chance.random() < 0.02:
            for gone in sorted(keys, reverse=chance.random() < 0.5)[: chance.choice((5, 80))]:
                keys.remove(gone)
                ordered.remove(gone)
        assert ordered.first() == sorted(keys)
        assert ordered.first(7) == sorted(keys)[:7]
        assert ordered.before(key) == sum(other < key for other in keys)
    with pytest.raises((AssertionError, IndexError)):
        ordered.remove((9, 9))


def test_a_waiter_behind_others_of_its_kind_is_shown_at_once_when_those_left_from_the_middle() -> None:
    desk = Desk()
    desk.limit("a")
    for name in ("h", "w1", "w2", "w3", "w4"):
        desk.ask(name, "a")
    desk.release("w2")
    desk.release("w3")
    first = views.leases(desk.book, desk.now, state="waiting", count=1)
    assert [view.lease.id for view in first] == ["w1"]
    rest = views.leases(desk.book, desk.now, state="waiting", after="w1", count=1)
    assert [view.lease.id for view in rest] == ["w4"]
    desk.release("w4")
    assert not views.leases(desk.book, desk.now, state="waiting", after="w1", count=1)
    assert not views.leases(desk.book, desk.now, after="nobody")


def test_a_page_goes_on_behind_a_lease_that_has_ended_since() -> None:
    desk = Desk()
    desk.limit("a", 2)
    for name in ("h1", "h2", "w1", "w2"):
        desk.ask(name, "a")
    desk.decide(Revoke("h1"))
    assert desk.state("w1") == "held"
    assert [view.lease.id for view in views.leases(desk.book, desk.now, after="h1")] == ["h2", "w1", "w2"]
    desk.decide(Revoke("w2"))
    assert not views.leases(desk.book, desk.now, after="w2")


def test_a_page_goes_on_behind_a_lease_that_nobody_remembers() -> None:
    """Who pages through thousands while they come and go must not miss the rest for one that has left."""
    desk = Desk()
    desk.limit("a", 2)
    for name in ("h1", "h2", "w1", "w2"):
        desk.ask(name, "a")
    places = {
        view.lease.id: views.place_named(view.lease.state, view.lease.priority, view.lease.arrival)
        for view in views.leases(desk.book, desk.now)
    }
    for name in ("h1", "w1"):
        del desk.book.leases[name]
    assert [view.lease.id for view in views.leases(desk.book, desk.now, after=places["w1"])] == ["w2"]
    for nonsense in ("at:0:0:", "at:2:0:1", "at:0:0:" + "9" * 30, "nobody"):
        assert not views.leases(desk.book, desk.now, after=nonsense)


def test_it_takes_as_long_as_it_took_those_before_once_enough_were_let_in() -> None:
    """Held slots come back when their holders please: there is no estimate before it was seen how they go on."""
    desk = Desk()
    desk.limit("a")
    names = [f"l{number}" for number in range(200)]
    for name in names:
        desk.ask(name, "a")
    last = desk.lease(names[-1])
    for number in range(live.PACE_MIN):
        assert views.wait_view(desk.book, desk.now, last).estimate_us is None
        desk.after(2, Release(names[number], "s", 1))
    assert views.wait_view(desk.book, desk.now, last).estimate_us is None
    desk.after(2, Release(names[live.PACE_MIN], "s", 1))
    view = views.wait_view(desk.book, desk.now, last)
    assert view.estimate_us == view.position * 2 * SECOND
    desk.after(10)  # nobody goes any more
    later = views.wait_view(desk.book, desk.now, last).estimate_us
    assert later is not None
    assert later > view.estimate_us
    for name in names[live.PACE_MIN + 1 : 150]:
        desk.after(1, Release(name, "s", 1))
    view = views.wait_view(desk.book, desk.now, last)
    assert view.estimate_us is not None
    assert 0.9 < view.estimate_us / (view.position * SECOND) < 1.3
    for name in names[150:]:
        desk.release(name)
    for name in ("again", "waits"):
        desk.ask(name, "a")
    assert views.wait_view(desk.book, desk.now, desk.lease("waits")).estimate_us is None


def test_a_grant_that_was_undone_says_nothing_of_how_it_goes_on() -> None:
    desk = Desk()
    desk.limit("a")
    for number in range(20):
        desk.ask(f"l{number}", "a")
    for number in range(live.PACE_MIN + 1):
        for _ in range(9):  # others were quicker
            desk.book.decide([Release(f"l{number}", "s", 1)], desk.now + 2 * SECOND)
            desk.book.rollback()
        desk.after(2, Release(f"l{number}", "s", 1))
    view = views.wait_view(desk.book, desk.now, desk.lease("l19"))
    assert view.estimate_us == pytest.approx(view.position * 2 * SECOND, rel=0.2)


def test_what_is_over_is_shown_in_pages_too() -> None:
    desk = Desk()
    desk.limit("a", 5)
    ended = []
    for name in ("h1", "h2", "h3", "h4"):
        desk.ask(name, "a", labels={"job": "nightly"} if name == "h3" else None)
        desk.release(name)
        ended.append(views.lease_view(desk.book, desk.now, desk.lease(name)))
    ids = [view.lease.id for view in views.page(ended, "h1", 2)]
    assert ids == ["h2", "h3"]
    assert list(views.page(ended, "nobody", None)) == []
    assert list(views.page(ended, "", None)) == ended
    (a,) = desk.book.limits
    of_job = [view.lease.id for view in ended if views.concerns(view, a, "nightly")]
    assert of_job == ["h3"]
    assert all(views.concerns(view, None, "here") for view in ended)
    assert not any(views.concerns(view, "another", None) for view in ended)


def test_how_it_goes_on_is_seen_by_books_that_did_not_decide_it_too() -> None:
    desk, other = Desk(), Book()
    desk.limit("a")
    for number in range(20):
        desk.ask(f"l{number}", "a")
    other.load(desk.book.head, all_records(desk.book))
    for number in range(live.PACE_MIN + 1):
        decision = desk.after(2, Release(f"l{number}", "s", 1))
        other.apply(decision.head, decision.changes)
    mine, theirs = (views.wait_view(book, desk.now, book.leases["l19"]) for book in (desk.book, other))
    assert mine == theirs
    assert mine.estimate_us == mine.position * 2 * SECOND


def test_the_first_of_many_holders_are_those_whose_leases_end_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "UNASKED_MAX", 50)
    desk = Desk()
    many = live.FEW + 100
    desk.limit("a", many)
    for number in range(many):
        desk.ask(f"h{number}", "a", seconds=400 - number)
    desk.ask("w", "a")

    def wait() -> tuple[str, ...]:
        return views.wait_view(desk.book, desk.now, desk.lease("w")).blocked_by

    assert wait() == tuple(f"h{number}" for number in range(many - 1, many - 21, -1))
    desk.renew(f"h{many - 1}", seconds=1_000)
    assert wait()[0] == f"h{many - 2}"
    for _ in range(5):  # longer than it is kept unasked
        for number in range(many):
            desk.renew(f"h{number}", seconds=100 + number)
    assert desk.book.names["a"].endings is None
    assert wait() == tuple(f"h{number}" for number in range(20))


def test_whoever_decides_all_count_the_same_grants() -> None:
    total = 0
    for seed in range(10):
        world, dice = World(Settings()), Dice(random.Random(seed))
        world.step([Hello(name, 1, remembers=remembers) for name, remembers in REMEMBERS.items()])
        for number in range(100):
            commands = dice.commands(world)
            world.now += 1
            world.step(commands, decider=number % 3, undone=[(number + 1) % 3] if number % 5 == 0 else [])
            dice.pass_time(world)
        counts = [{name: live.granted for name, live in book.names.items()} for book in world.books]
        assert counts[0] == counts[1] == counts[2], seed
        total += sum(counts[0].values())
    assert total > 0
