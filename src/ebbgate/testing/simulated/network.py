"""The network between clients and servers: slow, lossy, and sometimes cut.

Streams are connections, see `Wire`; single requests and their answers are messages.
"""

from collections.abc import Callable

from ebbgate.testing.simulated.kernel import Kernel, Process
from ebbgate.testing.simulated.wire import Wire


class Network:
    """Carries messages; each may be lost, late, doubled or overtaken by another."""

    def __init__(self, kernel: Kernel, count: Callable[[str], None]) -> None:
        """Lose nothing yet; set the probabilities."""
        self.kernel = kernel
        self.lost = 0.0
        self.late = 0.0
        self.doubled = 0.0
        self.reset = 0.0  # a connection, at each message that is said over it
        self.wires: dict[Wire, None] = {}
        self.count = count
        self._cut: dict[frozenset[str], int] = {}

    def cut(self, one: str, other: str) -> None:
        """Cut the wire between two."""
        ends = frozenset((one, other))
        self._cut[ends] = self._cut.get(ends, 0) + 1

    def mend(self, one: str, other: str) -> None:
        """Mend it, if nobody else has cut it too."""
        ends = frozenset((one, other))
        self._cut[ends] -= 1
        if not self._cut[ends]:
            del self._cut[ends]
            for wire in list(self.wires):
                if ends == {wire.up.source.name, wire.up.target.name}:
                    wire.mended()

    def is_cut(self, one: str, other: str) -> bool:
        """Tell whether nothing gets through between two."""
        return frozenset((one, other)) in self._cut

    def send(
        self, source: Process, target: Process, arrive: Callable[[], None], *, sure: bool = False
    ) -> None:
        """Have `arrive` happen at `target` a little later, or not at all; `sure`: unless the wire is cut."""
        if self.is_cut(source.name, target.name):
            self.count("message lost in a partition")
            return
        if not sure and self.kernel.happens(self.lost):
            self.count("message lost")
            return
        delay_us = self.kernel.between(100, 20_000)
        if not sure and self.kernel.happens(self.late):
            self.count("message late")
            delay_us = self.kernel.between(100_000, 20_000_000)
        target.soon(arrive, delay_us)
        if not sure and self.kernel.happens(self.doubled):
            self.count("message doubled")
            target.soon(arrive, self.kernel.between(100, 20_000_000))
