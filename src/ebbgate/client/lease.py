"""The lease that a block is given."""

import contextlib
import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Final, Protocol

from ebbgate.client.misuse import NotPickled
from ebbgate.core.commands import Held
from ebbgate.core.model import RETAKEABLE, SECOND
from ebbgate.errors import EventLoopClosedWarning, LeaseLost, LeaseLostWarning, warn
from ebbgate.wire.showing import instant

_log: Final = logging.getLogger("ebbgate")

_SAFETY_US: Final = 100_000  # beside 1 %: the client stops first


class ClosableLoop(Protocol):
    """What a lease needs to know of an event loop: asyncio is not imported for it."""

    def is_closed(self) -> bool:
        """Return whether it was closed."""


class HoldingTask(Protocol):
    """The same of a task."""

    def done(self) -> bool:
        """Return whether it has ended."""

    def get_loop(self) -> ClosableLoop:
        """Return its event loop."""


class Lease(NotPickled):
    """Slots that are held, as long as the block runs.

    It is renewed in the background. `lost` tells, at every read, whether it still protects the block.
    """

    __slots__ = (
        "_clock",
        "_expires_us",
        "_on_loss",
        "_why",
        "deadline_us",
        "duration_us",
        "ended",
        "fencing_token",
        "id",
        "is_open",
        "names",
        "protected",
        "renewed_us",
        "retake",
        "session",
        "task",
        "unrenewable",
        "waited_seconds",
    )  # fmt: skip

    _instead: ClassVar[str] = "pass its id or its fencing_token"

    def __init__(
        self,
        held: Held,
        names: tuple[str, ...],
        duration_us: int,
        *,
        session: str,
        clock: Callable[[], int],
        sent_us: int,
        waited_us: int,
        on_loss: Callable[["Lease"], None],
        retake: bool,
    ) -> None:
        """Take over what was granted by a command sent at `sent_us` of the local clock."""
        self.id = held.id
        self.names = names
        self.session = session
        self.fencing_token = held.token
        self.protected = held.protected
        self.duration_us = duration_us
        self.retake = retake
        self.waited_seconds = waited_us / SECOND
        self._clock = clock
        self._expires_us = held.expires_us
        self._on_loss = on_loss
        self._why = ""
        self.unrenewable = ""  # why no renewal can succeed at present
        self.ended = False
        self.task: HoldingTask | None = None
        self.is_open = True  # whether its block is still entered
        self._set_deadline(sent_us)

    def _set_deadline(self, sent_us: int) -> None:
        self.renewed_us = sent_us
        self.deadline_us = sent_us + self.duration_us - self.duration_us // 100 - _SAFETY_US

    @property
    def expires_at(self) -> datetime:
        """When the countdown ends unless it is renewed before, by the store's clock."""
        return instant(self._expires_us)

    @property
    def lost(self) -> bool:
        """Whether the slots may be somebody else's by now; once true it stays true."""
        if self._why:
            return True
        if self.protected and self._clock() >= self.deadline_us:
            self.lose(self.unrenewable or "not renewed in time")
            return True
        return False

    def seconds_left(self) -> float:
        """Return for how long this lease protects the block if it is not renewed again."""
        return (self.deadline_us - self._clock()) / SECOND if self.protected else math.inf

    @property
    def why(self) -> str:
        """Why it was lost; "" as long as it is not known to be."""
        return self._why

    def raise_if_lost(self) -> None:
        """Raise `LeaseLost` if the slots may be somebody else's by now."""
        if self.lost:
            raise LeaseLost(self.id, self.names, self._why)

    def renewed(self, outcome: Held, sent_us: int) -> None:
        """Take in a renewal that was sent at `sent_us` of the local clock."""
        self.unrenewable = ""
        again = outcome.token != self.fencing_token
        if again:  # before the countdown: `lost` must not be false in between
            self.fencing_token = outcome.token
            self._why = f"it had expired and was taken again, under the fencing token {outcome.token}"
        self._expires_us = outcome.expires_us
        self._set_deadline(sent_us)
        if again:  # told again, with the new token
            self._on_loss(self)

    def end(self, why: str, *, finally_: bool = False) -> None:
        """Note that the store has ended the lease; `finally_`: a renewal was too late to take it again."""
        self.ended = finally_ or why not in RETAKEABLE
        self.lose(why)

    def lose(self, why: str) -> None:
        """Note that the slots may be somebody else's; whoever is to know is told once."""
        if not self._why:
            self._why = why or "unknown to the store"
            self._on_loss(self)

    def leave_closed_loop(self) -> bool:
        """Return whether the task inside the block can never leave it, because its event loop was closed.

        The lease is lost then, without a call of `on_loss`. A task that has ended left the block open on purpose, for
        another loop to leave.
        """
        if self.task is None or self.task.done() or not self.task.get_loop().is_closed():
            return False
        self.ended = True
        self._why = self._why or "its event loop was closed"
        return True

    def __repr__(self) -> str:
        """Show what matters when debugging."""
        state = f"lost: {self._why}" if self._why else "held"
        return f"<Lease {self.id} of {', '.join(self.names)} ({state})>"


def warn_of_closed_loop(lease: Lease) -> None:
    """Warn that the slots of a block were released because it can never be left."""
    message = (
        f"an event loop was closed while a task was inside a block of {', '.join(lease.names)}, so its slots are "
        "released. "
        "Cancel the tasks of a loop and run it until they have ended before you close it, as asyncio.run() does"
    )
    _log.warning("%s", message)
    with contextlib.suppress(
        EventLoopClosedWarning
    ):  # an error by the user's filters, where nobody could catch it
        warn(message, EventLoopClosedWarning)


def warn_of_loss(lease: Lease) -> None:
    """Warn that a block goes on without its slots."""
    message = f"{lease!r}: the block goes on unprotected; use strict=True to stop it instead"
    _log.warning("%s", message)
    with contextlib.suppress(LeaseLostWarning):  # an error by the user's filters, where nobody could catch it
        warn(message, LeaseLostWarning)
