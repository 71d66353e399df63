"""The pages in a real browser, before a real server: what people see, and what they can do by hand and by keys."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from playwright.sync_api import expect

from ebbgate.server.keys import Keys
from tests.server.rest.serving import Served, served
from tests.ui.support import LIVE_MS, PHONE, WIDE, Opens, assert_accessible, assert_it_fits, busy

pytestmark = pytest.mark.slow

KEY = "a-key-of-many-letters"
LOOKS = "/#/limits/looks"


@pytest.fixture(scope="module")
def here() -> Iterator[Served]:
    """Give one server to all tests; each has limits of its own."""
    with served() as server:
        yield server


@pytest.fixture(scope="module")
def full() -> Iterator[Served]:
    """Give a server with limits of several kinds."""
    with served() as server:
        server.limit("api", 60, rate="60/hour")
        server.client.post("/v1/spends", json={"limits": [{"name": "api", "slots": 7}]})
        server.limit("closed", 0)
        server.limit("off", 3, active=False)
        yield server


# --- how they look


@pytest.mark.parametrize("address", ["/", LOOKS, "/#/create", "/#/activity", "/#/limits/nobody"])
def test_every_page_is_accessible_in_every_light_and_width(window: Opens, full: Served, address: str) -> None:
    if address == LOOKS:
        busy(full, "looks")  # now: who waits by REST and asks no more is gone after 30 s
    for more in ({"color_scheme": "dark", **PHONE}, {"color_scheme": "light", **WIDE}):
        page = window(full.url, address, **more).page
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        expect(page.locator("main h1")).to_be_attached()
        if address == LOOKS:
            expect(page.get_by_role("region", name="Queue")).to_contain_text("job=waiter-2")
        assert_accessible(page)
        assert_it_fits(page)


def test_without_limits_it_says_how_to_make_one(window: Opens) -> None:
    with served() as empty:
        page = window(empty.url).page
        expect(page.get_by_role("heading", name="No limits yet")).to_be_visible()
        expect(page.get_by_text("ebbgate limit create database --limit 5")).to_be_visible()
        moves = """() => {
            const ghost = document.createElement('div');
            ghost.className = 'ghost';
            document.body.append(ghost);
            const name = getComputedStyle(ghost).animationName;
            ghost.remove();
            return name;
        }"""
        assert page.evaluate(moves) == "none", "who wants less motion sees none"
        page.emulate_media(reduced_motion="no-preference")
        assert page.evaluate(moves) == "drift"
        assert_accessible(page)
        page.get_by_role("link", name="Create a limit").click()
        expect(page.get_by_role("heading", name="New limit", exact=True)).to_be_visible()


# --- all limits


def test_the_fullest_limits_come_first_and_what_changes_is_seen_at_once(window: Opens, here: Served) -> None:
    here.limit("live-idle", 9)
    busy(here, "live-full")
    page = window(here.url, "/#/?q=live-").page
    rows = page.get_by_role("row").filter(has=page.get_by_role("link"))
    expect(rows.first).to_contain_text("live-full")
    expect(rows.first).to_contain_text("2 of 2")
    expect(rows.first.locator(".waiting")).to_have_text(re.compile("^3"))
    idle = rows.filter(has_text="live-idle")
    expect(idle).to_contain_text("0 of 9")
    took_ms = []
    for count in range(1, 6):
        here.acquire("live-idle")
        began = time.monotonic()
        expect(idle).to_contain_text(f"{count} of 9")
        took_ms.append((time.monotonic() - began) * 1000)
    assert median(took_ms) < LIVE_MS
    expect(page).to_have_title(re.compile("wait"))
    icon = page.locator("#icon")
    expect(icon).to_have_attribute("href", re.compile("ffb454"))  # somebody waits
    page.get_by_role("link", name="live-idle").click()
    expect(page).to_have_title("5/9 · live-idle · Ebbgate")
    expect(icon).to_have_attribute("href", re.compile("height%3D%2215%22"))  # three quarters, nobody waits
    expect(icon).not_to_have_attribute("href", re.compile("ffb454"))


def test_the_rate_of_a_limit_is_shown_whole(window: Opens, here: Served) -> None:
    here.limit("a-rate-of-a-limit-with-a-rather-long-name-for-its-column", 150, rate="150/min")
    page = window(here.url, "/#/?q=a-rate-of").page
    badge = page.locator(".badge.rate")
    expect(badge).to_have_text("150/min")
    for width in (1600, 1280, 1100):
        page.set_viewport_size({"width": width, "height": 800})
        assert badge.evaluate("badge => badge.scrollWidth <= badge.clientWidth"), width


def test_searching_sorting_and_filtering_stand_in_the_address(window: Opens, here: Served) -> None:
    for name in ("find-b", "find-a", "other"):
        here.limit(name, 3)
    here.acquire("find-b")
    page = window(here.url).page
    expect(page.locator(".row").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("find")
    names = page.locator(".row a")
    expect(names).to_have_text(["find-b", "find-a"])
    page.get_by_label("Sort by").select_option("Name")
    expect(names).to_have_text(["find-a", "find-b"])
    page.get_by_label("Show").select_option("Idle")
    expect(names).to_have_text(["find-a"])
    page.reload()
    expect(names).to_have_text(["find-a"])
    page.get_by_role("searchbox").fill("nothing is like this")
    expect(page.get_by_text("No limit is like that.")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_role("link", name="other")).to_be_attached()


def test_the_keyboard_is_enough(window: Opens, here: Served) -> None:
    for number in range(3):
        here.limit(f"keys-{number}", 3)
    page = window(here.url).page
    expect(page.locator(".row").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("keys-")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="keys-0")).to_be_focused()
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="keys-1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="keys-1", exact=True)).to_be_visible()
    page.get_by_role("button", name="Resize").press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="New limit", exact=True)).to_be_visible()
    page.locator("h1").click()
    page.keyboard.press("g")
    expect(page.get_by_role("table", name="Limits")).to_be_visible()


def test_a_limit_is_made_changed_and_deleted_without_a_pointer(window: Opens, here: Served) -> None:
    page = window(here.url).page
    expect(page.locator("main")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()

    def to(role: Any, name: str) -> None:  # noqa: ANN401 - as playwright names roles
        """Go on with the Tab key until this has the focus."""
        wanted = page.get_by_role(role, name=name, exact=True)
        expect(wanted).to_be_attached()
        for _ in range(60):
            if wanted.evaluate("it => it === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"the Tab key does not lead to {name}")

    page.keyboard.press("n")
    to("textbox", "Name")
    page.keyboard.type("by-keys")
    to("button", "Create the limit")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="by-keys", exact=True)).to_be_visible()
    held = here.acquire("by-keys")
    to("button", "Resize")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    expect(page.locator(".totals")).to_contain_text("1 of 1")
    here.acquire("by-keys", status=202, labels={"job": "next"})
    expect(page.get_by_role("region", name="Queue")).to_contain_text("job=next")
    to("button", "Revoke the lease of REST from 127.0.0.1")
    page.keyboard.press("Enter")
    to("button", "Revoke")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Holders")).to_contain_text("job=next")
    assert here.read(held).json()["why"] == "revoked"
    to("button", "Disable")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Disable").press("Enter")
    expect(page.get_by_role("button", name="Enable")).to_be_visible()
    to("button", "Delete")
    page.keyboard.press("Enter")
    page.keyboard.type("by-keys")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/$"))
    assert here.client.get("/v1/limits/by-keys").status_code == 404


def test_ten_thousand_limits_are_asked_for_as_they_are_seen(window: Opens) -> None:
    with served() as many:
        for start in range(0, 10_000, 500):
            many.run(_create(many, range(start, start + 500)))
        page = window(many.url, "/#/?sort=name").page
        expect(page.get_by_role("table", name="Limits")).to_have_attribute("aria-rowcount", "10001")
        expect(page.get_by_role("link", name="many-0000", exact=True)).to_be_visible()
        assert page.locator(".row").count() < 60
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(page.get_by_role("link", name="many-9999")).to_be_visible()
        assert page.locator(".row").count() < 60
        many.acquire("many-9998")
        expect(page.locator(".row", has_text="many-9998")).to_contain_text("1 of 5")
        scrolled_by = page.evaluate(
            """async () => {
                const before = scrollY;
                for (let step = 0; step < 40; step += 1) {
                    scrollBy(0, -900);
                    await new Promise(requestAnimationFrame);
                }
                return before - scrollY;
            }"""
        )
        assert scrolled_by == 40 * 900
        expect(page.locator(".row:not(.ghostly)").first).to_be_visible()
        page.get_by_role("searchbox").fill("many-123")
        expect(page.locator(".row a")).to_have_count(10)
        page.get_by_role("searchbox").fill("")
        page.get_by_label("Sort by").select_option("Fullest first")
        expect(page.locator(".row a").first).to_have_text("many-9998")
        page.get_by_role("searchbox").press("ArrowDown")
        expect(page.get_by_role("link", name="many-9998")).to_be_focused()
        page.keyboard.press("End")
        expect(page.locator('a[data-index="9999"]')).to_be_focused()
        page.keyboard.press("Home")
        expect(page.get_by_role("link", name="many-9998")).to_be_focused()


async def _create(many: Served, numbers: range) -> None:
    from ebbgate.core.commands import PutLimit
    from ebbgate.wire.ids import new_id

    commands = [
        PutLimit(new_id(), "create", f"many-{number:04}", new_id(), None, 5, 0.0, True, "")
        for number in numbers
    ]
    await many.decider.carry_out(commands)


# --- one limit


def test_a_limit_shows_who_holds_who_waits_and_why(window: Opens, here: Served) -> None:
    busy(here, "seen", slots=1, waiters=2)
    page = window(here.url, "/#/limits/seen").page
    holders = page.get_by_role("region", name="Holders").get_by_role("row")
    expect(holders.nth(1)).to_contain_text("job=holder-0")
    expect(holders.nth(1)).to_contain_text(re.compile(r"4 min \d\d s"))
    expect(holders.nth(1).locator(".token")).to_have_text(re.compile(r"^\d{10,}$"))
    queue = page.get_by_role("region", name="Queue").get_by_role("row")
    expect(queue.nth(1)).to_contain_text("job=waiter-0")
    expect(queue.nth(1).locator(".place")).to_have_text("1")
    expect(queue.nth(2).locator(".place")).to_have_text("2")
    expect(queue.nth(1)).to_contain_text("holds it")
    expect(queue.nth(2)).to_contain_text("behind 1 waiter")
    here.acquire("seen", status=202, labels={"job": "late"})
    expect(queue.nth(3)).to_contain_text("job=late")
    # Who waits for another limit says for which, and who waits for time says for how long.
    here.limit("seen-beside", 2, rate="6/min")
    spend = {"limits": [{"name": "seen-beside", "slots": 2}]}
    assert here.client.post("/v1/spends", json=spend).status_code == 201
    both = {"limits": [{"name": "seen-beside"}, {"name": "seen"}], "labels": {"job": "both"}}
    assert here.client.post("/v1/leases", json=both).status_code == 202
    page.goto("/#/limits/seen-beside")
    expect(queue.nth(1)).to_contain_text(re.compile(r"job=both.*1 \+ 1 of seen.*lacks seen"))
    assert here.client.post("/v1/spends", json={**spend, "limits": [{"name": "seen-beside"}]}).is_success
    expect(queue.nth(2)).to_contain_text(re.compile(r"slots must come back.*≤ \d+ s"))


def test_a_lease_is_revoked_and_the_next_gets_in(window: Opens, here: Served) -> None:
    busy(here, "taken", slots=1, waiters=2)
    page = window(here.url, "/#/limits/taken").page
    page.get_by_role("button", name="Revoke the lease").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Its 1 slot of taken comes free at once.")
    expect(dialog).to_contain_text("1 waiter gets in at once.")
    assert_accessible(page)
    dialog.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("region", name="Holders")).to_contain_text("job=waiter-0")
    expect(page.get_by_role("region", name="Queue")).not_to_contain_text("job=waiter-0")
    expect(page.get_by_role("heading", name="Holders")).to_be_focused()  # the button has gone with its row
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    expect(page.get_by_role("button", name="Remove")).to_be_focused()
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Nobody waits.")).to_be_visible()
    expect(page.get_by_role("heading", name="Queue")).to_be_focused()


def test_resizing_says_who_gets_in_before_it_happens(window: Opens, here: Served) -> None:
    busy(here, "sized", slots=3, waiters=4)
    page = window(here.url, "/#/limits/sized").page
    expect(page.get_by_role("region", name="Queue")).to_contain_text("job=waiter-3")
    page.get_by_role("button", name="Resize").click()
    dialog = page.get_by_role("dialog")
    field = dialog.get_by_label("Slots")
    field.fill("5")
    expect(dialog).to_contain_text("3 held slots stay held until given back.")
    expect(dialog).to_contain_text("2 waiters get in at once.")
    field.fill("2")
    expect(dialog).to_contain_text("nobody gets in until 1 slot more than the new size is given back")
    field.fill("0")
    expect(dialog).to_contain_text("The gate closes")
    field.fill("6")
    expect(dialog).to_contain_text("3 waiters get in at once.")
    dialog.get_by_role("button", name="Resize to 6").click()
    expect(page.locator(".totals")).to_contain_text("6 of 6")
    assert here.client.get("/v1/limits/sized").json()["held_slots"] == 6


def test_a_consequence_is_told_from_all_that_is_known(window: Opens, here: Served) -> None:
    page = window(here.url).page
    said = page.evaluate(
        """async () => {
            const app = document.querySelector('script[type=module]').src;
            const { resizing } = await import(app.replace('app.js', 'consequences.js'));
            const waiter = (slots, lacks) => ({ limits: [{ name: 'db', slots }], lacks });
            const info = { name: 'db', limit: 2, held_slots: 2, spent_slots: 0, active: true, waiting: 0 };
            const told = (to, waiters, waiting = waiters.length) => resizing({ ...info, waiting }, to, waiters).at(-1);
            const one = waiter(1, ['db']);
            return [
                told(9, Array(100).fill(one), 300),
                told(500, Array(100).fill(one), 300),
                told(5, [waiter(2, ['db']), waiter(4, ['db']), one]),
                told(5, [waiter(4, ['db', 'gpu']), waiter(1, ['gpu']), one]),
                told(2, [one]),
                told(4, []),
            ];
        }"""
    )
    assert said == [
        "7 waiters get in at once.",
        "At least 100 waiters get in at once.",
        "1 waiter gets in at once.",
        "1 waiter gets in at once.",
        "Nothing changes.",
        "2 slots are then free.",
    ]


def test_a_limit_is_edited_disabled_cooled_down_and_enabled(window: Opens, here: Served) -> None:
    here.limit("edited", 3)
    opened = window(here.url, "/#/limits/edited")
    page = opened.page
    here.limit("taken-name", 1)
    page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("taken-name")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("a limit named 'taken-name' exists already")
    opened.said.clear()  # the console tells of the refusal, too
    dialog.get_by_label("Name").fill("renamed")
    dialog.get_by_label("Slots that come back").fill("60/hour")
    dialog.get_by_label("Description").fill("For mails.")
    expect(dialog).to_contain_text("Programs that ask for edited find it no more")
    expect(dialog).to_contain_text("Spent slots come back every 1 min")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="renamed")).to_be_visible()
    expect(page.get_by_text("For mails.")).to_be_visible()
    assert here.client.get("/v1/limits/renamed").json()["slot_decay_per_second"] == 1 / 60
    expect(page.locator(".badge.rate")).to_have_text("1/min")
    here.client.patch("/v1/limits/renamed", json={"limit": 60})
    expect(page.locator(".badge.rate")).to_have_text(
        "60/hour"
    )  # as it is written where the limit is that of an hour
    page.get_by_role("button", name="Cool down").click()
    dialog.get_by_label("Why").fill("too many")
    expect(dialog).to_contain_text("Nobody gets in for 30 s")
    dialog.get_by_role("button", name="Cool down").click()
    expect(page.get_by_text("while it cools down: too many")).to_be_visible()
    page.get_by_role("button", name="End cool-down").click()
    dialog.get_by_role("button", name="End the cool-down").click()
    page.get_by_role("button", name="Disable").click()
    expect(dialog).to_contain_text("stops nobody any more")
    dialog.get_by_role("button", name="Disable").click()
    page.get_by_role("button", name="Enable").click()
    dialog.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("button", name="Disable")).to_be_visible()
    assert here.client.get("/v1/limits/renamed").json()["active"] is True


def test_a_limit_in_use_is_deleted_by_its_name_alone(window: Opens, here: Served) -> None:
    busy(here, "deleted", slots=2, waiters=1)
    page = window(here.url, "/#/limits/deleted").page
    expect(page.get_by_role("region", name="Queue")).to_contain_text("job=waiter-0")
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 leases forget the limit; their 2 slots are gone.")
    expect(dialog).to_contain_text("1 waiter goes on without it.")
    expect(dialog.get_by_role("button", name="Delete")).to_be_disabled()
    dialog.get_by_label("Type its name").fill("deleted")
    dialog.get_by_role("button", name="Delete").click()
    expect(page).to_have_url(re.compile("#/$"))
    assert here.client.get("/v1/limits/deleted").status_code == 404


# --- a new one


def test_a_rate_limit_is_made_as_people_write_it(window: Opens, here: Served) -> None:
    page = window(here.url, "/#/create").page
    page.get_by_label("How many in a time").check()
    page.get_by_label("Name").fill("made/wrong")
    expect(page.get_by_text("A name has none of")).to_be_visible()
    page.get_by_label("Name").fill("made")
    page.get_by_label("At once after a quiet time").fill("10")
    page.get_by_label("Rate").fill("sixty")
    expect(page.get_by_role("button", name="Create the limit")).to_be_disabled()
    page.get_by_label("Rate").fill("60/hour")
    expect(page.get_by_text("10 may go at once; then one every 1 min")).to_be_visible()
    expect(page.get_by_role("img", name="10 grants at once")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("ebbgate limit create made --limit 10 --rate 60/hour")).to_be_visible()
    page.get_by_role("button", name="Create the limit").click()
    expect(page.get_by_role("heading", name="made", exact=True)).to_be_visible()
    made = here.client.get("/v1/limits/made").json()
    assert (made["limit"], made["slot_decay_per_second"]) == (10, 1 / 60)


# --- when things go wrong


def test_it_comes_back_after_the_server_was_away(window: Opens, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'x.db'}"
    with served(store=store) as first:
        port = int(first.url.rpartition(":")[2])
        first.limit("kept", 2)
        opened = window(first.url)
        page = opened.page
        expect(page.locator(".row")).to_contain_text("0 of 2")
    expect(page.get_by_role("alert")).to_contain_text("The server has not answered")
    expect(page.locator(".row")).to_contain_text("kept")
    assert_accessible(page)
    with served(store=store, port=port) as second:
        second.acquire("kept")
        expect(page.locator(".row")).to_contain_text("1 of 2", timeout=10_000)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        page.goto("about:blank")
    opened.said[:] = [line for line in opened.said if "Failed to load resource" not in line]


def test_with_keys_one_logs_in_first_and_out_again(window: Opens) -> None:
    with served(keys=Keys([f"ops={KEY}"])) as guarded:
        guarded.caller(KEY).post("/v1/limits", json={"name": "behind", "limit": 1})
        opened = window(guarded.url, "/#/limits/behind", **PHONE)
        page = opened.page
        expect(page.get_by_role("heading", name="Ebbgate")).to_be_visible()
        assert_accessible(page)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        field.fill("a-wrong-key-of-letters")
        field.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("knows no such API key")
        field.fill(KEY)
        field.press("Enter")
        expect(page.get_by_role("heading", name="behind")).to_be_visible()
        page.get_by_role("button", name="Resize").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Slots").fill("4")
        dialog.get_by_role("button", name="Resize to 4").click()
        expect(page.locator(".totals")).to_contain_text("of 4")
        assert page.evaluate("document.cookie") == "", "no script can read it"
        opened.context.clear_cookies()  # as when the server was restarted
        page.get_by_role("button", name="Disable").click()
        dialog.get_by_role("button", name="Disable").click()
        field.fill(KEY)
        field.press("Enter")
        expect(page.locator(".totals")).to_contain_text("of 4")
        expect(page.get_by_role("button", name="Disable")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        opened.said[:] = [line for line in opened.said if "with a status of 40" not in line]
