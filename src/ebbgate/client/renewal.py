"""Keeping the leases of a process alive, and releasing those whose caller is gone: what is due when, and the thread."""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from ebbgate.background import BackgroundThread
from ebbgate.client.claims import Claim, Claims
from ebbgate.client.lease import Lease, warn_of_closed_loop, warn_of_loss
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import FOR_EVER_US, Command, Ended, Held, Outcome, Refused, Release, Renew, Waiting
from ebbgate.core.model import SECOND
from ebbgate.counting import counted
from ebbgate.errors import EbbgateError

_log: Final = logging.getLogger("ebbgate")

_RETRY_US: Final = SECOND
_LONG_US: Final = 3_600 * SECOND
_LATER_US: Final = 300 * SECOND  # how long a release that failed is worth retrying
_REAP_US: Final = SECOND // 2  # how often callers that are gone are looked for while the process acquires
_LINGER: Final = 10  # how many times more after the last acquisition


class Upkeep:
    """What a process owes its leases. It has no clock, thread or I/O: a simulation runs the same code."""

    def __init__(self, holding: dict[str, Lease], uniform: Callable[[float, float], float]) -> None:
        """Look after `holding`, in which leases come and go; `uniform` gives a random number in between."""
        self.releases: list[tuple[Release, int]] = []  # that failed, and until when they are worth retrying
        self._holding = holding
        self._uniform = uniform
        self._hurried_us = -1  # all that was not renewed since then is due

    def hurry(self, now_us: int) -> None:
        """Have every lease renewed at once: after a new connection, or when the store's clock ran ahead."""
        self._hurried_us = now_us

    def next_us(self, now_us: int) -> int:
        """Return when to look again."""
        dues = [now_us + _LONG_US]
        for lease in list(self._holding.values()):
            if not _is_worth_renewing(lease):
                continue
            if lease.protected and not lease.lost:  # one without slots has none to lose
                dues.append(lease.deadline_us)  # then it is lost, and whoever holds it is told
            due_us = now_us if lease.renewed_us < self._hurried_us else planned_us(lease)
            # Late already: the last try failed. A little randomness keeps processes from retrying in step.
            dues.append(due_us if due_us > now_us else now_us + round(_RETRY_US * self._uniform(0.5, 1.0)))
        if self.releases:
            dues.append(now_us + _RETRY_US)
        return min(dues)

    def due(self, now_us: int) -> list[Lease]:
        """Return every lease with less than two thirds of its time left: they are renewed in one batch."""
        return [
            lease
            for lease in list(self._holding.values())
            if now_us >= self._due_us(lease) and _is_worth_renewing(lease)
        ]

    def _due_us(self, lease: Lease) -> int:
        return (
            self._hurried_us
            if lease.renewed_us < self._hurried_us
            else lease.renewed_us + lease.duration_us // 3
        )

    @staticmethod
    def renewals(due: Sequence[Lease], epoch: int) -> list[Renew]:
        """Return the commands that renew these leases."""
        return [Renew(lease.id, lease.session, epoch, lease.duration_us, lease.retake) for lease in due]

    def renewed(self, due: Sequence[Lease], outcomes: Sequence[Outcome | None], sent_us: int) -> None:
        """Take in what became of renewals that were sent at `sent_us`; None: nobody knows."""
        for lease, outcome in zip(due, outcomes, strict=True):
            if self._holding.get(lease.id) is not lease:
                continue  # its block was left meanwhile: that it has ended is no loss
            match outcome:
                case Held():
                    lease.renewed(outcome, sent_us)
                case Ended(why=why):
                    lease.end(why, finally_=True)
                case Refused(code=code):
                    lease.end(code, finally_=True)
                case Waiting():  # the store has lost its tail, and with it the grant
                    lease.end("forgotten by the store", finally_=True)

    def due_releases(self, now_us: int) -> list[tuple[Release, int]]:
        """Take out the releases to be tried again; `releases` takes those that fail once more."""
        releases = self.releases[:]
        del self.releases[: len(releases)]  # the list stays: another thread may be about to append to it
        return [(command, until_us) for command, until_us in releases if until_us > now_us]


class RenewalGate(Protocol):
    """What the renewer needs of a gate."""

    holding: dict[str, "Lease"]

    @property
    def epoch(self) -> int:
        """The epoch of its sessions, where they have one together."""

    def clock(self) -> int:
        """Return the local time in microseconds."""

    def call(self, commands: Sequence[Command]) -> Sequence[Outcome | None]:
        """Carry out commands; None stands for an outcome that is not known."""

    def listen(self, timeout_seconds: float) -> None:
        """Return when something may have become of a held lease, or after the timeout."""

    def interrupt(self) -> None:
        """Make `listen` return now."""


if TYPE_CHECKING:
    from ebbgate.client.gate import Place


def planned_us(lease: Lease) -> int:
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
        self._thread: BackgroundThread | None = None
        self._starting = threading.Lock()
        self._planned_us = 0
        self.claims = Claims()
        self._is_idle = False  # whether it sleeps although a claim may be added
        self._upkeep = Upkeep(gate.holding, Random().uniform)  # noqa: S311 - its own: programs may have seeded everybody's
        self._losses: list[Lease] = []
        self._over = threading.Event()

    def claim(self, alive: object, lease_id: str, place: "Place") -> None:
        """Have a lease that is about to be requested released when its caller is gone; see `Claims.add`."""
        self.claims.add(alive, lease_id, place)
        if self._thread is None:
            with contextlib.suppress(RuntimeError):  # no thread can be started now; `hold` says so
                self._start()
        elif self._is_idle:
            self._is_idle = False
            self._gate.interrupt()

    def hold(self, lease: Lease) -> None:
        """Keep a lease alive from now on.

        Raises:
            RuntimeError: the thread cannot be started.
        """
        self._gate.holding[lease.id] = lease
        if self._thread is None:
            self._start()
        elif planned_us(lease) < self._planned_us:
            self._gate.interrupt()

    def hurry(self) -> None:
        """Renew every lease at once; from any thread."""
        self._upkeep.hurry(self._gate.clock())
        if self._thread is not None:
            self._gate.interrupt()

    def drop(self, lease: Lease) -> None:
        """Never renew a lease again: its block is left."""
        lease.is_open = False
        self._gate.holding.pop(lease.id, None)

    def release_later(self, command: Release) -> None:
        """Retry a release that failed, for as long as the lease could still be held."""
        self._upkeep.releases.append((command, self._gate.clock() + _LATER_US))
        self._look()

    def watch(self) -> None:
        """Start the thread for tasks that wait: it notices when their event loop is closed."""
        if self._thread is None:
            with contextlib.suppress(RuntimeError):  # there can be no thread now
                self._start()

    def take_left(self) -> list[Release]:
        """Drop the leases whose event loops were closed, with a warning, and return what releases them."""
        left = [lease for lease in list(self._gate.holding.values()) if lease.leave_closed_loop()]
        for lease in left:
            self.drop(lease)
            warn_of_closed_loop(lease)
        return [Release(lease.id, lease.session, self._gate.epoch) for lease in left]

    def tell_loss(self, lease: Lease) -> None:
        """Warn of a loss from the thread: whoever noticed it may hold locks."""
        self._losses.append(lease)
        self._look()

    def keep_quiet(self, _lease: Lease) -> None:
        """Warn nobody of a loss: whoever is strict learns of it when the block is left."""

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        thread = self._thread
        if thread is not None and not thread.is_current():
            self._gate.interrupt()
            thread.join(1)

    def lose_all(self, why: str) -> None:
        """End every lease that is still held, and warn of it; the thread has been stopped."""
        for lease in list(self._gate.holding.values()):
            lease.end(why, finally_=True)
        while self._losses:
            warn_of_loss(self._losses.pop())

    def _look(self) -> None:
        """Have the thread see to it at once."""
        if self._thread is not None:
            self._gate.interrupt()
            return
        with contextlib.suppress(RuntimeError):  # there can be no thread now: the next lease starts it
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._over.is_set():
                thread = BackgroundThread(lambda: self._run(thread), "ebbgate-renewer")
                thread.start()

    def _run(self, thread: BackgroundThread) -> None:
        # Here and not where it is started: an exception from outside can arrive there after the thread has begun.
        if self._thread is not None:
            return
        self._thread = thread
        while not self._over.is_set():
            try:
                self._serve()
            except BaseException:  # noqa: BLE001 - the thread must outlive everything, or leases are lost
                _log.exception("the renewer failed; it goes on")
                self._over.wait(_RETRY_US / SECOND)

    def _serve(self) -> None:
        idle_turns = 0
        added = -1
        while not self._over.is_set():
            self._reap()
            self._renew()
            self._release()
            self._planned_us = FOR_EVER_US  # who holds a lease from now on rings: it may not be counted
            planned_us = self._upkeep.next_us(self._gate.clock())
            while self._losses:
                warn_of_loss(self._losses.pop())
            idle_turns = 0 if self.claims.added != added else idle_turns + 1
            added = self.claims.added
            self._is_idle = idle_turns > _LINGER and not self.claims
            if self.claims.added != added:
                self._is_idle = False
            if not self._is_idle:
                planned_us = min(planned_us, self._gate.clock() + _REAP_US)
            self._planned_us = planned_us
            self._gate.listen(max(planned_us - self._gate.clock(), 0) / SECOND)

    def _reap(self) -> None:
        """Release the leases whose callers are gone."""
        until_us = self._gate.clock() + _LATER_US
        for claim in self.claims.abandoned():
            self._abandon(claim, until_us)

    def _abandon(self, claim: Claim, until_us: int) -> None:
        lease = self._gate.holding.pop(claim.lease_id, None)
        if lease is not None:
            lease.is_open = False
        place = claim.place
        place.forget(Waiter(claim.lease_id))
        _log.info("the caller of lease %s is gone; it is released", claim.lease_id)
        self._upkeep.releases.append((Release(claim.lease_id, place.session, place.epoch), until_us))

    def _renew(self) -> None:
        gate = self._gate
        sent_us = gate.clock()
        due = self._upkeep.due(sent_us)
        if not due:
            return
        try:
            outcomes = gate.call(self._upkeep.renewals(due, gate.epoch))
        except EbbgateError as error:
            _log.info("could not renew %s yet: %s", counted(len(due), "lease"), error)
            return
        self._upkeep.renewed(due, outcomes, sent_us)

    def _release(self) -> None:
        releases = self._upkeep.due_releases(self._gate.clock())
        if not releases:
            return
        outcomes: Sequence[Outcome | None] = [None] * len(releases)
        try:
            outcomes = self._gate.call([command for command, _ in releases])
        except EbbgateError as error:
            _log.info("could not release %s yet: %s", counted(len(releases), "lease"), error)
        finally:
            unknown = zip(releases, outcomes, strict=True)
            self._upkeep.releases += [release for release, outcome in unknown if outcome is None]
