"""Creating, reading, changing and deleting limits; listing and revoking leases: the part without a wait."""

import logging
from collections.abc import Sequence
from typing import ClassVar, Final, Self

from ebbgate import settings
from ebbgate.client.connect import close_gate, gate_for, gate_if_open
from ebbgate.client.gate import Gate
from ebbgate.client.misuse import NotPickled
from ebbgate.client.terms import Seconds, microseconds
from ebbgate.core.commands import Command, CoolDown, DeleteLimit, Done, PutLimit, Refused, Revoke
from ebbgate.core.decay import parse_rate
from ebbgate.wire import LeaseInfo, LimitInfo, StatusInfo
from ebbgate.wire.ids import new_id
from ebbgate.wire.problems import error_from
from ebbgate.wire.questions import (
    PAGE_MAX,
    Answer,
    ListLeases,
    ListLimits,
    Question,
    ReadLease,
    ReadLimit,
    ReadStatus,
    page_end,
)


def _decay(slot_decay_per_second: float | str) -> float:
    return (
        parse_rate(slot_decay_per_second) if isinstance(slot_decay_per_second, str) else slot_decay_per_second
    )


_log: Final = logging.getLogger("ebbgate")


class Management(NotPickled):
    """What people and programs do with limits, beside using them."""

    _instead: ClassVar[str] = "make a client in the process that uses it"

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        """Connect on first use; see the class."""
        self.url = url or settings.url()
        self._api_key = api_key or settings.api_key()
        self._gate: Gate | None = None

    @property
    def gate(self) -> Gate:
        """The way to the store, opened on first use, and anew after a fork."""
        gate = self._gate
        if gate is None or not gate.is_mine():
            gate = self._gate = gate_for(self.url, self._api_key)
        return gate

    def connect(self) -> None:
        """Open the gate now rather than on first use.

        Raises:
            StoreUnavailable: the store cannot be opened.
        """
        self._gate = gate_for(self.url, self._api_key)

    def open_gate(self) -> Gate | None:
        """Return the gate if this process has it open already."""
        gate = self._gate
        if gate is None or not gate.is_mine():
            gate = self._gate = gate_if_open(self.url, self._api_key)
        return gate

    def close(self) -> None:
        """Release what this process still holds there and disconnect; the next use connects again."""
        if self._gate is not None:
            close_gate(self.url, self._api_key)
            self._gate = None

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def create_limit(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float | str = 0.0,
        active: bool = True,
        description: str = "",
    ) -> LimitInfo:
        r"""Create a limit.

        Args:
            name: 1 to 200 characters, none of them / \ % & > < ? #.
            limit: slots, 0 to 1,000,000,000; 0 lets nobody in.
            slot_decay_per_second: 0, or 1e-9 to 1e6 slots that come back each second; or a rate like "60/hour".
            active: False makes a limit that never blocks.
            description: for people.

        Raises:
            LimitExists: there is one of this name.
            InvalidLimit: a value is not allowed.
        """
        decay = _decay(slot_decay_per_second)
        return self._put(
            PutLimit(new_id(), "create", name, new_id(), None, limit, decay, active, description)
        )

    def update_limit(
        self,
        name_or_id: str,
        *,
        name: str | None = None,
        limit: int | None = None,
        slot_decay_per_second: float | str | None = None,
        active: bool | None = None,
        description: str | None = None,
    ) -> LimitInfo:
        """Change what is given of a limit; holders, waiters and what is spent stay.

        Args:
            name_or_id: which limit.
            name: its new name.
            limit: slots; lowering it evicts nobody.
            slot_decay_per_second: as in `create_limit`.
            active: whether it is enforced.
            description: for people.

        Raises:
            LimitNotFound: there is none of this name or id.
            LimitExists: the new name is another limit's.
            InvalidLimit: a value is not allowed.
        """
        decay = None if slot_decay_per_second is None else _decay(slot_decay_per_second)
        return self._put(
            PutLimit(new_id(), "update", name_or_id, "", name, limit, decay, active, description)
        )

    def put_limit(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float | str = 0.0,
        active: bool = True,
        description: str = "",
    ) -> LimitInfo:
        """Create a limit of this name, or make the one that exists like this; see `create_limit`."""
        decay = _decay(slot_decay_per_second)
        return self._put(PutLimit(new_id(), "put", name, new_id(), None, limit, decay, active, description))

    def _put(self, command: PutLimit) -> LimitInfo:
        return self.read_limit(self._done(command).id)

    def _done(self, command: Command) -> Done:
        outcome = self.gate.call([command])[0]
        if isinstance(outcome, Refused):
            raise error_from(outcome)
        assert isinstance(outcome, Done), f"a limit is not answered with {outcome!r}"
        return outcome

    def read_limit(self, name_or_id: str) -> LimitInfo:
        """Return a limit and what is going on at it.

        Raises:
            LimitNotFound: there is none of this name or id.
        """
        found = self._answer(ReadLimit(name_or_id))
        assert isinstance(found, LimitInfo), "as the question promises"
        return found

    def list_limits(self, prefix: str = "") -> list[LimitInfo]:
        """Return all limits whose name begins with `prefix`, by name."""
        found: list[LimitInfo] = []
        while True:
            page = self._answer(ListLimits(prefix, found[-1].name if found else ""))
            assert isinstance(page, list), "as the question promises"
            found += [entry for entry in page if isinstance(entry, LimitInfo)]
            if len(page) < PAGE_MAX:
                return found

    def status(self) -> StatusInfo:
        """Return how much there is of everything, and the store's time."""
        found = self._answer(ReadStatus())
        assert isinstance(found, StatusInfo), "as the question promises"
        return found

    def _answer(self, question: Question) -> Answer:
        found = self.gate.question(question)
        if isinstance(found, Refused):
            raise error_from(found)
        return found

    def delete_limit(self, name_or_id: str, *, force: bool = False) -> None:
        """Delete a limit; with `force` also if it has holders or waiters.

        Raises:
            LimitNotFound: there is none of this name or id.
            LimitInUse: it has holders or waiters; the error names them.
        """
        self._done(DeleteLimit(name_or_id, force))
        _log.info("limit %r deleted%s", name_or_id, ", forced" if force else "")

    def cool_down(self, names: str | Sequence[str], seconds: Seconds, why: str = "") -> None:
        """Let nobody in at a limit for a while, as when a vendor says "too many requests"; who waits stays in line.

        Holders keep their slots, and spent slots come back meanwhile. One that lasts longer already stays.

        Args:
            names: a limit, or several; by name or id.
            seconds: from now, 0 to 86,400; 0 lets people in again at once.
            why: shown to those who wait; at most 200 characters.

        Raises:
            LimitNotFound: there is none of this name or id.
            InvalidRequest: an argument is wrong.
        """
        duration_us = microseconds("seconds", seconds)
        for name in (names,) if isinstance(names, str) else names:
            self._done(CoolDown(name, duration_us, why))

    def list_leases(self, limit: str | None = None, state: str | None = None) -> list[LeaseInfo]:
        """Return held leases, then waiting ones in their order; of one limit or all, in one state or both.

        Args:
            limit: name or id.
            state: "held", "waiting", or "ended" for those that ended last.

        Raises:
            LimitNotFound: there is no such limit.
            InvalidRequest: there is no such state.
        """
        found: list[LeaseInfo] = []
        while True:
            page = self._answer(ListLeases(limit, state, None, page_end(found)))
            assert isinstance(page, list), "as the question promises"
            found += [entry for entry in page if isinstance(entry, LeaseInfo)]
            if len(page) < PAGE_MAX:
                return found

    def list_waiters(self, limit: str | None = None) -> list[LeaseInfo]:
        """Return who waits, in order, with position, what it waits for, who holds that, and an estimate."""
        return self.list_leases(limit, "waiting")

    def read_lease(self, lease_id: str) -> LeaseInfo:
        """Return one lease, held, waiting or recently ended.

        Raises:
            LeaseNotFound: no lease has this id, or it ended too long ago.
        """
        found = self._answer(ReadLease(lease_id))
        assert isinstance(found, LeaseInfo), "as the question promises"
        return found

    def revoke_lease(self, lease_id: str) -> None:
        """Take a lease away: its slots pass on, its holder is told. A waiter is taken out of the queue.

        Raises:
            LeaseNotFound: no lease has this id, or it ended too long ago.
        """
        outcome = self.gate.call([Revoke(lease_id)])[0]
        if isinstance(outcome, Refused):
            raise error_from(outcome)
