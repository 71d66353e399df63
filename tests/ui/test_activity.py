"""The page of what happens: who did what, for how long, and how to find it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ebbgate.core.model import SECOND
from ebbgate.server.keys import Keys
from tests.server.rest.serving import Served, served
from tests.ui.support import Opens, assert_accessible

pytestmark = pytest.mark.slow

KEY = "a-key-of-many-letters"


@pytest.fixture(scope="module")
def here() -> Iterator[Served]:
    """Give one server to all tests; each has limits of its own."""
    with served() as server:
        yield server


def events_of(page: Page) -> Any:  # noqa: ANN401 - as playwright has it
    """Return the lines of the page, once it is live."""
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    return page.get_by_role("listitem")


def test_it_tells_who_did_what_and_how_long_it_took(window: Opens, here: Served) -> None:
    here.limit("told", 1)
    page = window(here.url, "/#/activity/told").page
    events = events_of(page)
    lease = here.acquire("told", labels={"job": "night"})
    expect(events.first).to_contain_text("got in")
    expect(events.first).to_contain_text("REST from 127.0.0.1")
    expect(events.first).to_contain_text("job=night")
    expect(events.first).to_contain_text("at once")
    expect(events.first).to_contain_text(f"token {lease['fencing_token']}")
    waiting = here.acquire("told", status=202, labels={"job": "day"})
    expect(events.first).to_contain_text("waits")
    here.release(lease)
    expect(events.filter(has_text="gave back")).to_contain_text("held ")
    here.read(waiting)
    expect(events.filter(has_text=re.compile("got in.*job=day"))).to_contain_text("waited ")
    here.client.patch("/v1/limits/told", json={"limit": 7, "rate": "5/s"})
    expect(events.first).to_contain_text("changed")
    expect(events.first).to_contain_text("1 → 7 slots, slot decay none → 5/s")
    expect(events.first).to_contain_text("REST from 127.0.0.1")
    assert_accessible(page)


def test_what_happened_before_the_page_was_opened_is_there(window: Opens) -> None:
    with served() as here:  # of its own: nobody has looked before
        made = here.limit("before", 1)
        here.decider.book.lives[made["id"]].limit.created_us -= 3 * 86_400 * SECOND
        here.release(here.acquire("before", labels={"job": "early"}))
        here.client.patch("/v1/limits/before", json={"limit": 60, "rate": "60/hour"})
        events = events_of(window(here.url, "/#/activity/before").page)
        expect(events.first).to_contain_text("changed")
        expect(events.first).to_contain_text("now 60 slots, slot decay 60/hour")
        expect(events.first).to_contain_text("REST from 127.0.0.1")
        expect(events.nth(1)).to_contain_text("gave back")
        expect(events.nth(2)).to_contain_text("got in")
        expect(events.nth(3)).to_contain_text("created")
        expect(events.nth(3)).to_contain_text("by whom is not known here")
        expect(events.nth(3).get_by_role("time")).to_have_text(re.compile(r"^\d+ \w+$"))  # a day, not a time


def test_pausing_loses_nothing(window: Opens, here: Served) -> None:
    here.limit("paused", 1)
    page = window(here.url, "/#/activity?q=paused").page
    events = events_of(page)
    lease = here.acquire("paused")
    expect(events.first).to_contain_text("got in")
    page.get_by_role("button", name="Pause").click()
    here.release(lease)
    for _ in range(2):
        here.release(here.acquire("paused"))
    expect(page.get_by_role("button", name="Go on (5 new)")).to_be_visible()
    expect(events).to_have_count(2)
    page.get_by_role("button", name="Go on").click()
    expect(events).to_have_count(7)


def test_what_is_looked_for_stands_in_the_address(window: Opens, here: Served) -> None:
    for name in ("found", "other"):
        here.limit(name, 3)
    page = window(here.url, "/#/activity").page
    events = events_of(page)
    here.release(here.acquire("found", labels={"job": "needle"}))
    here.acquire("found", labels={"job": "hay"})
    here.acquire("other", labels={"job": "needle"})
    expect(events.filter(has_text="other").filter(has_text="got in")).to_have_count(1)
    page.get_by_label("Search events").fill("needle")
    page.get_by_label("What").select_option("Got in")
    limit = page.get_by_label("Limit", exact=True)
    limit.fill("found")
    limit.press("Enter")
    expect(page).to_have_url(re.compile(r"#/activity/found\?q=needle&kind=granted$"))
    expect(events).to_have_count(1)
    expect(events).to_contain_text("job=needle")
    page.reload()
    expect(events).to_have_count(1)
    page.get_by_label("Search events").fill("nothing is like this")
    expect(page.get_by_text("Nothing that happened is like that.")).to_be_visible()
    page.goto(f"{here.url}/#/limits/found")
    page.get_by_role("link", name="What happened at found").click()
    expect(events.first).to_contain_text("found")
    expect(page.get_by_role("heading", name="Activity of found")).to_be_visible()


def test_who_changed_something_in_the_pages_is_told_with_the_key(window: Opens) -> None:
    with served(keys=Keys([f"ops={KEY}"])) as guarded:
        caller = guarded.caller(KEY)
        caller.post("/v1/limits", json={"name": "kept", "limit": 1})
        held = caller.post("/v1/leases", json={"limits": [{"name": "kept"}]}).json()
        opened = window(guarded.url, "/#/limits/kept")
        page = opened.page
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Revoke the lease").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_text("Nobody holds a slot.")).to_be_visible()
        page.get_by_role("button", name="Disable").click()
        page.get_by_role("dialog").get_by_role("button", name="Disable").click()
        expect(page.get_by_role("button", name="Enable")).to_be_visible()
        page.get_by_role("link", name="What happened at kept").click()
        events = page.get_by_role("listitem")
        revoked = events.filter(has_text="was revoked")
        expect(revoked).to_contain_text("by These pages from 127.0.0.1, key ops")
        expect(revoked).to_contain_text(f"token {held['fencing_token']}")
        disabled = events.filter(has_text="disabled")
        expect(disabled).to_contain_text("These pages from 127.0.0.1")
        expect(disabled).to_contain_text("key ops")
