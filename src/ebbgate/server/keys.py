"""The static API keys of a server: parsed once, kept as digests, compared in constant time.

Known limit: a key may do everything; what it may not do is renew or release what another key took.
"""

import hmac
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from ebbgate.errors import InvalidRequest

KEY_LENGTH_MIN: Final = 16
KEY_LENGTH_MAX: Final = 512

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KEY: Final = re.compile(r"[!-+\--~]+")  # printable ASCII, no space, no comma
_CREDENTIALS_LENGTH_MAX: Final = 2 * KEY_LENGTH_MAX


class Keys:
    """Which keys are let in. False when there are none, so that everybody is."""

    __slots__ = ("_known",)

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Take keys as they are written down: `KEY`, or `name=KEY`.

        The id of a key is its name, or the first 8 digits of its SHA-256. Two keys of one name are one
        client that changes its key.

        Raises:
            InvalidRequest: an entry is none; it says which one, and never what it is.
        """
        known: dict[bytes, str] = {}
        for number, entry in enumerate(entries, start=1):
            name, key = _split(entry, number)
            digest = _digest(key.encode())
            key_id = name or digest.hex()[:8]
            if known.setdefault(digest, key_id) != key_id:
                raise InvalidRequest(
                    f"API key no. {number} has two names; give every client a key of its own"
                )
        self._known = tuple((digest, key_id.encode()) for digest, key_id in known.items())

    def __bool__(self) -> bool:
        return bool(self._known)

    def __repr__(self) -> str:
        return f"Keys({len(self._known)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """What the keys are called; no secret."""
        return tuple(sorted({key_id.decode() for _, key_id in self._known}))

    def replace(self, other: "Keys") -> frozenset[str]:
        """Accept the keys of `other` from now on; return the ids of those that are no longer accepted.

        If one key of several with the same id was removed, that id is returned, too: a client that has another key
        of that id connects again.
        """
        removed = frozenset(self._known) - frozenset(other._known)
        self._known = other._known
        return frozenset(key_id.decode() for _, key_id in removed)

    def id_of(self, authorization: bytes, *, basic: bool) -> str | None:
        """Return the id of the key in an `Authorization` header, None if it holds no known one.

        Args:
            authorization: the value of the header.
            basic: whether the key may also come as a password, or in place of user and password.
        """
        scheme, _, credentials = authorization.partition(b" ")
        if len(credentials) > _CREDENTIALS_LENGTH_MAX:
            return None
        scheme = scheme.lower()
        if scheme == b"bearer":
            return self._find((credentials.strip(),))
        if basic and scheme == b"basic":
            try:
                said = b64decode(credentials.strip(), validate=True)
            except (Base64Error, ValueError):
                return None
            return self._find((said, said.partition(b":")[2], said.removesuffix(b":")))
        return None

    def _find(self, presented: tuple[bytes, ...]) -> str | None:
        # Digests have one length, and every one is looked at, so that the time taken tells nothing of the keys.
        found = b""
        for key in presented:
            digest = _digest(key)
            for known, key_id in self._known:
                if hmac.compare_digest(known, digest):
                    found = key_id
        return found.decode() or None


def keys_from(variable: str | None, file: str | None) -> Keys:
    """Return the keys of a comma separated list and of a file with one a line.

    Raises:
        InvalidRequest: one is not allowed.
    """
    entries = [entry.strip() for entry in (variable or "").split(",")]
    lines = [line.strip() for line in (file or "").splitlines()]
    return Keys(entry for entry in [*entries, *lines] if entry and not entry.startswith("#"))


def _split(entry: str, number: int) -> tuple[str, str]:
    """Return name and key; an equals sign at the end of a key is not what parts them."""
    name, parted, key = entry.partition("=")
    if not key.strip("="):
        name, parted, key = "", "", entry
    if parted and not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"API key no. {number} has a name that is not allowed; use up to 64 letters, digits, '_', '.', '-'"
        )
    if not KEY_LENGTH_MIN <= len(key) <= KEY_LENGTH_MAX or not _KEY.fullmatch(key):
        raise InvalidRequest(
            f"API key no. {number} must have from {KEY_LENGTH_MIN} to {KEY_LENGTH_MAX} characters, "
            "printable ASCII without space and comma; make one: openssl rand -hex 32"
        )
    return name, key


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
