"""Whatever a page shows works: every Python block and every console line of README and docs is run."""

import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.snippets import (
    LANGUAGES,
    NOT_RUN,
    PAGES,
    SERVED,
    SERVING,
    SHARING,
    Block,
    Page,
    blocks,
    commands,
    matches,
)
from tests.server.processes import started

SHOWING = [page for page in PAGES if any(block.language != "text" for block in blocks(page))]


@pytest.fixture
def page() -> Iterator[Page]:
    """Give an empty store in a folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder:
        yield Page(Path(folder))


def sharing(folder: Path, stack: ExitStack, shown: str, store: str) -> Callable[[str], str]:
    """Return what starts a server on a store that a page shows: in a namespace of the real one beside `store`."""

    def serve(url: str) -> str:
        there, _, namespace = url.partition("?namespace=")
        assert there == shown
        real = store + (f".{namespace}" if namespace else "")
        return stack.enter_context(started(folder, "--store", real)).url.removeprefix("http://")

    assert "namespace=" in store.rpartition("&")[2] or "namespace=" in store.rpartition("?")[2]
    return serve


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWING)
def test_what_a_page_shows_works(name: str, page: Page, request: pytest.FixtureRequest) -> None:
    with ExitStack() as stack:
        if name in SERVED:
            if shutil.which("curl") is None:
                pytest.skip("curl is not installed")
            server = stack.enter_context(
                started(page.folder, "--store", f"sqlite:///{page.folder}/served.db")
            )
            page.address = server.url.removeprefix("http://")
        if name in SERVING:

            def serve() -> str:
                store = page.environment["EBBGATE_URL"]
                return stack.enter_context(started(page.folder, "--store", store)).url.removeprefix("http://")

            page.serve = serve
        if name in SHARING:
            shown = SHARING[name]
            store = request.getfixturevalue("new_postgres" if "postgresql" in shown else "new_valkey")()
            page.serve_sharing = sharing(page.folder, stack, shown, store)
            page.servers[shown] = shlex.quote(store)
        for block in blocks(name):
            page.run(block)


def test_every_block_says_what_it_is() -> None:
    unknown = [str(block) for name in PAGES for block in blocks(name) if block.language not in LANGUAGES]
    assert unknown == []


def test_every_file_that_a_page_shows_is_run_by_a_command_below_it() -> None:
    forgotten: list[str] = []
    for name in PAGES:
        titles: dict[str, str] = {}
        for block in blocks(name):
            if block.title is not None:
                titles[block.title] = str(block)
            for command in commands(block) if block.language == "console" else ():
                for title in [title for title in titles if title.removesuffix(".py") in command.text]:
                    del titles[title]
        forgotten += titles.values()
    assert forgotten == []


def test_every_command_that_is_not_run_is_shown_somewhere() -> None:
    shown = {
        command.text
        for name in PAGES
        for block in blocks(name)
        if block.language == "console"
        for command in commands(block)
    }
    assert set(NOT_RUN) - shown == set()


@pytest.mark.parametrize(
    ("language", "body"),
    [
        ("python", "raise SystemExit(1)\n"),
        ("python", "print('other')  # prints: this\n"),
        ("python", "import warnings\nwarnings.warn('old')\n"),
        ("python", "print(2)\nprint(1)\n# prints: 1\n# prints: 2\n"),
        ("console", "$ exit 3\n"),
        ("console", "$ echo one\ntwo\n"),
        ("console", "$ exit 3\n$ echo $?\n4\n"),
    ],
)
def test_what_does_not_work_is_noticed(language: str, body: str, page: Page) -> None:
    with pytest.raises(AssertionError):
        page.run(Block("page.md", 1, language, body))


def test_what_works_is_let_through(page: Page) -> None:
    page.run(Block("page.md", 1, "python", "print('so')  # prints: so\n"))
    page.run(Block("page.md", 1, "console", "$ exit 3\n$ echo $?\n3\n$ echo a; echo b >&2\na\nb\n"))


def test_dots_stand_for_anything() -> None:
    assert matches("a ... d\n...\nz", "a b c d\n1\n2\nz")
    assert not matches("a ... d", "a b c e")
    assert not matches("a.c", "abc")
