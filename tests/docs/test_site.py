"""The site is built without a warning, and none of its links is dead."""

from pathlib import Path

import pytest

from tests.docs.site import NotMadeError, build, faults, zensical
from tests.docs.snippets import PAGES


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_site_is_whole(tmp_path: Path) -> None:
    try:
        zensical()
    except NotMadeError as error:
        pytest.skip(f"NOT BUILT: {error}")
    site = build(tmp_path)
    assert faults(site) == []
    for page in PAGES:
        if page.startswith("docs/"):
            name = page.removeprefix("docs/").replace("README.md", "index.md")
            built = (site / name).with_suffix(".html")
            assert built.exists(), page
            assert "<script src=http" not in built.read_text(encoding="utf-8")


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html#here">b</a><a href="#top">top</a>')
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1><a href="a.html#top">a</a><img src="none.png">')
    assert faults(tmp_path) == ["a.html: b.html#here", "b.html: none.png"]
