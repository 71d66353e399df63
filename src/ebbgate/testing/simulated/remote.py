"""A client process that talks to servers over streams, with a clock of its own.

It has one or more channels, each a session of its own, and a connection of its renewer that greets for them all.
What a channel asks, keeps and sends again is decided by the real `Desk`; simulated are the sockets and threads.
"""

import math
from collections.abc import Sequence
from typing import Final, Protocol

from ebbgate.client.lease import Lease
from ebbgate.client.renewal import Upkeep
from ebbgate.core.commands import Ended
from ebbgate.core.model import SECOND
from ebbgate.testing import history as h
from ebbgate.testing.simulated.channel import Channel
from ebbgate.testing.simulated.client import renew_for_ever
from ebbgate.testing.simulated.dialling import Dialler
from ebbgate.testing.simulated.kernel import STARTED_US, Bell, Kernel, Process
from ebbgate.testing.simulated.network import Network
from ebbgate.testing.simulated.renewal import RenewalLine
from ebbgate.testing.simulated.server import Server
from ebbgate.testing.simulated.store import Access

PART_US: Final = SECOND // 10


class Outside(Protocol):
    """What clients of servers share."""

    kernel: Kernel
    access: Access
    network: Network
    servers: dict[str, Server]

    def record(self, event: h.AnyEvent) -> None:
        """Write down what a client saw."""


class RemoteProcess:
    """A client process."""

    def __init__(self, outside: Outside, name: str, drift: float, channels: int) -> None:
        """Start; its clock runs `1 + drift` times as fast as true time."""
        kernel = outside.kernel
        self.outside = outside
        self.name = name
        self.process = Process(kernel, name, outside.access.call)
        self.holding: dict[str, Lease] = {}
        self.upkeep = Upkeep(self.holding, kernel.random.uniform)
        self.renew = Bell()
        self.dialler = Dialler(outside, self.process, self.clock)
        self._rate = 1.0 + drift
        self.channels = [Channel(self, kernel.new_id()) for _ in range(channels)]
        self.renewals = RenewalLine(self)
        self.process.start(renew_for_ever(self.renewals))

    def clock(self) -> int:
        """Return the local time, by a clock that drifts."""
        return int((self.outside.kernel.now_us - STARTED_US) * self._rate)

    def true_us(self, local_us: int) -> int:
        """Return the first true instant at which the local clock shows this."""
        return STARTED_US + math.ceil(local_us / self._rate)

    def record(self, event: h.AnyEvent) -> None:
        """Write down what this client saw."""
        self.outside.record(event)

    # --- what channels and the renewer hear

    def epoch_of(self, session: str) -> int:
        """Return the present epoch of a session."""
        return max((channel.epoch for channel in self.channels if channel.session == session), default=0)

    def ended(self, ended: Ended) -> None:
        """Hear that a lease was lost."""
        lease = self.holding.get(ended.id)
        if lease is not None:
            lease.end(ended.why)
            return
        for channel in self.channels:
            if channel.lost(ended):
                return

    def hurry(self) -> None:
        """Hear that all leases are to be renewed now."""
        self.upkeep.hurry(self.clock())
        self.renew.ring()

    def attach(self, session: str) -> None:
        """Hear that a session holds its first lease over a new connection."""
        self.renewals.attach(session)

    # --- the end

    def part(self) -> None:
        """Say good-bye for all sessions, as a process does that ends in order."""
        for channel in self.channels:
            channel.part()

    def hang_up(self) -> None:
        """Have the kernel close all connections of a process that is dead."""
        for line in self.lines():
            if line.wire is not None:
                line.wire.close(by_client=True)

    def lines(self) -> "Sequence[Channel | RenewalLine]":
        """Return all that may have a connection."""
        return [*self.channels, self.renewals]
