"""The files of the pages: where they come from, how large they are, and how they are served."""

import gzip
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from ebbgate.server import ui
from ebbgate.server.ui.files import SITE
from tests.server.rest.serving import served

ROOT = Path(ui.__file__).parent
KEY = "a-key-of-many-letters"
TOTAL_BYTES_MAX = 150_000
GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture
def guarded() -> Iterator[httpx.Client]:
    """Give a client without a key for a server that wants one."""
    from ebbgate.server.keys import Keys

    with served(keys=Keys([f"ops={KEY}"])) as here:
        yield here.caller()


def page_of(client: httpx.Client) -> str:
    answer = client.get("/")
    assert answer.status_code == 200
    return answer.text


def test_what_others_wrote_is_as_they_published_it() -> None:
    manifest = json.loads((ROOT / "vendor" / "manifest.json").read_text())
    named = {"manifest.json"}
    for module in manifest["modules"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", module["version"])
        assert module["licence"] in {"MIT", "Apache-2.0"}
        assert (ROOT / "vendor" / module["licence_file"]).stat().st_size > 500
        named.add(module["licence_file"])
        for entry in module["files"]:
            assert sha256((ROOT / "vendor" / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
            named.add(entry["file"])
    assert {path.name for path in (ROOT / "vendor").iterdir()} == named


def test_all_of_it_is_small() -> None:
    assert sum(len(file.compressed) for file in SITE.files.values()) < TOTAL_BYTES_MAX


def test_every_import_leads_to_a_file() -> None:
    page = SITE.files["/"].body.decode()
    listed = re.search(r'<script type="importmap">(.*?)</script>', page)
    assert listed
    imports = json.loads(listed[1])["imports"]
    assert set(imports.values()) <= SITE.paths
    for path in (ROOT / "web").glob("*.js"):
        for name in re.findall(r"from '([^']+)'", path.read_text()):
            assert name in imports or (path.parent / name).is_file(), f"{path.name} imports {name}"
    for address in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert address in SITE.paths


def test_a_page_loads_without_a_key_and_nothing_else_does(guarded: httpx.Client) -> None:
    for address in {"/", *re.findall(r'(?:href|src)="([^"]+)"', page_of(guarded))}:
        answer = guarded.get(address)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert KEY not in answer.text
    for address in ("/v1/limits", "/v1/events", "/metrics", "/ui/other.js"):
        assert guarded.get(address).status_code == 401
    assert guarded.post("/").status_code == 401


def test_the_page_forbids_every_script_but_its_own(guarded: httpx.Client) -> None:
    policy = guarded.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_files_are_kept_for_ever_and_the_page_is_asked_for_again(guarded: httpx.Client) -> None:
    page = guarded.get("/")
    assert page.headers["cache-control"] == "no-cache"
    again = guarded.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    script = next(path for path in SITE.paths if path.endswith("/app.js"))
    assert "immutable" in guarded.get(script).headers["cache-control"]
    assert guarded.get(script).headers["content-type"].startswith("text/javascript")


def test_files_are_compressed_for_who_takes_it(guarded: httpx.Client) -> None:
    script = next(path for path in SITE.paths if path.endswith("/app.js"))
    plain = guarded.get(script, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with guarded.stream("GET", script, headers=GZIP) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(answer.iter_raw())) == plain.content
    head = guarded.head(script, headers={"Accept-Encoding": "identity"})
    assert (head.content, head.headers["content-length"]) == (b"", str(len(plain.content)))


def test_other_paths_and_methods_are_refused() -> None:
    with served() as here:
        assert here.client.get("/ui/nothing.js").status_code == 404
        assert here.client.post("/").status_code == 405
        assert here.client.put("/ui/session").status_code == 405
