"""The URL of a store in Redis or Valkey, taken apart.

    redis://user:password@host:6379/0?namespace=payments

`valkey:` means the same; `rediss:` and `valkeys:` are encrypted. What the client library knows may stand there too.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio.connection import Connection, parse_url

from ebbgate.errors import InvalidRequest
from ebbgate.stores.network import namespace_of, take_out

KINDS: Final = ("limit", "meter", "session", "lease", "request")
"""The kinds of records, each of which has a hash."""

_DEFAULTS: Final = {
    "protocol": 2,
    "socket_timeout": None,
    "socket_connect_timeout": None,
    "client_name": "ebbgate",
}
_DATABASE: Final = re.compile(r"/?[0-9]*")
_SCHEMES: Final = {"valkey": "redis", "valkeys": "rediss"}


@dataclass(frozen=True)
class RedisPlace:
    """One namespace of one server."""

    options: dict[str, Any] = field(repr=False)
    namespace: str

    def __str__(self) -> str:
        """Name it for people; without the password."""
        options = self.options
        user = f"{options['username']}@" if options.get("username") else ""
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        return f"redis://{user}{host}:{port}/{options.get('db', 0)} (namespace {self.namespace})"

    def key(self, what: str) -> str:
        """Name a key of this namespace; the part in braces puts all of them on one node of a cluster."""
        return f"ebbgate:{{{self.namespace}}}:{what}"

    def connection(self) -> Connection:
        """Return a connection that is not connected yet."""
        options = dict(self.options)
        made: Connection = options.pop("connection_class", Connection)(**options)
        return made


def place_of(url: str) -> RedisPlace:
    """Return what the URL of a store in Redis names.

    Raises:
        InvalidRequest: it cannot be understood; the error does not repeat it, for it may hold a password.
    """
    rest, taken = take_out(url, "namespace")
    scheme, colon, address = rest.partition(":")
    try:
        options: dict[str, Any] = {**_DEFAULTS, **parse_url(_SCHEMES.get(scheme, scheme) + colon + address)}
        if options.pop("path", None) or not _DATABASE.fullmatch(urlsplit(rest).path):
            raise ValueError
        place = RedisPlace(options, namespace_of(taken))
        place.connection()
    except (ValueError, TypeError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(
            "the URL of the store is not one that Redis understands; write "
            "redis://user:password@host:6379/0?namespace=name, with special characters of the password as %XX"
        ) from None
    return place
