"""Who is at the other end of a connection, and whose word about the client is believed."""

import re
from collections.abc import MutableMapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, Literal, Self

from ebbgate.server.options import Options, canonical_host, is_loopback_name

PeerKind = Literal["proxy", "local", "foreign"]

_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{0,5})?")
_ADDRESSES_KEPT: Final = 4_096
_SCHEMES: Final = {
    b"http": ("http", "ws"),
    b"https": ("https", "wss"),
    b"ws": ("http", "ws"),
    b"wss": ("https", "wss"),
}


def is_served_name(host_header: bytes, names: frozenset[str]) -> bool:
    """Tell whether a Host header names this machine literally, or by one of `names`; the port is free."""
    found = _HOST.fullmatch(host_header)
    if found is None:
        return False
    host = canonical_host((found[1] or found[2]).decode())
    return host in names or is_loopback_name(host)


class Peers:
    """Tells named proxies and this machine from everybody else."""

    def __init__(self, networks: tuple[IPv4Network | IPv6Network, ...], *, is_plain: bool) -> None:
        """Believe those in `networks`; `is_plain` when the listener is open to a network without TLS."""
        self.is_plain = is_plain
        self._networks = networks
        self._kinds: dict[str, PeerKind] = {}

    @classmethod
    def of(cls, options: Options) -> Self | None:
        """Return what a server needs to know of its peers; None if nothing depends on it."""
        is_plain = not options.is_loopback and not options.is_tls
        return cls(options.proxy_networks, is_plain=is_plain) if options.trusted_proxies or is_plain else None

    def kind_of(self, address: str) -> PeerKind:
        """Tell what stands at an address."""
        kind = self._kinds.get(address)
        if kind is None:
            if len(self._kinds) >= _ADDRESSES_KEPT:
                self._kinds.clear()
            kind = self._kinds[address] = self._find(address)
        return kind

    def _find(self, address: str) -> PeerKind:
        found = _address(address)
        if found is None:
            return "foreign"
        if any(found.version == network.version and found in network for network in self._networks):
            return "proxy"
        return "local" if found.is_loopback else "foreign"

    def believe(self, scope: MutableMapping[str, Any], host: bytes) -> bytes:
        """Take what a named proxy says of its client into the scope; return the Host that it was asked for.

        Where several proxies wrote, the last word is the nearest one's, and the client is the last one that
        no named proxy stands for.
        """
        said: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name.startswith(b"x-forwarded-"):
                said[name] = said[name] + b"," + value if name in said else value
        schemes = _SCHEMES.get(_last(said.get(b"x-forwarded-proto", b"")).lower())
        if schemes is not None:
            scope["scheme"] = schemes[scope["type"] == "websocket"]
        for hop in reversed(said.get(b"x-forwarded-for", b"").split(b",")):
            address = _address(hop.strip().decode("latin-1"))
            if address is None:
                break
            scope["client"] = (str(address), 0)
            if self.kind_of(str(address)) != "proxy":
                break
        return _last(said.get(b"x-forwarded-host", b"")) or host


def _last(value: bytes) -> bytes:
    return value.rpartition(b",")[2].strip()


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
