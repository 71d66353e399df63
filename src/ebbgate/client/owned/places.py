"""Where callers ask from who use a file that a server owns, or owned."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ebbgate.client.gate import LoopPlace, ThreadPlace
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Held, Outcome, Release
from ebbgate.wire.questions import Answer, Question

if TYPE_CHECKING:
    from ebbgate.client.owned.gate import OwnedGate


class _Place:
    """The session stays, whichever gate serves it."""

    address = ""  # put in where the file itself is asked

    def __init__(self, gate: "OwnedGate", session: str) -> None:
        self._gate = gate
        self._session = session

    @property
    def session(self) -> str:
        """The session that its leases belong to."""
        embedded = self._gate.embedded
        return self._session if embedded is None or self._session in embedded.sessions else embedded.session

    @property
    def epoch(self) -> int:
        """The epoch of that session."""
        embedded = self._gate.embedded
        return embedded.epoch if embedded else self._gate.remote.epoch_of(self._session)

    def _fitted(self, command: Acquire, address: str) -> Acquire:
        """Return an acquisition as the gate takes it that serves now."""
        embedded = self._gate.embedded
        if embedded is None:
            return command
        return replace(command, session=self.session, epoch=embedded.epoch, wake=address)

    def _release(self, command: Release) -> Release:
        embedded = self._gate.embedded
        return command if embedded is None else replace(command, epoch=embedded.epoch)


class OwnedThreads(_Place):
    """Where threads ask from."""

    def __init__(self, gate: "OwnedGate") -> None:
        """Ask by the gate that serves at each moment."""
        super().__init__(gate, gate.remote.threads.session)

    @property
    def _now(self) -> ThreadPlace:
        return self._gate.now.threads

    def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """See `ThreadPlace`."""
        place = self._now
        return place.ask(self._fitted(command, place.address), waiter, until_us)

    def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """See `ThreadPlace`."""
        self._now.wait(waiter, until_us)

    def forget(self, waiter: Waiter) -> None:
        """See `Place`."""
        self._now.forget(waiter)

    def give_back(self, command: Release) -> None:
        """See `ThreadPlace`."""
        self._now.give_back(self._release(command))

    def see(self, question: Question) -> Answer | None:
        """See `ThreadPlace`."""
        return self._now.see(question)

    def counted_from(self, held: Held, started_us: int) -> int:
        """See `Place`."""
        return self._now.counted_from(held, started_us)


class OwnedLoop(_Place):
    """Where the tasks of one event loop ask from."""

    def __init__(self, gate: "OwnedGate") -> None:
        """Ask by the gate that serves at each moment."""
        super().__init__(gate, gate.now.loop_place().session)

    @property
    def _now(self) -> LoopPlace:
        return self._gate.now.loop_place()

    async def ask(self, command: Acquire, waiter: Waiter | None, until_us: int | None) -> Outcome:
        """See `LoopPlace`."""
        place = self._now
        return await place.ask(self._fitted(command, place.address), waiter, until_us)

    async def wait(self, waiter: Waiter, until_us: int | None) -> None:
        """See `LoopPlace`."""
        await self._now.wait(waiter, until_us)

    def forget(self, waiter: Waiter) -> None:
        """See `Place`."""
        self._now.forget(waiter)

    async def give_back(self, command: Release) -> None:
        """See `LoopPlace`."""
        await self._now.give_back(self._release(command))

    async def see(self, question: Question) -> Answer | None:
        """See `LoopPlace`."""
        return await self._now.see(question)

    def counted_from(self, held: Held, started_us: int) -> int:
        """See `Place`."""
        return self._now.counted_from(held, started_us)
