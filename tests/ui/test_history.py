"""Charts of the past in a real browser: what they show, by hand, by keys and as a table."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from ebbgate.core.model import SECOND
from ebbgate.server.history.points import Point, encoded
from ebbgate.stores.rollups import RESOLUTIONS, Part, Place, Span
from tests.server.rest.serving import Served, served
from tests.ui.conftest import Window

pytestmark = pytest.mark.slow

PHONE: Any = {"viewport": {"width": 360, "height": 740}}
WIDE: Any = {"viewport": {"width": 2500, "height": 1200}}

Opens = Callable[..., Window]


def remember(here: Served, limit_id: str, seconds: int) -> None:
    """Have something in the past of a limit: held and waiting rise and fall, with a gap in the middle."""
    history = here.service.history
    now_us = here.do(here.decider.store.clock)
    limit = here.decider.book.lives[limit_id].limit
    limit.created_us = now_us - (seconds + 600) * SECOND
    parts: dict[Place, list[str]] = {}
    for number, each in enumerate(RESOLUTIONS):
        last = now_us // each.step_us
        for at in range(
            max((now_us - each.keep_us) // each.step_us, last - seconds * SECOND // each.step_us), last
        ):
            held, ms = at % 3 + 1, each.step_us // 1_000
            waits = [7, 0, 0, 0, 2, 0, 0, 1]
            point = Point(at, ms, 4, held * ms, held, held, 10, waits, 1_500, (at % 2) * ms, at % 2, at % 2)
            if not last - 40 < at < last - 30:
                place = Place(number, at * each.step_us // each.block_us, limit_id)
                parts.setdefault(place, []).append(encoded(point))
    middle = now_us - 6_000 * SECOND
    spans = [
        Span(f"a {limit_id}", limit.created_us, middle - 900 * SECOND),
        Span(f"b {limit_id}", middle, now_us - 20 * SECOND),
    ]

    async def write() -> None:
        while not history._span.writer:
            await asyncio.sleep(0.01)
        assert history._store is not None
        for span in spans:
            await history._store.write([], span)
        await history._store.write([Part(place, "".join(texts)) for place, texts in parts.items()], spans[0])

    here.run(write())


@pytest.fixture(scope="module")
def past() -> Iterator[Served]:
    """Give a server with limits that have a past."""
    with served() as here:
        remember(here, here.limit("old", 4)["id"], 100_000)
        here.acquire("old")
        remember(here, here.limit("mails", 60, rate="60/min")["id"], 4_000)
        yield here


def charts(page: Page) -> Any:  # noqa: ANN401 - as playwright has them
    return page.locator(".history .plot canvas")


def assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(
    "address", ["/#/limits/old", "/#/limits/old?range=7d&view=table", "/#/limits/mails", "/"]
)
def test_the_past_is_accessible_in_every_light_and_width(window: Opens, past: Served, address: str) -> None:
    for more in ({"color_scheme": "dark", **PHONE}, {"color_scheme": "light", **WIDE}):
        page = window(past.url, address, **more).page
        expect(page.locator("main h1")).to_be_attached()
        if "table" in address:
            expect(page.get_by_role("region", name="History as a table")).to_be_visible()
        elif address != "/":
            expect(charts(page)).to_have_count(4)
        elif more["viewport"]["width"] > 760:
            expect(page.get_by_role("img", name=re.compile("Last 15 minutes: up to"))).to_have_count(2)
        assert_accessible(page)
        width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= room


def test_ranges_stand_in_the_address_and_go_back_as_far_as_they_say(window: Opens, past: Served) -> None:
    page = window(past.url, "/#/limits/old").page
    expect(charts(page)).to_have_count(4)
    with page.expect_response(re.compile(r"window_seconds=604800")) as told:
        page.get_by_role("button", name="7 d").click()
    answer = told.value.json()
    assert answer["step_seconds"] == 3_600
    assert 25 <= len(answer["points"]) <= 30
    expect(page.get_by_role("button", name="7 d")).to_have_attribute("aria-pressed", "true")
    assert "range=7d" in page.url
    expect(page.locator(".history .time")).to_contain_text("live")


def test_the_read_out_follows_the_pointer(window: Opens, past: Served) -> None:
    page = window(past.url, "/#/limits/old?range=15m").page
    read = page.locator(".history .time")
    expect(charts(page)).to_have_count(4)
    newest = read.inner_text()
    box = page.locator(".plot").first.bounding_box()
    assert box
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.locator(".plot .u-over").first.hover(position={"x": 120, "y": 60})
    expect(read).not_to_have_text(newest)
    expect(page.locator(".chart .read").first).to_contain_text("size 4")
    page.mouse.move(1, 1)
    expect(read).to_contain_text(newest.split(",")[0])


def test_dragging_zooms_and_one_button_leads_back(window: Opens, past: Served) -> None:
    page = window(past.url, "/#/limits/old?range=6h").page
    expect(charts(page)).to_have_count(4)
    over = page.locator(".plot .u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + 40, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 50)
    with page.expect_response(re.compile("until=")) as told:
        page.mouse.move(box["x"] + 140, box["y"] + 50)
        page.mouse.up()
    answer = told.value.json()
    assert answer["step_seconds"] < 120
    expect(page.locator(".history .time")).not_to_contain_text("live")
    page.get_by_role("button", name="Back to now").click()
    expect(page.locator(".history .time")).to_contain_text("live")
    expect(page.get_by_role("button", name="6 h")).to_have_attribute("aria-pressed", "true")


def test_everything_works_by_keyboard(window: Opens, past: Served) -> None:
    page = window(past.url, "/#/limits/old?range=1h").page
    expect(charts(page)).to_have_count(4)
    for name in ("Zoom in", "Earlier", "Later", "Zoom out"):
        button = page.get_by_role("button", name=name, exact=True)
        expect(button).to_be_enabled()
        with page.expect_response(re.compile("/history")):
            button.press("Enter")
    page.get_by_role("button", name="Table").press("Space")
    table = page.get_by_role("region", name="History as a table")
    expect(table.get_by_role("row").nth(3)).to_contain_text("4")
    table.focus()
    page.get_by_role("button", name="24 h").press("Enter")
    expect(table.get_by_role("row")).not_to_have_count(0)


def test_the_table_has_the_numbers_of_the_charts_and_leaves_gaps_out(window: Opens, past: Served) -> None:
    page = window(past.url, "/#/limits/old?range=6h&view=table").page
    rows = page.get_by_role("region", name="History as a table").locator("tbody tr")
    expect(rows.first).to_be_visible()
    told = past.client.get("/v1/limits/old/history?window_seconds=21600").json()["points"]
    assert abs(rows.count() - len(told)) <= 1
    assert len(told) < 180
    cells = rows.nth(20).locator("td")
    assert cells.nth(1).inner_text() == "4"
    assert float(cells.nth(2).inner_text()) == pytest.approx(told[-21]["held_slots_mean"], abs=0.6)


def test_a_new_limit_says_that_nothing_is_recorded_yet_and_then_lives(window: Opens) -> None:
    with served() as here:
        here.limit("young", 2)
        page = window(here.url, "/#/limits/young").page
        expect(charts(page)).to_have_count(4)
        here.acquire("young")
        expect(page.locator(".chart .read").first).to_contain_text("highest 1", timeout=10_000)


def test_an_error_is_told_and_can_be_tried_again(window: Opens, past: Served) -> None:
    opened = window(past.url, "/#/create")
    page = opened.page
    page.route("**/history?**", lambda route: route.abort())
    page.goto("/#/limits/old")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/history?**")
    page.get_by_role("button", name="Try again").click()
    expect(charts(page)).to_have_count(4)
    opened.said[:] = [line for line in opened.said if "net::ERR_FAILED" not in line]


def test_pictures_of_the_overview_are_words_for_who_listens(window: Opens, past: Served) -> None:
    page = window(past.url, "/", viewport={"width": 1280, "height": 800}).page
    row = page.get_by_role("row").filter(has_text="old")
    picture = row.get_by_role(
        "img", name=re.compile(r"Last 15 minutes: up to [234] of 4 in use, up to 1 waiter")
    )
    expect(picture).to_be_visible()


def test_history_is_kept_over_a_restart_with_a_gap_where_no_server_ran(window: Opens, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/kept.db"
    with served(store=url) as here:
        here.limit("db", 2)
        here.acquire("db")
        here.acquire("db")
        here.acquire("db", status=202)
    with served(store=url) as here:
        told = here.client.get("/v1/limits/db/history?window_seconds=900").json()["points"]
        assert sum(point["grants"] for point in told) == 2
        assert max(point["held_slots_max"] for point in told) == 2
        assert max(point["waiting_max"] for point in told) == 1
        page = window(here.url, "/#/limits/db?range=15m&view=table").page
        row = page.get_by_role("region", name="History as a table").locator("tbody tr").last
        expect(row).to_contain_text("2")
