"""A connection between a client and a server: what is said arrives in order, until it breaks.

It does what TCP does. While the wire between both is cut, nothing arrives, and nobody hears of it; what was said
arrives after it is mended, though its sender may have given the connection up long ago. Who closes it, or dies,
has its last words delivered before the end. A reset loses what is under way, and both hear of it.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from ebbgate.testing.simulated.kernel import Process

if TYPE_CHECKING:
    from ebbgate.testing.simulated.network import Network

LATE_US: Final = (100_000, 4_000_000)
"""How long a connection stalls; for longer, and it would be as good as cut."""

REPEATED_US: Final = (200_000, 5_000_000)
"""How long after a wire is mended TCP says again what did not arrive."""


class End(Protocol):
    """One end of a connection."""

    process: Process

    def arrived(self, data: bytes) -> None:
        """Take in one message."""

    def ended(self, *, certain: bool) -> None:
        """Hear that the other end closed the connection, or that it was reset."""


class Way:
    """One direction of a connection."""

    def __init__(self, wire: "Wire", source: Process, target: Process) -> None:
        self.wire = wire
        self.source = source
        self.target = target
        self.is_open = True  # whether the target still listens
        self.ended = False  # whether the source has said its last
        self._under_way: deque[Callable[[], None]] = deque()
        self._stuck = 0  # the last so many of them, which wait for the wire to be mended
        self._due_us = 0

    def send(self, arrive: Callable[[], None]) -> None:
        """Have `arrive` happen at the target after all that was sent before."""
        self._under_way.append(arrive)
        network = self.wire.network
        if self._stuck or network.is_cut(self.source.name, self.target.name):
            network.count("message stuck in a partition")
            self._stuck += 1
        else:
            late = network.kernel.happens(network.late)
            if late:
                network.count("message late")
            self._go(LATE_US if late else (100, 20_000))

    def _go(self, delay_us: tuple[int, int]) -> None:
        kernel = self.wire.network.kernel
        self._due_us = max(self._due_us, kernel.now_us + kernel.between(*delay_us))
        kernel.after(self._due_us - kernel.now_us, self._arrive)

    def mended(self) -> None:
        """Say again what did not arrive."""
        stuck, self._stuck = self._stuck, 0
        for _ in range(stuck):
            self._go(REPEATED_US)

    def _arrive(self) -> bool:
        if not self.target.alive:
            self.wire.refused(self)
            return False
        self.target.soon(self._take)
        return False

    def _take(self) -> bool | None:
        if not self._under_way:
            return False  # lost in a reset
        arrive = self._under_way.popleft()
        if not self.is_open:
            return False
        arrive()
        return None

    def lose(self) -> None:
        """Lose the last part of what is under way."""
        kept = self.wire.network.kernel.random.randint(0, len(self._under_way))
        while len(self._under_way) > kept:
            self._under_way.pop()
        self._stuck = 0

    def end(self) -> None:
        """Have the target hear of the end, after all that was sent."""
        if not self.ended:
            self.ended = True
            self.send(lambda: self.wire.over(self))


class Wire:
    """One connection."""

    def __init__(self, network: "Network", client: End, server: Process) -> None:
        """Connect a client to a server process, which does not know yet."""
        self.network = network
        self.client = client
        self.server: End | None = None  # since it has accepted
        self.up = Way(self, client.process, server)
        self.down = Way(self, server, client.process)
        network.wires[self] = None

    def open(self, accept: Callable[["Wire"], End]) -> None:
        """Have the server accept the connection."""

        def accepted() -> None:
            self.server = accept(self)

        self.up.send(accepted)

    def say_up(self, data: bytes) -> None:
        """Send a message to the server."""
        self._say(self.up, data)

    def say_down(self, data: bytes) -> None:
        """Send a message to the client."""
        self._say(self.down, data)

    def _say(self, way: Way, data: bytes) -> None:
        if way.ended or not self.is_open(way):
            return
        network = self.network
        is_cut = network.is_cut(way.source.name, way.target.name)
        if not is_cut and network.kernel.happens(network.reset):
            network.count("connection reset")
            self.reset()
            return

        def arrive() -> None:
            end = self.server if way is self.up else self.client
            assert end is not None, "a server accepts before anything else arrives"
            end.arrived(data)

        way.send(arrive)

    def is_open(self, way: Way) -> bool:
        """Tell whether the sender of a way still has the connection."""
        return (self.down if way is self.up else self.up).is_open

    def close(self, *, by_client: bool) -> None:
        """One end closes the connection, or dies; the other hears of it after all that was said."""
        mine, theirs = (self.up, self.down) if by_client else (self.down, self.up)
        theirs.is_open = False
        mine.end()

    def reset(self) -> None:
        """Break it for both ends, with what is under way."""
        for way in (self.up, self.down):
            way.lose()
            way.end()

    def over(self, way: Way) -> None:
        """The end has arrived at the target of a way."""
        way.is_open = False
        back = self.down if way is self.up else self.up
        back.ended = True
        if not back.is_open:
            self.network.wires.pop(self, None)
        end = self.server if way is self.up else self.client
        if end is not None:
            end.ended(certain=True)

    def refused(self, way: Way) -> None:
        """Something has arrived at a process that is dead: its kernel says so."""
        back = self.down if way is self.up else self.up
        if back.is_open:
            way.is_open = False
            back.end()

    def mended(self) -> None:
        """The wire between both was cut, and is not any more."""
        self.up.mended()
        self.down.mended()
