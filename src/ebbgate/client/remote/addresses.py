"""Where servers are: from `EBBGATE_URL` to addresses that can be dialled."""

from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from ebbgate.errors import InvalidRequest
from ebbgate.settings import DEFAULT_PORT
from ebbgate.wire.words import without_secrets

_PORTS: Final = {"ebbgate": DEFAULT_PORT, "ebbgates": 443, "http": 80, "https": 443}
_SECURE: Final = frozenset({"ebbgates", "https"})
UNIX: Final = "ebbgate+unix"


class Address(NamedTuple):
    """One server."""

    host: str  # "": a Unix socket
    port: int
    secure: bool = False  # TLS
    path: str = ""  # of the Unix socket
    prefix: str = ""  # a path before all of the server's own, as behind a proxy

    def __str__(self) -> str:
        """Show it as it is written in a URL."""
        if self.path:
            return f"{UNIX}://{quote(self.path)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "ebbgates" if self.secure else "ebbgate"
        port = "" if self.port == _PORTS[scheme] else f":{self.port}"
        return f"{scheme}://{host}{port}{self.prefix}"


def addresses_of(url: str) -> tuple[Address, ...]:
    """Return the servers that a URL names, in its order; several stand behind each other, comma separated.

    Raises:
        InvalidRequest: it names something else.
    """
    found: dict[Address, None] = {}
    scheme = ""
    for part in url.split(","):
        text = part.strip()
        if not text:
            continue
        if "://" not in text and scheme:
            text = f"{scheme}://{text}"  # ebbgate://a:4220,b:4220
        address = _address(text, url)
        scheme = urlsplit(text).scheme
        found[address] = None
    if not found:
        raise InvalidRequest(f"{without_secrets(url)!r} names no server; write ebbgate://host:{DEFAULT_PORT}")
    return tuple(found)


def _address(text: str, url: str) -> Address:
    shown = without_secrets(url)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"{shown!r} names no server: {error}") from None
    if parts.scheme == UNIX:
        path = unquote(parts.path)
        if not path.startswith("/") or parts.netloc:
            raise InvalidRequest(f"{shown!r} names no socket; write {UNIX}:///absolute/path")
        return Address("", 0, path=path)
    if parts.scheme not in _PORTS:
        raise InvalidRequest(
            f"{shown!r} names no server; write ebbgate://host:{DEFAULT_PORT}, or ebbgates://host for TLS"
        )
    if not parts.hostname:
        raise InvalidRequest(f"{shown!r} names no host; write {parts.scheme}://host:{DEFAULT_PORT}")
    if parts.username or parts.password:
        raise InvalidRequest("an API key does not belong into the URL; set EBBGATE_API_KEY")
    if parts.query or parts.fragment:
        raise InvalidRequest(f"{shown!r}: nothing is known that could be said after ? or #")
    if port == 0:
        raise InvalidRequest(f"{shown!r}: nobody listens on port 0")
    return Address(
        parts.hostname,
        port or _PORTS[parts.scheme],
        secure=parts.scheme in _SECURE,
        prefix=parts.path.rstrip("/"),
    )


def canonical(url: str) -> str:
    """Return one address for all that name the same servers.

    Raises:
        InvalidRequest: `url` names no server.
    """
    return ",".join(sorted(str(address) for address in addresses_of(url)))
