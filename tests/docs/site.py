"""Builds the site of the pages with Zensical, and looks at each of its links: python -m tests.docs.site.

Zensical is in an environment of its own, `.venv-docs`, made on demand from what `requirements/site.txt` has locked.
What pages link to outside of `docs` (examples, files for operators) is put beside them, so that the site is whole.
"""

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.docs.snippets import ROOT

HERE = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / f"{Path(sys.prefix).name}-docs"  # each Python has its own
REQUIREMENTS = HERE / "requirements" / "site.txt"
FILES = "files"  # the folder of the site for what lies outside of docs

_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)([^)\s]*\))")


class NotMadeError(Exception):
    """The environment cannot be made here, or the site has a fault; the text says which."""


def zensical() -> Path:
    """Return the program; its environment is made if it is not there, by one process at a time.

    Raises:
        NotMadeError: it cannot be made.
    """
    locked = f"{sys.version}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    kept, program = ENVIRONMENT / "holds.txt", ENVIRONMENT / "bin" / "zensical"
    with ENVIRONMENT.with_name(f"{ENVIRONMENT.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists() and kept.read_text(encoding="utf-8") == locked and program.exists():
            return program
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        uv = str(Path(sys.executable).with_name("uv"))
        own = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "VIRTUAL_ENV"))}
        install = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--python",
            str(ENVIRONMENT / "bin" / "python"),
        ]
        for command in (
            [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(ENVIRONMENT)],
            [*install, "-r", str(REQUIREMENTS)],
        ):
            done = subprocess.run(command, text=True, capture_output=True, check=False, env=own)
            if done.returncode:
                raise NotMadeError(f"Zensical cannot be installed: {done.stderr.strip()[-500:]}")
        kept.write_text(locked, encoding="utf-8")
    return program


def build(folder: Path) -> Path:
    """Build the site in `folder`, which is empty, and return where it is.

    Raises:
        NotMadeError: Zensical is not here, or complains.
    """
    program = zensical()
    shutil.copytree(ROOT / "docs", folder / "docs")
    for page in sorted((folder / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        brought = functools.partial(_brought, page=page, folder=folder)
        page.write_text(_LINK.sub(brought, text), encoding="utf-8")
    settings = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    (folder / "zensical.toml").write_text(settings.replace("build/site", "site"), encoding="utf-8")
    done = subprocess.run(
        [program, "build", "--clean", "--strict"], cwd=folder, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise NotMadeError(f"the site cannot be built:\n{done.stdout}{done.stderr}")
    return folder / "site"


def _brought(link: re.Match[str], page: Path, folder: Path) -> str:
    """Return a link; what it leads to is brought along if it is not one of the pages."""
    docs = folder / "docs"
    original = ROOT / "docs" / page.relative_to(docs)
    target = (original.parent / link[2]).resolve()
    if target.is_relative_to(ROOT / "docs"):
        return link[0]
    place = docs / FILES / target.relative_to(ROOT)
    if target.is_dir():
        names = sorted(path.name for path in target.iterdir() if path.is_file())
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(target / name, place / name)
        listed = "\n".join(f"- [{name}]({name})" for name in names)
        place /= "index.md"
        place.write_text(f"# {target.relative_to(ROOT)}\n\n{listed}\n", encoding="utf-8")
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, place)
    return f"{link[1]}{os.path.relpath(place, page.parent)}{link[3]}"


class _Page(HTMLParser):
    """What a page links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        for name, value in attrs:
            if value and name == "id":
                self.anchors.add(value)
            if value and name in {"href", "src"} and tag in {"a", "img", "script", "link"}:
                self.links.append(value)


def faults(site: Path) -> list[str]:
    """Return every link of a site that leads nowhere, or fetches something from elsewhere."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # it may be shown for any address
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = target.exists() and (
                target not in pages or unquote(parts.fragment) in pages[target].anchors
            )
            if not there:
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def main() -> None:
    """Build the site into build/site."""
    place = ROOT / "build" / "docs"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        built = build(place)
    except NotMadeError as error:
        sys.exit(str(error))
    wrong = faults(built)
    if wrong:
        sys.exit("\n".join(["links that lead nowhere:", *wrong]))
    site = ROOT / "build" / "site"
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(built, site)
    shutil.rmtree(place)
    print(f"open {site.relative_to(ROOT)}/index.html")


if __name__ == "__main__":
    main()
