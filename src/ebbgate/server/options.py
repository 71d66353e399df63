"""Everything that a server may be told, checked once, before anything is opened."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, Literal

from ebbgate.core.model import UnknownLimits
from ebbgate.errors import InvalidRequest
from ebbgate.server.keys import Keys
from ebbgate.settings import DEFAULT_PORT

Durability = Literal["full", "normal"]
LogLevel = Literal["debug", "info", "warning", "error"]

BODY_BYTES_MAX: Final = 1 << 20
"""How large a request's body, or a message of the stream, may be."""

_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - what is looked for, not bound
_HOST_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `ebbgate serve` may be told.

    Raises:
        InvalidRequest: something is out of its range, or would serve keys or limits to a network unprotected.
    """

    store: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT  # 0: any that is free
    durability: Durability = "full"
    allow_empty_store: bool = False  # whether a file that lost its content may be opened
    unknown_limits: UnknownLimits = "allow"
    upgrade: bool = True  # whether an older schema of a shared store is brought up
    allowed_hosts: tuple[str, ...] = ()  # names besides loopback under which clients reach the server
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None  # if given, clients must show a certificate that it signed
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks
    keys: Keys = field(default_factory=Keys)
    read_keys: Callable[[], Keys] | None = None  # reads them again, at a reload
    socket: bool = True  # beside a store that is a file, for the processes of its user
    away_grace_seconds: float = 10.0
    recovery_grace_seconds: float = 30.0
    lease_duration_min_seconds: float = 60.0
    prefect_wait_seconds: float = 10.0
    drain_seconds: float = 10.0
    connections_max: int = 10_000
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        _check_range("port", self.port, 0, 65_535)
        _check_range("away-grace", self.away_grace_seconds, 0, 3_600)
        _check_range("recovery-grace", self.recovery_grace_seconds, 0, 3_600)
        _check_range("lease-duration-min", self.lease_duration_min_seconds, 0.1, 86_400)
        _check_range("prefect-wait", self.prefect_wait_seconds, 0, 50)
        _check_range("drain-seconds", self.drain_seconds, 0, 3_600)
        _check_range("connections-max", self.connections_max, 1, 1_000_000)
        for name in self.allowed_hosts:
            if (
                not name
                or not set(name.lower()) <= _HOST_CHARACTERS
                or (":" in name and not _is_address(name))
            ):
                raise InvalidRequest(
                    f"--allowed-host {name!r} is no name; give it without scheme and port, as in gate.example.com"
                )
        _ = self.proxy_networks
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidRequest("TLS needs both --tls-cert and --tls-key")
        if self.tls_client_ca is not None and not self.is_tls:
            raise InvalidRequest("--tls-client-ca needs --tls-cert and --tls-key")
        if not self.is_loopback:
            self._check_exposure()

    def _check_exposure(self) -> None:
        if not self.keys:
            raise InvalidRequest(
                f"--host {self.host} serves other machines, and so needs API keys: set EBBGATE_API_KEYS_FILE to "
                "a file with one key a line (make one: openssl rand -hex 32), or leave --host out"
            )
        if not self.is_tls and not self.trusted_proxies:
            raise InvalidRequest(
                f"--host {self.host} would send API keys over the network for all to read: give --tls-cert and "
                "--tls-key, or name the proxy that does TLS: --trusted-proxy ADDRESS"
            )

    @property
    def is_tls(self) -> bool:
        """Whether the listener talks TLS."""
        return self.tls_cert is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the listener. A name other than localhost counts as no."""
        return is_loopback_name(self.host)

    @property
    def is_wildcard(self) -> bool:
        """Whether it listens on every address of the machine."""
        return self.host in _WILDCARDS

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Whose word about the client is believed."""
        try:
            return tuple(ip_network(text) for text in self.trusted_proxies)
        except ValueError as error:
            raise InvalidRequest(
                f"--trusted-proxy must be an address or a network, as in 10.0.0.5 or 10.0.0.0/24: {error}"
            ) from error

    @property
    def host_names(self) -> frozenset[str]:
        """The names besides loopback under which the server may be addressed, in lower case."""
        own = () if self.is_wildcard else (self.host,)
        return frozenset(canonical_host(name) for name in (*self.allowed_hosts, *own))


def is_loopback_name(host: str) -> bool:
    """Tell whether a host is literally this machine: localhost, or an address that never leaves it."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(mapped.is_loopback if mapped is not None else address.is_loopback)


def canonical_host(host: str) -> str:
    """Return one way to write a host for all that name it."""
    host = host.lower().removesuffix(".")
    try:
        return str(ip_address(host))
    except ValueError:
        return host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _check_range(flag: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also when it is not a number
        raise InvalidRequest(f"--{flag} must be from {low:g} to {high:g}, got {value:g}")
