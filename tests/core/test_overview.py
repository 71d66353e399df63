"""Which limits somebody wants to see, and in which order."""

from collections.abc import Mapping

import pytest

from ebbgate.core.commands import CoolDown
from ebbgate.core.model import SECOND
from ebbgate.core.overview import Show, Sort, overview
from tests.core.support import Desk


@pytest.fixture
def desk() -> Desk:
    """Give limits in every state."""
    here = Desk()
    here.limit("idle", 4)
    here.limit("full", 1)
    here.limit("waited-for", 2)
    here.limit("half", 4)
    here.limit("rate", 10, decay=1.0)
    here.limit("closed", 0)
    here.limit("off", 3, active=False)
    here.limit("cools", 3)
    here.ask("a", "full")
    here.ask("b", "waited-for", 2)
    here.now += SECOND
    here.ask("c", "closed")
    here.now += SECOND
    here.ask("d", "waited-for")
    here.ask("e", "waited-for")
    here.ask("f", "half", 2)
    here.ask("g", "rate", 3, spend=True)
    here.do(CoolDown("cools", 60 * SECOND, "why"))
    return here


def names(
    desk: Desk,
    search: str = "",
    show: Show = "all",
    sort: Sort = "saturation",
    rates: Mapping[str, float] | None = None,
) -> list[str]:
    found = overview(desk.book, desk.now, rates or {}, search=search, show=show, sort=sort)
    return [live.limit.name for live in found]


def test_the_fullest_come_first_and_before_them_those_where_somebody_waits(desk: Desk) -> None:
    assert names(desk) == ["waited-for", "closed", "full", "half", "rate", "cools", "idle", "off"]


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("name", ["closed", "cools", "full"]),
        ("used", ["rate", "half", "waited-for"]),
        ("waiting", ["waited-for", "closed", "cools"]),
        ("oldest", ["closed", "waited-for", "cools"]),
        ("grants", ["idle", "half", "closed"]),
    ],
)
def test_they_stand_in_the_order_that_is_asked_for_and_equals_by_name(
    desk: Desk, sort: Sort, first: list[str]
) -> None:
    ids = {name: desk.book.names[name].limit.id for name in ("idle", "half")}
    assert names(desk, sort=sort, rates={ids["idle"]: 2.5, ids["half"]: 0.5})[:3] == first


@pytest.mark.parametrize(
    ("show", "found"),
    [
        ("full", ["closed", "full", "waited-for"]),
        ("waiting", ["closed", "waited-for"]),
        ("used", ["full", "half", "rate", "waited-for"]),
        ("idle", ["cools", "idle", "off"]),
        ("rates", ["rate"]),
        ("off", ["cools", "off"]),
    ],
)
def test_only_those_are_found_of_which_it_is_true(desk: Desk, show: Show, found: list[str]) -> None:
    assert names(desk, show=show, sort="name") == found


def test_letters_of_any_size_are_searched_in_names_and_descriptions(desk: Desk) -> None:
    assert names(desk, search="WAIT") == ["waited-for"]
    desk.book.names["idle"].limit.description = "For the STRASSE"
    assert names(desk, search="straße") == ["idle"]
    assert names(desk, search="nothing") == []


def test_what_time_brings_back_is_not_in_use_any_more(desk: Desk) -> None:
    desk.now += 4 * SECOND
    assert names(desk, show="idle", sort="name") == ["cools", "idle", "off", "rate"]
