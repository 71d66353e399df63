"""What people are shown is what the book decides by."""

from ebbgate.core import views
from ebbgate.core.model import SECOND
from tests.core.support import Desk, limit_id


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
