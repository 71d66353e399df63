"""What the tests of the pages share."""

from collections.abc import Callable
from typing import Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page

from ebbgate.server.rest.board import Board
from ebbgate.server.rest.watching import Watching
from tests.server.rest.serving import Served
from tests.ui.conftest import Window

PHONE: Any = {"viewport": {"width": 360, "height": 740}}
WIDE: Any = {"viewport": {"width": 2500, "height": 1200}}
LIVE_MS = 500

Opens = Callable[..., Window]

HIDE = """(hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
}"""
"""Has a tab be hidden, or seen again: a browser without a screen hides none."""


def assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def assert_it_fits(page: Page) -> None:
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room


def busy(here: Served, name: str, slots: int = 2, waiters: int = 3) -> None:
    """Fill a limit, and have some wait for it."""
    here.limit(name, slots)
    for number in range(slots):
        here.acquire(name, labels={"job": f"holder-{number}"})
    for number in range(waiters):
        here.acquire(name, status=202, labels={"job": f"waiter-{number}"})


def streams(here: Served) -> int:
    """Return how many streams the pages have of a server."""

    def count() -> int:
        owners = (getattr(watcher, "__self__", None) for watcher in here.decider.watchers)
        (watching,) = [owner for owner in owners if isinstance(owner, Watching)]
        return sum(len(viewer) for viewer in watching._viewers if isinstance(viewer, Board))

    return here.do(count)
