"""The URL of a store in PostgreSQL, taken apart: what libpq is to know, and what is ours.

    postgresql://user:password@host:5432/database?namespace=payments&schema=ebbgate&listen=host:5432

Everything that libpq knows may stand there too: several hosts, sslmode, target_session_attrs and so on.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ebbgate.errors import InvalidRequest
from ebbgate.stores.network import namespace_of, take_out

SCHEMA: Final = "ebbgate"
"""The schema of a URL that names none."""

_SCHEMA_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_DEFAULTS: Final = {
    "fallback_application_name": "ebbgate",
    "connect_timeout": "3",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}


@dataclass(frozen=True)
class PostgresPlace:
    """One namespace in one schema of one database."""

    conninfo: dict[str, Any]
    listen: dict[str, Any]  # the same for the connection that listens, which must not go through a pooler
    schema: str
    namespace: str
    listens_apart: bool = False  # the URL names where to listen, and is taken at its word

    def __str__(self) -> str:
        """Name it for people; without the password."""
        info = self.conninfo
        user = f"{info['user']}@" if info.get("user") else ""
        hosts = str(info.get("host", "")).split(",")
        ports = str(info.get("port", "")).split(",")
        if len(ports) < len(hosts):
            ports *= len(hosts)
        where = ",".join(
            f"{host}:{port}" if port and not host.startswith("/") else host
            for host, port in zip(hosts, ports, strict=False)
        )
        return f"postgresql://{user}{where}/{info.get('dbname', '')} (schema {self.schema}, namespace {self.namespace})"

    @property
    def quoted_schema(self) -> str:
        """The schema as SQL wants it."""
        return f'"{self.schema}"'

    @property
    def channel(self) -> str:
        """Where commits are announced."""
        return f"ebbgate_{self._digest().hex()}"

    @property
    def lock(self) -> int:
        """The advisory lock of those who commit here."""
        return int.from_bytes(self._digest(), signed=True)

    def _digest(self) -> bytes:
        return hashlib.blake2b(f"{self.schema}/{self.namespace}".encode(), digest_size=8).digest()


def place_of(url: str) -> PostgresPlace:
    """Return what the URL of a store in PostgreSQL names.

    Raises:
        InvalidRequest: it cannot be understood; the error does not repeat it, for it may hold a password.
    """
    rest, taken = take_out(url, "namespace", "schema", "listen")
    schema = taken.get("schema", SCHEMA)
    if not _SCHEMA_NAME.fullmatch(schema):
        raise InvalidRequest(f"{schema!r} can be no schema: letters, digits and '_', first a letter or '_'")
    try:
        info = {**_DEFAULTS, **conninfo_to_dict(rest)}
    except psycopg.Error:
        raise InvalidRequest(
            "the URL of the store is not one that PostgreSQL understands; write "
            "postgresql://user:password@host:5432/database?namespace=name, "
            "with special characters of the password as %XX"
        ) from None
    listen = taken.get("listen")
    return PostgresPlace(
        info, _listening(info, listen), schema, namespace_of(taken), listens_apart=listen is not None
    )


def _listening(info: dict[str, Any], listen: str | None) -> dict[str, Any]:
    if listen is None:
        return info
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or not host:
        raise InvalidRequest(f"listen={listen} names no server; write listen=host:port")
    there = {name: value for name, value in info.items() if name != "hostaddr"}  # it would outdo the host
    return {**there, "host": host.strip("[]"), "port": port}
