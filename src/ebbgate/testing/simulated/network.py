"""The wires between clients and servers: slow, lossy, and sometimes cut."""

from collections.abc import Callable

from ebbgate.testing.simulated.kernel import Kernel, Process


class Network:
    """Carries messages; each may be lost, late, doubled or overtaken by another."""

    def __init__(self, kernel: Kernel, count: Callable[[str], None]) -> None:
        """Lose nothing yet; set the probabilities."""
        self.kernel = kernel
        self.lost = 0.0
        self.late = 0.0
        self.doubled = 0.0
        self._count = count
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

    def is_cut(self, one: str, other: str) -> bool:
        """Tell whether nothing gets through between two."""
        return frozenset((one, other)) in self._cut

    def send(
        self, source: Process, target: Process, arrive: Callable[[], None], *, sure: bool = False
    ) -> None:
        """Have `arrive` happen at `target` a little later, or not at all; `sure`: unless the wire is cut."""
        if self.is_cut(source.name, target.name):
            self._count("message lost in a partition")
            return
        if not sure and self.kernel.happens(self.lost):
            self._count("message lost")
            return
        delay_us = self.kernel.between(100, 20_000)
        if not sure and self.kernel.happens(self.late):
            self._count("message late")
            delay_us = self.kernel.between(100_000, 20_000_000)
        target.soon(arrive, delay_us)
        if not sure and self.kernel.happens(self.doubled):
            self._count("message doubled")
            target.soon(arrive, self.kernel.between(100, 20_000_000))
