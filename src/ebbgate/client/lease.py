"""The lease that a block is given, and the thread that keeps all leases of a process alive."""

import logging
import random
import threading
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from ebbgate.core.commands import Command, Ended, Held, Outcome, Refused, Release, Renew, Waiting
from ebbgate.core.model import RETAKEABLE, SECOND
from ebbgate.errors import EbbgateError, LeaseLost, LeaseLostWarning

_log: Final = logging.getLogger("ebbgate")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RETRY_US: Final = SECOND
_SAFETY_US: Final = 100_000  # beside 1 %: the client stops first
_LONG_US: Final = 3_600 * SECOND


def instant(us: int) -> datetime:
    """Return an instant of a store, in microseconds since 1970, as people read it."""
    return _EPOCH + timedelta(microseconds=us)


class RenewalGate(Protocol):
    """What the renewer needs of a gate."""

    session: str
    epoch: int
    holding: dict[str, "Lease"]

    def clock(self) -> int:
        """Return the local time in microseconds."""

    def call(self, commands: Sequence[Command]) -> list[Outcome]:
        """Carry out commands."""

    def listen(self, timeout_seconds: float) -> None:
        """Return when something may have become of a held lease, or after the timeout."""

    def interrupt(self) -> None:
        """Make `listen` return now."""


class Lease:
    """Slots that are held, as long as the block runs.

    It is renewed in the background. `lost` tells, at every read, whether it still protects the block.
    """

    __slots__ = (
        "_clock", "_expires_us", "_on_loss", "_why", "deadline_us", "duration_us", "ended", "fencing_token", "id",
        "names", "protected", "retake", "renewed_us", "waited_seconds",
    )  # fmt: skip

    def __init__(
        self,
        held: Held,
        names: tuple[str, ...],
        duration_us: int,
        *,
        clock: Callable[[], int],
        sent_us: int,
        waited_us: int,
        on_loss: Callable[["Lease"], None],
        retake: bool,
    ) -> None:
        """Take over what was granted by a command sent at `sent_us` of the local clock."""
        self.id = held.id
        self.names = names
        self.fencing_token = held.token
        self.protected = held.protected
        self.duration_us = duration_us
        self.retake = retake
        self.waited_seconds = waited_us / SECOND
        self._clock = clock
        self._expires_us = held.expires_us
        self._on_loss = on_loss
        self._why = ""
        self.ended = False
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
            self.lose("not renewed in time")
            return True
        return False

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
        self._expires_us = outcome.expires_us
        self._set_deadline(sent_us)
        if outcome.token != self.fencing_token:
            self.fencing_token = outcome.token
            self._why = ""  # so that it is told again, with the new token
            self.lose(f"it had expired and was taken again, under the fencing token {outcome.token}")

    def end(self, why: str, *, finally_: bool = False) -> None:
        """Note that the store has ended the lease; `finally_`: a renewal was too late to take it again."""
        self.ended = finally_ or why not in RETAKEABLE
        self.lose(why)

    def lose(self, why: str) -> None:
        """Note that the slots may be somebody else's; whoever is to know is told once."""
        if not self._why:
            self._why = why or "unknown to the store"
            self._on_loss(self)

    def __repr__(self) -> str:
        """Show what matters when debugging."""
        state = f"lost: {self._why}" if self._why else "held"
        return f"<Lease {self.id} of {', '.join(self.names)} ({state})>"


def warn_of_loss(lease: Lease) -> None:
    """Warn that a block goes on without its slots."""
    message = f"{lease!r}: the block goes on unprotected; use strict=True to stop it instead"
    _log.warning("%s", message)
    try:
        warnings.warn(message, LeaseLostWarning, stacklevel=2)
    except LeaseLostWarning:
        pass  # made an error by the user's filters, in a thread where nobody could catch it


def _planned_us(lease: Lease) -> int:
    """Return when a lease is renewed: a little after it is due, so that others fall due and go along."""
    return lease.renewed_us + lease.duration_us // 3 + lease.duration_us // 30


def _is_worth_renewing(lease: Lease) -> bool:
    """Tell whether a renewal may still help: one that comes too late may take the slots again."""
    return not lease.ended and (lease.retake or not lease.lost)


class Renewer:
    """One thread for all leases of a process: renews them, retries releases, and tells of losses."""

    def __init__(self, gate: RenewalGate) -> None:
        """Serve `gate`; the thread starts with the first lease."""
        self._gate = gate
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._planned_us = 0
        self._releases: list[tuple[Release, int]] = []  # (command, until when it is worth retrying)
        self._losses: list[Lease] = []
        self._stopping = False

    def hold(self, lease: Lease) -> None:
        """Keep a lease alive from now on."""
        self._gate.holding[lease.id] = lease
        if self._thread is None:
            self._start()
        elif _planned_us(lease) < self._planned_us:
            self._gate.interrupt()

    def drop(self, lease: Lease) -> None:
        """Never renew a lease again: its block is left."""
        self._gate.holding.pop(lease.id, None)

    def release_later(self, command: Release, until_us: int) -> None:
        """Retry a release that failed, until the lease would have expired anyway."""
        self._releases.append((command, until_us))
        if self._thread is None:
            self._start()
        else:
            self._gate.interrupt()

    def tell_loss(self, lease: Lease) -> None:
        """Warn of a loss from the thread: whoever noticed it may hold locks."""
        self._losses.append(lease)
        if self._thread is None:
            self._start()
        else:
            self._gate.interrupt()

    def keep_quiet(self, _lease: Lease) -> None:
        """Warn nobody of a loss: whoever is strict learns of it when the block is left."""

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._gate.interrupt()
            thread.join(1)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="ebbgate-renewer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._renew()
                self._release()
                self._planned_us = self._next_us()
            except Exception:  # the thread must outlive everything, or leases are lost
                _log.exception("the renewer failed; it goes on")
                self._planned_us = self._gate.clock() + _RETRY_US
            while self._losses:
                warn_of_loss(self._losses.pop())
            self._gate.listen(max(self._planned_us - self._gate.clock(), 0) / SECOND)

    def _next_us(self) -> int:
        now_us = self._gate.clock()
        dues = [now_us + _LONG_US]
        for lease in list(self._gate.holding.values()):
            if not _is_worth_renewing(lease):
                continue
            if not lease.lost:
                dues.append(lease.deadline_us)  # then it is lost, and whoever holds it is told
            due_us = _planned_us(lease)
            # Late already: the last try failed. A little randomness keeps processes from retrying in step.
            dues.append(due_us if due_us > now_us else now_us + round(_RETRY_US * random.uniform(0.5, 1.0)))  # noqa: S311
        if self._releases:
            dues.append(now_us + _RETRY_US)
        return min(dues)

    def _renew(self) -> None:
        """Renew, in one batch, every lease with less than two thirds of its time left."""
        gate = self._gate
        sent_us = gate.clock()
        due = [
            lease
            for lease in list(gate.holding.values())
            if sent_us >= lease.renewed_us + lease.duration_us // 3 and _is_worth_renewing(lease)
        ]
        if not due:
            return
        commands = [
            Renew(lease.id, gate.session, gate.epoch, lease.duration_us, lease.retake) for lease in due
        ]
        try:
            outcomes = gate.call(commands)
        except EbbgateError as error:
            _log.info("could not renew %d lease(s) yet: %s", len(due), error)
            return
        for lease, outcome in zip(due, outcomes, strict=True):
            match outcome:
                case Held():
                    lease.renewed(outcome, sent_us)
                case Ended(why=why):
                    lease.end(why, finally_=True)
                case Refused(code=code):
                    lease.end(code, finally_=True)
                case Waiting():
                    raise AssertionError("a held lease does not wait")

    def _release(self) -> None:
        if not self._releases:
            return
        releases, self._releases = self._releases, []
        now_us = self._gate.clock()
        worth = [(command, until_us) for command, until_us in releases if until_us > now_us]
        try:
            self._gate.call([command for command, _ in worth])
        except EbbgateError as error:
            _log.info("could not release %d lease(s) yet: %s", len(worth), error)
            self._releases.extend(worth)
