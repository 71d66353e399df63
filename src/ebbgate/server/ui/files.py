"""The files of the pages, as they are sent: read once, named by what they hold, compressed when first asked for.

All but the page itself stand under an address with the digest of all of them, so that a browser may keep them
for ever, and modules name each other by relative paths. Modules by others are vendored; `manifest.json` tells
from where, and under which bare name they are imported.
"""

import gzip
import json
from base64 import b64encode
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

_HERE: Final = Path(__file__).parent
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".json": b"application/json",
}
_WORKER: Final = "shared.js"
_LATER: Final = frozenset({_WORKER, "charts.js", "vendor/uPlot.js"})  # fetched by who needs them
_COMPRESSED_FROM_BYTES: Final = 500
_FOR_EVER: Final = b"public, max-age=31536000, immutable"
_ASK_FIRST: Final = b"no-cache"

Headers = tuple[tuple[bytes, bytes], ...]


class File:
    """One file, in the form in which it is sent."""

    def __init__(self, suffix: str, body: bytes, more: Headers, *, for_ever: bool) -> None:
        """Serve `body`; for ever means that it never changes under its address."""
        self.body = body
        self.etag = b'"%b"' % sha256(body).hexdigest()[:20].encode()
        self.headers: Headers = (
            (b"content-type", _TYPES[suffix]),
            (b"cache-control", _FOR_EVER if for_ever else _ASK_FIRST),
            (b"etag", self.etag),
            (b"vary", b"Accept-Encoding"),
            (b"cross-origin-resource-policy", b"same-origin"),
            *more,
        )

    @cached_property
    def compressed(self) -> bytes:
        """The body for those who take gzip; the body itself where it would gain nothing."""
        if len(self.body) < _COMPRESSED_FROM_BYTES:
            return self.body
        return gzip.compress(self.body, 9, mtime=0)


class Site(NamedTuple):
    """Every file by its path on the server."""

    files: dict[str, File]

    @property
    def paths(self) -> frozenset[str]:
        """Where they are."""
        return frozenset(self.files)


def _read() -> Site:
    sources = {
        path.relative_to(folder).as_posix() if folder.name == "web" else f"vendor/{path.name}": path.read_bytes()
        for folder in (_HERE / "web", _HERE / "vendor")
        for path in sorted(folder.iterdir())
        if path.suffix in _TYPES and path.name != "manifest.json"
    }  # fmt: skip
    manifest = json.loads((_HERE / "vendor" / "manifest.json").read_bytes())
    digest = sha256()
    for name, body in sorted(sources.items()):
        digest.update(b"%d:%b%d:%b" % (len(name), name.encode(), len(body), body))
    base = f"/ui/{digest.hexdigest()[:16]}"
    page = sources.pop("index.html")
    names = {
        entry["imported_as"]: f"{base}/vendor/{entry['file']}"
        for module in manifest["modules"]
        for entry in module["files"]
        if "imported_as" in entry
    }
    imports = json.dumps({"imports": names}, sort_keys=True)
    preloads = "".join(
        f'<link rel="modulepreload" href="{base}/{name}">'
        for name in sources
        if name.endswith(".js") and name not in _LATER
    )
    shown = page.decode().replace("{{base}}", base)
    shown = shown.replace("{{imports}}", imports).replace("{{preloads}}", preloads)
    files = {
        f"{base}/{name}": File(Path(name).suffix, body, (), for_ever=True) for name, body in sources.items()
    }
    files["/"] = File(".html", shown.encode(), _page_headers(imports), for_ever=False)
    return Site(files)


def _page_headers(imports: str) -> Headers:
    """Return what makes a page safe; the only script that stands in it is the list of imports."""
    allowed = b64encode(sha256(imports.encode()).digest()).decode()
    policy = (
        "default-src 'none'",
        f"script-src 'self' 'sha256-{allowed}'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return (
        (b"content-security-policy", "; ".join(policy).encode()),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    )


SITE: Final = _read()
"""Read when a server is loaded, since the front must know the addresses."""
