"""The one loop between commands and a store: decide, commit, and begin again when another was quicker.

Written as generators that yield what they want of the store (`StoreCall`) and are resumed with the answer, so
that one body serves a file, driven synchronously, a server, driven by asyncio, and the simulation.

It has no rule of its own: `Book` decides. What it adds is that every answer is given on a version that was
the newest after the command arrived, and that a commit whose answer was lost is settled before anything else.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NamedTuple

from ebbgate.core.book import Book, Decision
from ebbgate.core.commands import (
    Acquire,
    Command,
    DeleteLimit,
    Held,
    Outcome,
    Refused,
    Release,
    Revoke,
    Told,
)
from ebbgate.core.model import Lease, Stored
from ebbgate.counting import counted
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Busy, Conflict, Delta, LostTail, Row, Snapshot, TooOld, Version
from ebbgate.stores.codec import decode, encode

_log: Final = logging.getLogger("ebbgate.engine")


class StoreCall(NamedTuple):
    """One method of the store, to be called by whoever drives the generator."""

    method: str
    arguments: tuple[object, ...]


# What comes back depends on the method, so the reply has no narrower type.
Reply = Any
Steps = Generator[StoreCall, Reply, None]

_CLOCK: Final = StoreCall("clock", ())

LATE_MAX: Final = 1_000
"""How many outcomes of lost answers are kept for those who ask again; some never do."""


class Batch(NamedTuple):
    """What became of one batch of commands."""

    outcomes: list[Outcome]
    told: list[Told]
    promoted: list[Lease]  # who stands first in its line now
    changes: list[Stored]  # that were committed


class _Unsettled(NamedTuple):
    """A commit of which nobody knows whether it took place."""

    commands: Sequence[Command]
    decision: Decision
    base: Version
    tag: str


class Engine:
    """A book, the version of the store it stands at, and the way from commands to committed outcomes."""

    def __init__(
        self,
        book: Book,
        *,
        new_tag: Callable[[], str],
        took_in: Callable[[Sequence[Stored] | None], None],
        is_interruptible: bool = False,
    ) -> None:
        """Make an engine that has loaded nothing yet.

        Args:
            book: decides; nobody else may change it.
            new_tag: returns a random name for a commit, never the same twice.
            took_in: called with what other processes committed, before the next decision; with None when
                everything was loaded anew.
            is_interruptible: whether it runs on threads of users, where any exception may come from outside, as
                from a signal handler. Then none is taken for a command's defect: it is raised.
        """
        self.book = book
        self.version: Version | None = None
        self.losses = 0  # how often the store was found to have lost what it had confirmed
        self._recoveries = 0  # of the book, as far as they are counted
        self._is_counted = False  # the store itself reported the loss that the book will notice next
        self._new_tag = new_tag
        self._took_in = took_in
        self._is_interruptible = is_interruptible
        self._unsettled: _Unsettled | None = None
        self._late: list[tuple[Command, Outcome]] = []  # of a batch that turned out to be committed

    @property
    def is_settled(self) -> bool:
        """Whether it is known of every commit if it took place."""
        return self._unsettled is None

    def carry_out(self, commands: Sequence[Command]) -> Generator[StoreCall, Reply, Batch]:
        """Decide `commands` in order and commit what they change.

        Raises:
            StoreUnavailable: it is not known whether they were carried out; ask again with the same commands.
            Busy: nothing was done, since the store was not to wait for others.
        """
        try:
            if self._unsettled is not None or self.version is None:
                yield from self.settle()
            late = self._late_among(commands) if self._late else {}
            left = [command for command in commands if id(command) not in late] if late else commands
            decision = yield from self._commit(left)
        except (StoreUnavailable, Busy):
            raise
        except BaseException:  # a defect, or a signal handler that raised somewhere, as at Ctrl-C
            self.forget()
            raise
        if not late:
            return Batch(decision.outcomes, decision.told, decision.promoted, decision.changes)
        self._late = [entry for entry in self._late if id(entry[0]) not in late]  # only now are they told
        fresh = iter(decision.outcomes)
        outcomes = [late[id(c)] if id(c) in late else next(fresh) for c in commands]
        return Batch(outcomes, decision.told, decision.promoted, decision.changes)

    def _commit(self, commands: Sequence[Command]) -> Generator[StoreCall, Reply, Decision]:
        """Decide until the decision is committed on the newest version."""
        book = self.book
        while True:
            now_us: int = yield _CLOCK
            try:
                decision = book.decide(commands, now_us)
                rows = encode(decision.changes)
            except Exception:  # one command's defect must not stop the others
                if self._is_interruptible:
                    raise
                decision = self._decide_one_by_one(commands, now_us)
                rows = encode(decision.changes)
            base = self.version
            assert base is not None, "settled before"
            tag = self._new_tag() if rows else ""
            try:
                self.version = yield StoreCall("commit", (base, tag, decision.head, rows))
            except Conflict as lost:
                book.rollback()
                if lost.delta is None or self._take_in(lost.delta):
                    yield from self.refresh()
                continue
            except Busy:
                book.rollback()
                raise
            except StoreUnavailable:
                if not rows:
                    book.rollback()
                    raise
                self._unsettled = _Unsettled(commands, decision, base, tag)
                yield from self._settle_commit(self._unsettled)
                if self.version != (base.number + 1, tag):
                    raise
                return decision  # only the answer was lost
            book.confirm(decision.head if rows else book.head)
            self._count_losses()
            return decision

    def settle(self) -> Steps:
        """Find out what became of a commit whose answer was lost, and load what was never loaded."""
        if self._unsettled is not None:
            unsettled = self._unsettled
            yield from self._settle_commit(unsettled)
            if self.version == (unsettled.base.number + 1, unsettled.tag):
                carried_out = zip(unsettled.commands, unsettled.decision.outcomes, strict=True)
                self._late.extend(entry for entry in carried_out if _is_told_once(*entry))
                del self._late[:-LATE_MAX]
                self._took_in(unsettled.decision.changes)  # whoever waits hears of it as of another's commit
        if self.version is None:
            yield from self._load()

    def _settle_commit(self, unsettled: _Unsettled) -> Steps:
        found: Version | None
        try:
            found = yield StoreCall("find", (unsettled.tag, unsettled.base))
        except TooOld:
            self._unsettled = None
            yield from self._load()  # nobody can tell any more: what is asked again is decided again
            return
        self._unsettled = None
        if found is None:
            self.book.rollback()
        else:
            self.version = found
            self.book.confirm(unsettled.decision.head)

    def forget(self) -> None:
        """Trust nothing in memory any more: load everything before the next decision."""
        self.version = None
        self._unsettled = None
        self._late.clear()

    def _late_among(self, commands: Sequence[Command]) -> dict[int, Outcome]:
        """Return the outcomes, by identity of the command, of those that were carried out before."""
        asked = {id(command) for command in commands}
        return {id(command): outcome for command, outcome in self._late if id(command) in asked}

    def refresh(self) -> Steps:
        """Take in all that other processes have committed."""
        while (yield from self.refresh_partly()):
            pass

    def refresh_partly(self) -> Generator[StoreCall, Reply, bool]:
        """Take in so much of it as does not take long, and return whether there may be more."""
        try:
            if self._unsettled is not None or self.version is None:
                yield from self.settle()
            assert self.version is not None, "settled above"
            try:
                delta: Delta = yield StoreCall("changes_since", (self.version,))
            except TooOld as error:
                yield from self._load_after(error)
                return False
            return self._take_in(delta)
        except (StoreUnavailable, Busy):
            raise
        except BaseException:  # as in `carry_out`: half of it may have been taken in
            self.forget()
            raise

    def _take_in(self, delta: Delta) -> bool:
        """Take in what other processes have committed, and return whether there may be more."""
        if delta.version != self.version:
            stored = decode(_newest(delta.rows))
            self.book.apply(delta.head, stored)
            self.version = delta.version
            self._took_in(stored)
        return delta.more

    def _load(self) -> Steps:
        snapshot: Snapshot = yield StoreCall("load", ())
        self.book.load(snapshot.head, decode(snapshot.rows))
        self.version = snapshot.version
        self._took_in(None)

    def _load_after(self, error: TooOld) -> Steps:
        if isinstance(error, LostTail):
            self.losses += 1
        yield from self._load()
        self._is_counted = isinstance(error, LostTail) and self.book.token < self.book.known_token

    def _count_losses(self) -> None:
        """Count a loss of committed state that the last decision noticed by a fencing token."""
        if self._recoveries == self.book.recoveries:
            return
        self._recoveries = self.book.recoveries
        self.losses += not self._is_counted
        self._is_counted = False
        _log.error("store lost committed state; no slots are granted until holders had time to renew")

    def _decide_one_by_one(self, commands: Sequence[Command], now_us: int) -> Decision:
        """Decide a batch on which the book failed: the guilty command is refused alone, the rest goes on."""
        _log.exception("a batch of %s failed; each is tried alone", counted(len(commands), "command"))
        self.book.rollback()
        guilty: dict[int, Outcome] = {}
        for index, command in enumerate(commands):
            try:
                encode(self.book.decide([command], now_us).changes)
            except Exception:  # noqa: BLE001 - as above
                lease_id = getattr(command, "id", "")
                _log.exception("%s %s is refused: it fails", type(command).__name__, lease_id)
                guilty[index] = Refused(
                    "internal", {"message": f"{type(command).__name__} {lease_id} failed"}
                )
            self.book.rollback()
        innocent = [command for index, command in enumerate(commands) if index not in guilty]
        decision = self.book.decide(innocent, now_us)
        fresh = iter(decision.outcomes)
        outcomes = [guilty[index] if index in guilty else next(fresh) for index in range(len(commands))]
        return decision._replace(outcomes=outcomes)


def _is_told_once(command: Command, outcome: Outcome) -> bool:
    """Tell whether a command must not be carried out again, though its session may not be remembered.

    All others are decided anew when they are asked again: by then their old outcome may not be true any more.
    """
    if isinstance(command, Acquire):
        return command.spend and isinstance(outcome, Held)
    return isinstance(command, Release | Revoke | DeleteLimit)


def _newest(rows: Sequence[Row]) -> Sequence[Row]:
    """Drop rows that a later commit of the same delta made void: a record written ten times is taken in once.

    It keeps the place at which it was first written, or was removed.
    """
    if len(rows) < 3:
        return rows
    last: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.kind, row.id)
        if not row.keep:
            last.pop(key, None)  # a removal stands where it happened, after what it removes
        last[key] = row
    return list(last.values())
