"""A limit that cools down lets nobody in, and loses nobody's place."""

import pytest

from ebbgate.core import views
from ebbgate.core.commands import CoolDown, Done, PutLimit, Refused, Renew
from ebbgate.core.model import SECOND
from ebbgate.errors import InvalidRequest
from tests.core.support import Desk


def cool(desk: Desk, seconds: float, why: str = "") -> None:
    (outcome,) = desk.decide(CoolDown("api", round(seconds * SECOND), why)).outcomes
    assert isinstance(outcome, Done)


def let_in(desk: Desk) -> list[str]:
    """Return who is let in by what is due now."""
    return [told.id for told in desk.decide().told]


def test_nobody_is_let_in_before_it_is_over_and_then_all_in_their_order() -> None:
    desk = Desk()
    desk.limit("api", 2)
    desk.ask("holds", "api")
    cool(desk, 10, "429 from the vendor")
    for name in ("first", "second"):
        desk.ask(name, "api")
    desk.release("holds")
    assert let_in(desk) == []
    due = desk.book.next_due(desk.now)
    assert due.at_us == desk.now + 10 * SECOND
    desk.now = due.at_us - 1
    assert let_in(desk) == []
    desk.now += 1
    assert let_in(desk) == ["first", "second"]


def test_spent_slots_come_back_meanwhile_and_the_rate_holds_afterwards() -> None:
    desk = Desk()
    desk.limit("api", 2, decay=1.0)
    for name in ("a", "b", "c"):
        desk.ask(name, "api", spend=True)
    cool(desk, 1.5)
    desk.now += SECOND
    assert let_in(desk) == [], "its slot is back, and it is not let in"
    assert desk.book.next_due(desk.now).at_us == desk.now + SECOND // 2
    desk.now += SECOND // 2
    assert let_in(desk) == ["c"]


def test_the_longest_wins_and_none_ends_it_but_an_explicit_end() -> None:
    desk = Desk()
    desk.limit("api")
    cool(desk, 60, "long")
    cool(desk, 5, "short")
    view = views.limit(desk.book, desk.now, "api")
    assert view is not None
    assert (view.cool_until_us, view.limit.cool_why) == (desk.now + 60 * SECOND, "long")
    desk.ask("waits", "api")
    told = desk.decide(CoolDown("api", 0)).told
    assert [entry.id for entry in told] == ["waits"]
    cool(desk, 0)
    view = views.limit(desk.book, desk.now, "api")
    assert view is not None
    assert view.cool_until_us == -1


def test_holders_keep_their_slots_and_renew_them() -> None:
    desk = Desk()
    desk.limit("api", 1)
    desk.ask("holds", "api")
    cool(desk, 100)
    (outcome,) = desk.decide(Renew("holds", "s", 1, 60 * SECOND)).outcomes
    assert type(outcome).__name__ == "Held"


def test_an_edit_or_a_new_name_does_not_end_it() -> None:
    desk = Desk()
    desk.limit("api")
    cool(desk, 10)
    desk.decide(PutLimit("r2", "update", "api", name="vendor", limit=5))
    desk.ask("waits", "vendor")
    assert desk.book.leases["waits"].state == "waiting"


def test_an_overtaken_waiter_keeps_nothing_of_others_while_a_limit_it_wants_cools_down() -> None:
    """A cool-down of an hour must not idle what others could use."""
    desk = Desk()
    desk.limit("api")
    desk.limit("db", 2)
    desk.ask("holds", "db", 2)
    desk.ask("big", {"api": 1, "db": 2})
    cool(desk, 3_600)
    desk.release("holds")
    for number in range(4):
        desk.ask(f"small{number}", "db")
        desk.now += 20 * SECOND
        assert desk.book.leases[f"small{number}"].state == "held"
        desk.release(f"small{number}")


def test_a_waiter_is_told_when_it_is_over() -> None:
    desk = Desk()
    desk.limit("api", 1)
    desk.limit("rate", 1, decay=1.0)
    desk.decide(CoolDown("api", 10 * SECOND), CoolDown("rate", 20 * SECOND))
    desk.ask("waits", "api")
    desk.ask("spends", "rate", spend=True)
    desk.ask("later", "rate", spend=True)
    seconds = {
        name: views.wait_view(desk.book, desk.now, desk.book.leases[name]).estimate_us
        for name in ("waits", "spends", "later")
    }
    assert seconds == {"waits": 10 * SECOND, "spends": 20 * SECOND, "later": 21 * SECOND}


def test_unknown_limits_and_nonsense_are_refused() -> None:
    desk = Desk()
    (outcome,) = desk.decide(CoolDown("nobody", SECOND)).outcomes
    assert isinstance(outcome, Refused)
    assert outcome.code == "limit_not_found"
    for seconds in (-1, 86_401):
        with pytest.raises(InvalidRequest, match="cools down for 0 to 86,400 seconds"):
            CoolDown("api", seconds * SECOND)
    with pytest.raises(InvalidRequest, match="the reason is text"):
        CoolDown("api", SECOND, "x" * 201)
