"""A real browser, which tells of everything that goes wrong in a page."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PATIENCE_MS = 30_000
"""How long a page may take for what it is asked: machines that run tests are busy."""

expect.set_options(timeout=PATIENCE_MS)

Open = Callable[..., Page]


class Window:
    """A page, and what its console said."""

    def __init__(self, browser: Browser, url: str, **more: Any) -> None:  # noqa: ANN401 - as playwright has them
        """Open a window of its own, with no cookies."""
        self.context = browser.new_context(base_url=url, **more)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.said: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.said.append(message.text)


# Of a module, since the browser's driver keeps a loop that other tests must not meet.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser; without one these tests are skipped, and say so."""
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: the pages are not tested; first: sudo make setup-system")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(Path(CHROMIUM)), args=flags)
        yield started
        started.close()


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., Window]]:
    """Return what opens windows; in the end none of their consoles may have complained."""
    windows: list[Window] = []

    def open_(url: str, address: str = "/", **more: Any) -> Window:  # noqa: ANN401 - as playwright has them
        opened = Window(browser, url, **{"color_scheme": "light", "reduced_motion": "reduce", **more})
        windows.append(opened)
        opened.page.goto(address)
        return opened

    yield open_
    said = [line for opened in windows for line in opened.said]
    for opened in windows:
        opened.context.close()
    assert not said
