"""The server's REST interface, version 1: requests that may be sent again, answers or problems."""

import http.client
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from ebbgate_terraform import version
from ebbgate_terraform.problems import Problem

TIMEOUT_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 5.0
"""How long a server that does not answer is asked again; far less than the minute it remembers requests."""

PAGE_SIZE: Final = 1_000
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024

_PORTS: Final = {"ebbgate": 4220, "ebbgates": 443, "http": 80, "https": 443}
_SECURE: Final = frozenset({"ebbgates", "https"})
_BUSY: Final = frozenset({502, 503, 504})
_PAUSES_SECONDS: Final = (0.0, 0.1, 0.3, 0.6, 1.0)

UNAVAILABLE: Final = "server_unavailable"
NOT_AUTHORIZED: Final = "not_authorized"
NO_URL: Final = "no_url"


class Address(NamedTuple):
    """One server."""

    host: str
    port: int
    secure: bool
    prefix: str  # a path before all of the server's own

    def __str__(self) -> str:
        """Show it as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.prefix}"


def addresses_of(url: str) -> tuple[Address, ...]:
    """Return the servers that a URL names; several stand behind each other, comma separated.

    Raises:
        Problem: it names something else.
    """
    found: list[Address] = []
    shown = re.sub(r"\?.*", "?***", re.sub(r"[^/,]*@", "***@", url))  # a key in it is told nobody
    scheme = ""
    for part in filter(None, (part.strip() for part in url.split(","))):
        text = part if "://" in part or not scheme else f"{scheme}://{part}"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise _no_server(f"{shown!r} names no server: {error}") from None
        scheme = parts.scheme
        if scheme in {"sqlite", "memory"}:
            raise _no_server(
                f"{shown!r} is a store of one machine, and Terraform needs a server; start one: ebbgate serve"
            )
        if scheme not in _PORTS or not parts.hostname:
            raise _no_server(f"{shown!r} names no server")
        if parts.username or parts.password:
            raise _no_server("an API key does not belong into the URL; set api_key or EBBGATE_API_KEY")
        if parts.query or parts.fragment:
            raise _no_server(f"{shown!r}: nothing is known that could be said after ? or #")
        found.append(
            Address(parts.hostname, port or _PORTS[scheme], scheme in _SECURE, parts.path.rstrip("/"))
        )
    if not found:
        raise _no_server("no server is named")
    return tuple(found)


def _no_server(detail: str) -> Problem:
    hint = "" if ";" in detail else "; write ebbgate://host:4220, or ebbgates://host for TLS"
    return Problem(NO_URL, "The server's address is not known", f"{detail}{hint}")


class Rest:
    """One server, or several with the same limits; may be used by many threads at once."""

    def __init__(self, url: str, api_key: str = "", ca_file: str = "") -> None:
        """Ask at `url`.

        Args:
            url: as in `EBBGATE_URL`.
            api_key: authenticates; "" none.
            ca_file: PEM file of the authority that signed the server's certificate; "" the system's.

        Raises:
            Problem: one of them cannot be used.
        """
        self.url = url
        self._addresses = addresses_of(url)
        self._headers = {
            "Accept": "application/json", "User-Agent": f"ebbgate-terraform/{version()}",
        }  # fmt: skip
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise Problem(
                    NOT_AUTHORIZED, "The API key is not accepted", "it holds characters that no key has"
                )
            self._headers["Authorization"] = f"Bearer {api_key}"
        try:
            self._context = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise Problem(
                "no_ca_file", "The authority's certificate cannot be read", f"{ca_file}: {error}"
            ) from None
        self._own = threading.local()

    # --- limits

    def create(self, limit: Mapping[str, object]) -> dict[str, Any]:
        """Create a limit and return it as it is shown."""
        return self._ask("POST", "/v1/limits", limit)

    def read(self, name_or_id: str) -> dict[str, Any]:
        """Return a limit and what is going on at it."""
        return self._ask("GET", _at(name_or_id))

    def change(self, limit_id: str, change: Mapping[str, object]) -> dict[str, Any]:
        """Change what is given of a limit and return it."""
        return self._ask("PATCH", _at(limit_id), change)

    def delete(self, limit_id: str, *, force: bool) -> None:
        """Delete a limit; with `force` also if it is in use."""
        self._ask("DELETE", f"{_at(limit_id)}{'?force=true' if force else ''}")

    def list(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        """Yield all limits whose name begins with `prefix`, by name."""
        cursor = ""
        while True:
            asked = {"prefix": prefix, "page_size": PAGE_SIZE, **({"cursor": cursor} if cursor else {})}
            page = self._ask("GET", f"/v1/limits?{urlencode(asked)}")
            yield from page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return

    def check(self) -> None:
        """Return if the server answers and lets this key in.

        Raises:
            Problem: it does not.
        """
        page = self._ask("GET", "/v1/limits?page_size=1")
        if not isinstance(page.get("items"), list):
            raise self._foreign(self._addresses[0], 200, b"")

    # --- requests

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Send a request until it is answered, for a while; the server does a change once, by its key."""
        headers = dict(self._headers)
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
            headers["Idempotency-Key"] = str(uuid.uuid4())
        until = time.monotonic() + PATIENCE_SECONDS
        problem: Problem | None = None
        tries = 0
        while problem is None or time.monotonic() < until:
            if tries:
                time.sleep(_PAUSES_SECONDS[min(tries, len(_PAUSES_SECONDS)) - 1])
            address = self._addresses[tries % len(self._addresses)]
            tries += 1
            try:
                status, answer = self._send(address, method, path, content, headers)
            except (OSError, http.client.HTTPException) as error:
                self._forget(address)
                problem = Problem(
                    UNAVAILABLE,
                    "No server answers",
                    f"{address} does not answer: {_why(error)}; is it running?",
                )
                if isinstance(error, ssl.SSLCertVerificationError):
                    break
                continue
            if status not in _BUSY:
                return self._understood(address, status, answer)
            problem = _problem(answer) or self._foreign(address, status, answer)
        assert problem is not None, "the loop was left without an answer"
        raise problem

    def _send(
        self, address: Address, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        connections: dict[Address, http.client.HTTPConnection] = self._own.__dict__.setdefault("open", {})
        connection = connections.get(address)
        if connection is None:
            if address.secure:
                connection = http.client.HTTPSConnection(
                    address.host, address.port, timeout=TIMEOUT_SECONDS, context=self._context
                )
            else:
                connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)
            connections[address] = connection
        connection.request(method, f"{address.prefix}{path}", content, headers)
        answer = connection.getresponse()
        read = answer.read(ANSWER_BYTES_MAX)
        if answer.will_close or not answer.isclosed():
            self._forget(address)
        return answer.status, read

    def _forget(self, address: Address) -> None:
        connection = self._own.__dict__.get("open", {}).pop(address, None)
        if connection is not None:
            connection.close()

    def _understood(self, address: Address, status: int, answer: bytes) -> dict[str, Any]:
        if status == 204:
            return {}
        if 200 <= status < 300:
            try:
                value = json.loads(answer)
            except ValueError:
                value = None
            if isinstance(value, dict):
                return value
        raise _problem(answer) or self._foreign(address, status, answer)

    @staticmethod
    def _foreign(address: Address, status: int, answer: bytes) -> Problem:
        begin = answer[:200].decode(errors="replace").strip()
        return Problem(
            "foreign", "This is no ebbgate server",
            f"{address} answers with status {status} and no problem document: {begin!r}; is `url` right?",
        )  # fmt: skip


def _at(name_or_id: str) -> str:
    return f"/v1/limits/{quote(name_or_id, safe='')}"


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); set EBBGATE_CA_FILE"
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _problem(answer: bytes) -> Problem | None:
    """Return the problem that an answer tells of; None: it is no problem document of ours."""
    try:
        document = json.loads(answer)
        return Problem(document["code"], document["title"], document["detail"], document)
    except (ValueError, TypeError, KeyError):
        return None
