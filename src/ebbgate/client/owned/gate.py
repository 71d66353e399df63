"""The gate to a file that a server owns. When the server has died, this process decides on the file itself.

What it holds and waits for stays: its sessions, under a higher epoch, become those of the embedded gate.

Known limit: clients of the dead server on other machines cannot renew then; what they hold ends when its
countdown does.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from ebbgate import settings
from ebbgate.client.gate import Gate
from ebbgate.client.lease import Lease
from ebbgate.client.owned.places import OwnedLoop, OwnedThreads
from ebbgate.client.remote.addresses import Address, addresses_of
from ebbgate.client.remote.gate import RemoteGate
from ebbgate.client.renewal import RenewalGate, Renewer
from ebbgate.core.commands import Command, Outcome, Release, Renew
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, ServerUnavailable, StoreUnavailable
from ebbgate.neighbours.owner import OwnerAddress
from ebbgate.wire.questions import Answer, Question

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate
    from ebbgate.client.embedded.heritage import Heritage

_log: Final = logging.getLogger("ebbgate")
_RETRY_US: Final = 50_000

T = TypeVar("T")

FindOwner = Callable[[], OwnerAddress | None]
OpenFile = Callable[["Heritage", int], "EmbeddedGate"]


def addresses_of_owner(owner: OwnerAddress) -> tuple[Address, ...]:
    """Return where the owner of a file is reached from the same machine."""
    if owner.socket is not None:
        return (Address("", 0, path=owner.socket),)
    return addresses_of(owner.url)


def clock() -> int:
    """Return the local time in microseconds, by the clock that files go by."""
    return time.monotonic_ns() // 1_000


class OwnedGate:
    """Carries commands to the owner of a file, or to the file."""

    clock = staticmethod(clock)

    def __init__(
        self, owner: OwnerAddress, api_key: str | None, find_owner: FindOwner, open_file: OpenFile
    ) -> None:
        """Connect on first use.

        Args:
            owner: of the file.
            api_key: for an owner that listens on no socket of its own user.
            find_owner: returns who owns the file now; None: nobody does.
            open_file: opens an embedded gate that takes over what there is, and allows leases that last so long.
        """
        self._find_owner = find_owner
        self._open_file = open_file
        self._guard = threading.Lock()
        self._is_closed = False
        self.remote = RemoteGate(addresses_of_owner(owner), api_key, clock=clock, unreachable=self._look)
        self.embedded: EmbeddedGate | None = None
        self.name = self.remote.name
        self.renewer = self.remote.renewer = Renewer(_Upkeep(self))
        self.threads = OwnedThreads(self)
        self._loops: dict[asyncio.AbstractEventLoop, OwnedLoop] = {}

    @property
    def now(self) -> "RemoteGate | EmbeddedGate":
        """Return the gate that serves now."""
        return self.embedded or self.remote

    @property
    def holding(self) -> dict[str, Lease]:
        """Return what this process holds."""
        return self.remote.renewals.holding

    # --- the owner dies

    def _look(self) -> None:
        """See why the owner cannot be reached: it has moved, or died."""
        with self._guard:
            if self._is_closed or self.embedded is not None:
                return
            try:
                owner = self._find_owner()
                if owner is not None:
                    self.remote.lead_to(addresses_of_owner(owner))
                    return

                self.embedded = self._inherit()
            except EbbgateError as error:
                _log.info("the file has no owner and cannot be opened yet: %s", error)
                return
        _log.warning("the server that owned the file is gone: this process goes on with the file itself")
        self.remote.retire()
        self.renewer.hurry()

    def _inherit(self) -> "EmbeddedGate":
        from ebbgate.client.embedded.heritage import Heritage

        sessions, epoch, shortest_us = self.remote.heritage()
        return self._open_file(Heritage(sessions, epoch, self.holding, self.renewer), shortest_us)

    def fitted(self, command: Command) -> Command:
        """Return a command as the embedded gate takes it, if that is the one that serves now."""
        embedded = self.embedded
        if embedded is not None and isinstance(command, Renew | Release):
            return replace(command, epoch=embedded.epoch)
        return command

    # --- as every gate

    def loop_place(self) -> OwnedLoop:
        """Return where the tasks of the running event loop ask from."""
        loop = asyncio.get_running_loop()
        place = self._loops.get(loop)
        if place is None:
            for other in [other for other in list(self._loops) if other.is_closed()]:
                self._loops.pop(other, None)
            place = self._loops[loop] = OwnedLoop(self)
        return place

    def is_mine(self) -> bool:
        """Tell whether this process opened the gate, and did not inherit it by a fork."""
        return not self._is_closed

    def call(self, commands: Sequence[Command]) -> list[Outcome]:
        """Carry out commands that are about limits, or about leases by an operator's word; see `Gate`."""
        return self._patiently(lambda gate: gate.call(commands))

    def question(self, question: Question) -> Answer:
        """Answer a question from the newest records; see `Gate`."""
        return self._patiently(lambda gate: gate.question(question))

    def _patiently(self, ask: Callable[[Gate], T]) -> T:
        until_us = self.clock() + round(settings.connect_timeout_seconds() * SECOND)
        while True:
            gate = self.now
            try:
                return ask(gate)
            except (ServerUnavailable, StoreUnavailable) as error:
                if gate is self.now and (not error.transient or self.clock() > until_us):
                    raise
            time.sleep(_RETRY_US / SECOND)

    def close(self, *, at_exit: bool = False) -> None:
        """Release what is held, leave the queue, and say good-bye; see `Gate`."""
        with self._guard:
            if self._is_closed:
                return
            self._is_closed = True
        if self.embedded is not None:
            self.embedded.close(at_exit=at_exit)
        self.remote.close(at_exit=at_exit)

    def abandon(self) -> None:
        """Forget everything in a child after a fork: the parent keeps it."""
        self._is_closed = True
        self.remote.abandon()
        if self.embedded is not None:
            self.embedded.abandon()


class _Upkeep:
    """What the renewer works with: the gate that serves now."""

    def __init__(self, gate: OwnedGate) -> None:
        self._gate = gate
        self.holding = gate.holding
        self.clock = gate.clock

    @property
    def _now(self) -> RenewalGate:
        return self._gate.embedded or self._gate.remote.renewals

    @property
    def epoch(self) -> int:
        return self._now.epoch

    def call(self, commands: Sequence[Command]) -> Sequence[Outcome | None]:
        return self._now.call([self._gate.fitted(command) for command in commands])

    def listen(self, timeout_seconds: float) -> None:
        self._now.listen(timeout_seconds)

    def interrupt(self) -> None:
        self._now.interrupt()
