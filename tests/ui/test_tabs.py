"""Several tabs of one browser: one stream serves them all, and none while nobody looks."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.cli.support import wait_until
from tests.server.rest.serving import Served, served
from tests.ui.support import HIDE, Opens, busy, streams

pytestmark = pytest.mark.slow


@pytest.fixture
def here() -> Iterator[Served]:
    """Give a server of its own, so that its streams can be counted."""
    with served() as server:
        yield server


def another(page: Page, address: str) -> Page:
    """Open another tab of the same browser."""
    tab = page.context.new_page()
    tab.goto(address)
    return tab


def test_many_tabs_share_one_stream_and_each_sees_what_it_looks_at(window: Opens, here: Served) -> None:
    here.limit("a", 5)
    busy(here, "b", slots=1, waiters=1)
    first = window(here.url).page
    second, third = another(first, "/#/limits/a"), another(first, "/#/activity")
    fourth = another(first, "/#/limits/a")
    for tab in (first, second, third, fourth):
        expect(tab.get_by_text("Live", exact=True)).to_be_visible()
    wait_until(lambda: streams(here) == 1)
    here.acquire("a", labels={"job": "seen-everywhere"})
    expect(first.locator(".row", has_text="a").first).to_be_visible()
    expect(first.locator(".row").filter(has=first.get_by_role("link", name="a", exact=True))).to_contain_text(
        "1 of 5"
    )
    expect(second.locator(".totals")).to_contain_text("1 of 5")
    expect(fourth.get_by_role("region", name="Holders")).to_contain_text("seen-everywhere")
    expect(third.get_by_role("listitem").first).to_contain_text("seen-everywhere")
    wait_until(lambda: streams(here) == 1)  # for a moment the next one overlaps with it
    second.close()
    third.close()
    here.acquire("a")
    expect(fourth.locator(".totals")).to_contain_text("2 of 5")
    wait_until(lambda: streams(here) == 1)
    for tab in (first, fourth):
        tab.close()
    wait_until(lambda: streams(here) == 0)


def test_the_stream_goes_on_until_no_tab_is_seen_and_comes_back(window: Opens, here: Served) -> None:
    here.limit("a", 5)
    first = window(here.url, "/#/limits/a").page
    second = another(first, "/#/activity")
    expect(second.get_by_text("Live", exact=True)).to_be_visible()
    first.evaluate(HIDE, arg=True)
    here.acquire("a", labels={"job": "one"})
    expect(second.get_by_role("listitem").first).to_contain_text("job=one")
    second.evaluate(HIDE, arg=True)
    expect(second.get_by_text("Paused", exact=True)).to_be_visible()
    wait_until(lambda: streams(here) == 0)
    here.acquire("a", labels={"job": "missed"})
    second.evaluate(HIDE, arg=False)
    expect(second.get_by_role("listitem").first).to_contain_text("job=missed")
    expect(second.get_by_role("listitem", name=re.compile("")).filter(has_text="job=one")).to_have_count(1)
    first.evaluate(HIDE, arg=False)
    expect(first.locator(".totals")).to_contain_text("2 of 5")
    wait_until(lambda: streams(here) == 1)


@pytest.mark.parametrize(
    "lacks", ["delete window.SharedWorker", "window.SharedWorker = class { x = null.x }"]
)
def test_without_a_shared_worker_each_tab_has_a_stream(window: Opens, here: Served, lacks: str) -> None:
    here.limit("a", 5)
    opened = window(here.url, "about:blank")
    opened.context.add_init_script(lacks)
    first = opened.page
    first.goto("/#/limits/a")
    second = another(first, "/")
    expect(second.locator(".row")).to_contain_text("0 of 5")
    expect(first.locator(".totals")).to_contain_text("0 of 5")
    wait_until(lambda: streams(here) == 2)
    here.acquire("a")
    expect(second.locator(".row")).to_contain_text("1 of 5")
    expect(first.locator(".totals")).to_contain_text("1 of 5")
    second.evaluate(HIDE, arg=True)
    wait_until(lambda: streams(here) == 1)


def test_all_tabs_come_back_after_the_server_was_away(window: Opens, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'x.db'}"
    with served(store=store) as before:
        port = int(before.url.rpartition(":")[2])
        before.limit("kept", 3)
        opened = window(before.url, "/#/limits/kept")
        first = opened.page
        second = another(first, "/")
        expect(second.locator(".row")).to_contain_text("0 of 3")
        expect(first.locator(".totals")).to_contain_text("0 of 3")
    for tab in (first, second):
        expect(tab.get_by_role("alert")).to_contain_text("The server has not answered")
    with served(store=store, port=port) as after:
        after.acquire("kept")
        expect(first.locator(".totals")).to_contain_text("1 of 3")
        expect(second.locator(".row")).to_contain_text("1 of 3")
        for tab in (first, second):
            expect(tab.get_by_role("alert")).to_be_hidden()
        wait_until(lambda: streams(after) == 1)
        for tab in (first, second):
            tab.goto("about:blank")
    opened.said[:] = [line for line in opened.said if "Failed to load resource" not in line]
