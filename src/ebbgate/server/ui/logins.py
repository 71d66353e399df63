"""Who is logged in with a browser: an opaque cookie, made by the server from a valid key.

Known limit: log-ins are in the memory of one server. After its restart, or at another one, a person logs in again.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, MutableMapping
from hashlib import sha256
from typing import Any, Final

from ebbgate.server.keys import Keys

LOGINS: Final = "ebbgate.logins"
"""Where in a scope the log-ins stand; None when no key is needed."""

SESSION_PATH: Final = "/ui/session"
IDLE_SECONDS: Final = 12 * 3600.0
"""How long a log-in lasts after it was used last."""

LOGINS_MAX: Final = 1_000

Scope = MutableMapping[str, Any]


class Logins:
    """The log-ins at one listener."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        """Let people log in with `keys`; `clock` counts seconds."""
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # the one used last stands last

    def open(self, key: str) -> tuple[str, str] | None:
        """Return the secret of a new log-in and the id of the key; None if no such key is known."""
        key_id = self._keys.id_of(b"Bearer " + key.encode("utf-8", "replace"), basic=False)
        if key_id is None:
            return None
        secret = secrets.token_urlsafe(32)
        self._known[_digest(secret)] = (key_id, self._clock())
        while len(self._known) > LOGINS_MAX:
            self._known.popitem(last=False)
        return secret, key_id

    def id_of(self, scope: Scope, cookies: bytes) -> str | None:
        """Return the id of the key with which the sender of these cookies has logged in, None if it has not."""
        secret = _cookie(scope, cookies)
        if not secret:
            return None
        digest = _digest(secret)
        found = self._known.get(digest)
        if found is None:
            return None
        key_id, used_at = found
        now = self._clock()
        if now - used_at > IDLE_SECONDS:
            del self._known[digest]
            return None
        self._known[digest] = (key_id, now)
        self._known.move_to_end(digest)
        return key_id

    def end_all_of(self, key_ids: Collection[str]) -> None:
        """End the log-ins with these keys."""
        for digest, (key_id, _) in list(self._known.items()):
            if key_id in key_ids:
                del self._known[digest]

    def close(self, scope: Scope, cookies: bytes) -> None:
        """End a log-in."""
        self._known.pop(_digest(_cookie(scope, cookies)), None)


def cookie_header(scope: Scope, secret: str) -> bytes:
    """Return what sets the cookie, or with "" forgets it."""
    secure = "; Secure" if scope["scheme"] == "https" else ""
    kept = "" if secret else "; Max-Age=0"
    return f"{_name(scope)}={secret}; Path=/; HttpOnly; SameSite=Strict{secure}{kept}".encode()


def _name(scope: Scope) -> str:
    """Return the cookie's name; servers of one host share cookies whatever their port is, so it tells the port."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    _, _, port = host.rpartition(b":")
    name = f"ebbgate-{int(port)}" if port.isdigit() else "ebbgate"
    return f"__Host-{name}" if scope["scheme"] == "https" else name


def _cookie(scope: Scope, cookies: bytes) -> str:
    wanted = _name(scope)
    for pair in cookies.decode("latin-1").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == wanted:
            return value
    return ""


def _digest(secret: str) -> bytes:
    # What is looked up is a digest, so that the time taken by the look-up tells nothing of a secret.
    return sha256(secret.encode()).digest()
