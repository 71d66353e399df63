"""Connection slots of a server: connections that have shown no key never keep other connections or health checks out.

When the server is full, a new connection replaces the oldest connection without a key, taken from the address that
has the most of them. If every connection has shown a key, the new one gets a spare slot, which only serves health.
"""

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

SPARE_MAX: Final = 64
"""How many connections beyond the maximum may be open to ask for health."""

SPARE_SECONDS: Final = 5.0
"""How long a connection in a spare slot may take from connecting to the end of its answer."""

_NETWORK_BITS: Final = 64  # one client usually has all addresses of such an IPv6 network


class Seat:
    """The slot of one connection, from `Crowd.arrive` to `leave`."""

    __slots__ = ("_crowd", "abort", "address", "is_spare")

    def __init__(self, crowd: "Crowd", address: str, abort: Callable[[], object]) -> None:
        """Take a slot; see `Crowd.arrive`."""
        self._crowd = crowd
        self.address = address
        self.abort = abort
        self.is_spare = False

    def prove(self) -> None:
        """Note that the client has shown a key, or has used a route where no key is needed."""
        self._crowd._proved(self)

    def leave(self) -> None:
        """Free the slot; calling it again has no effect."""
        self._crowd._left(self)


class Crowd:
    """All connections of one server, over all its listeners."""

    def __init__(self, seats_max: int = 1 << 30, *, spare_max: int = SPARE_MAX) -> None:
        """Make an empty crowd.

        Args:
            seats_max: how many connections may be open, TLS handshakes included.
            spare_max: how many more may be open to ask for health.
        """
        self._seats_max = seats_max
        self._spare_max = spare_max
        self._seats: set[Seat] = set()
        self._keyless: dict[str, dict[Seat, None]] = {}  # by address, oldest first
        self._spares: dict[Seat, None] = {}

    def __len__(self) -> int:
        """Return how many connections are open, without those in spare slots."""
        return len(self._seats)

    def arrive(self, address: str, abort: Callable[[], object], *, trusted: bool = False) -> Seat:
        """Return the slot of a new connection.

        Args:
            address: of the client.
            abort: closes the connection immediately; called when another connection takes its slot.
            trusted: the connection needs no key, and never has to make room.
        """
        seat = Seat(self, network_of(address), abort)
        if len(self._seats) >= self._seats_max and not self._make_room():
            seat.is_spare = True
            if len(self._spares) >= self._spare_max:
                oldest = next(iter(self._spares))
                del self._spares[oldest]
                oldest.abort()
            self._spares[seat] = None
            return seat
        self._seats.add(seat)
        if not trusted:
            self._keyless.setdefault(seat.address, {})[seat] = None
        return seat

    def _make_room(self) -> bool:
        if not self._keyless:
            return False
        crowded = max(self._keyless.values(), key=len)
        oldest = next(iter(crowded))
        self._left(oldest)
        oldest.abort()
        return True

    def _proved(self, seat: Seat) -> None:
        keyless = self._keyless.get(seat.address)
        if keyless is not None and seat in keyless:
            del keyless[seat]
            if not keyless:
                del self._keyless[seat.address]

    def _left(self, seat: Seat) -> None:
        self._spares.pop(seat, None)
        self._seats.discard(seat)
        self._proved(seat)


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or the first half of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{int(found) >> _NETWORK_BITS:x}/{_NETWORK_BITS}"
