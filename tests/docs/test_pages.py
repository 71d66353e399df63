"""The pages keep up with the code: every error, argument, variable and word is there, and no link is dead."""

import inspect
import re
from typing import get_args

import pytest

import ebbgate.asyncio
import ebbgate.sync
from ebbgate import AsyncClient, Client, errors
from ebbgate.core import model
from ebbgate.wire import LeaseInfo, LimitInfo
from tests.docs import cli_page
from tests.docs.snippets import PAGES, ROOT


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def named(page: str) -> set[str]:
    """Return every word that a page sets as code."""
    return {word for code in re.findall(r"`([^`\n]+)`", text(page)) for word in re.findall(r"\w+", code)}


def classes() -> list[type[Exception]]:
    return [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
    ]


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets where pages are shown."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page: str) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        if not path.exists():
            dead.append(target)
        elif fragment:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            if fragment not in {anchor(heading) for heading in headings}:
                dead.append(target)
    assert dead == []


def test_every_page_of_docs_can_be_found_from_another() -> None:
    linked = {
        ((ROOT / page).parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", text(page))
    }
    alone = [page for page in PAGES if page.startswith("docs/") and (ROOT / page).resolve() not in linked]
    assert alone == []


def test_every_error_and_warning_has_its_line_and_its_code() -> None:
    words = named("docs/reference/errors.md")
    missing = [kind.__name__ for kind in classes() if kind.__name__ not in words]
    codes = {kind.code for kind in classes() if issubclass(kind, errors.EbbgateError)}
    assert missing == []
    assert codes - words == set()


def test_no_error_is_described_that_does_not_exist() -> None:
    described = re.findall(r"^\| `(\w+)` \|", text("docs/reference/errors.md"), re.MULTILINE)
    assert set(described) - {kind.__name__ for kind in classes()} == set()


def test_every_public_name_and_argument_is_in_the_reference() -> None:
    words = named("docs/reference/python.md")
    wanted = {*ebbgate.sync.__all__, *ebbgate.asyncio.__all__, "Client", "AsyncClient"}
    for function in (ebbgate.sync.concurrency, ebbgate.sync.rate_limit):
        wanted |= set(inspect.signature(function).parameters)
    for client in (Client, AsyncClient):
        for name, method in inspect.getmembers(client, inspect.isfunction):
            if not name.startswith("_"):
                wanted |= {name, *inspect.signature(method).parameters}
    lease = ebbgate.sync.Lease
    documented = {
        "id",
        "names",
        "fencing_token",
        "expires_at",
        "protected",
        "lost",
        "raise_if_lost",
        "waited_seconds",
    }
    assert all(hasattr(lease, name) for name in documented)
    wanted |= documented | set(LimitInfo.__struct_fields__) | set(LeaseInfo.__struct_fields__)
    assert wanted - {"self"} - words == set()


def test_the_page_about_the_command_line_says_what_the_commands_say() -> None:
    assert text("docs/reference/cli.md") == cli_page.page(), "run: python -m tests.docs.cli_page"


def test_every_observer_and_integration_is_in_the_reference() -> None:
    modules = {path.stem for path in (ROOT / "src" / "ebbgate" / "integrations").glob("[a-z]*.py")} - {
        "pacing"
    }
    assert modules - named("docs/reference/python.md") == set()


def test_every_page_of_docs_is_on_the_site() -> None:
    shown = set(re.findall(r"[\w/-]+\.md", text("zensical.toml")))
    pages = {page.removeprefix("docs/") for page in PAGES if re.match(r"docs/(?!decisions/\d)", page)}
    assert pages - shown == set()  # one decision is reached by the list of all
    assert [page for page in shown if not (ROOT / "docs" / page).exists()] == []


def test_every_variable_of_the_environment_is_in_the_reference() -> None:
    read = {
        variable
        for path in (ROOT / "src").rglob("*.py")
        for variable in re.findall(r"\bEBBGATE_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    assert read
    assert read - named("docs/reference/configuration.md") == set()


def test_the_glossary_has_every_state_and_every_way_to_end() -> None:
    words = named("docs/glossary.md")
    assert (set(get_args(model.State)) | set(get_args(model.Why)) | set(get_args(model.Kind))) - {
        ""
    } - words == set()


def test_decisions_are_numbered_without_gaps_and_have_their_four_parts() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"), key=lambda path: path.name)
    assert [int(path.name[:4]) for path in pages] == list(range(1, len(pages) + 1))
    parts = ["## Context", "## Choice", "## What we gave up", "## What would change our mind"]
    for path in pages:
        headings = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
        assert headings == parts, path.name


def test_a_decision_takes_one_page() -> None:
    long = [
        page for page in PAGES if re.match(r"docs/decisions/\d", page) and len(text(page).splitlines()) > 70
    ]
    assert long == []


def test_paths_in_the_pages_exist() -> None:
    folders = "src|tests|examples|docs|bench"
    missing = [
        f"{page}: {path}"
        for page in PAGES
        for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text(page))
        if "NNNN" not in path and not (ROOT / path).exists()
    ]
    assert missing == []
