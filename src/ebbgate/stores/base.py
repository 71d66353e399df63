"""The store contract: versioned rows with compare-and-swap. A store keeps; it never decides.

A store holds the rows of one namespace: limits, meters, sessions and leases, each a small JSON document.
Every commit makes one new version. `ebbgate.testing.store_conformance` holds what every store must do;
a store that passes it may be used.

Known limit: a store is told rows, not fields, so a lease that changes one field is written whole.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple, Protocol

from ebbgate.core.model import Head, Lease, Session
from ebbgate.errors import StoreUnavailable


class Version(NamedTuple):
    """One point in a store's history: a number that rises by one a commit, and that commit's random tag.

    Two versions are the same only when both match: a store that lost its tail, or was restored from a
    backup, can reach the same number again but never the same tag.
    """

    number: int
    tag: str


EMPTY = Version(0, "")
"""The version of a store nothing was ever committed to."""


class Row(NamedTuple):
    """One record as a store keeps it, or, with `keep=False`, its removal.

    A lease that is removed when it ends brings its last state along, for the log and for slow readers.
    """

    kind: str  # "limit", "meter", "session", "lease" or "request"
    id: str
    body: bytes | None  # JSON
    keep: bool = True


class Snapshot(NamedTuple):
    """Every row, and the version and head they stand at, all from one instant of the store."""

    version: Version
    head: Head
    rows: list[Row]


class Delta(NamedTuple):
    """What was committed after a version, in the order of the commits; a row may occur more than once.

    With `more` it is only the first part, up to `version`: ask again from there.
    """

    version: Version
    head: Head
    rows: list[Row]
    more: bool = False


class Past(NamedTuple):
    """A lease that is over, and the process it belonged to if that has gone since."""

    lease: Lease
    session: Session | None


class Conflict(Exception):  # noqa: N818 - not an error: another process committed first
    """The base of a commit is not the newest version: undo, take in what is new, decide again."""

    def __init__(self, delta: Delta | None = None) -> None:
        """Bring along what was committed since the base, where the store told it with the same answer."""
        super().__init__()
        self.delta = delta


class TooOld(Exception):  # noqa: N818 - not an error: the way from there is no longer kept
    """The store does not know this version, or no longer what came after it: load everything again."""


class LostTail(TooOld):
    """The store lost what it had confirmed: it was restored, or another took over that was not up to date.

    What was granted in the lost commits is not known any more, so more may be held than is allowed, until
    every holder has renewed, and heard that its lease is lost.
    """


class Busy(Exception):  # noqa: N818 - not an error: somebody else is writing
    """Nothing was done, because another process was writing and the caller did not want to wait."""


class Store(Protocol):
    """Where the truth of one namespace lives. Each method is one atomic step.

    Any method may raise `ebbgate.errors.StoreUnavailable`. After that error from `commit` it is unknown
    whether the commit took place; `find` tells.
    """

    def load(self) -> Snapshot:
        """Return every row and the version they stand at."""

    def commit(self, base: Version, tag: str, head: Head, rows: Sequence[Row]) -> Version:
        """Write all `rows` and `head`, or nothing.

        Args:
            base: the version the rows were decided on.
            tag: random, never used before; names this commit for ever.
            head: as it stands after these rows.
            rows: each (kind, id) at most once; empty: only check that `base` is the newest.

        Returns:
            The new version, `Version(base.number + 1, tag)`; `base` itself when `rows` is empty.

        Raises:
            Conflict: `base` is not the newest version (both its number and its tag count).
        """

    def changes_since(self, version: Version) -> Delta:
        """Return what was committed after `version`.

        Raises:
            TooOld: `version` is not one of this store's, or its successors are no longer kept.
        """

    def find(self, tag: str, base: Version) -> Version | None:
        """Return the version that the commit `tag` on `base` made, or None if it never took place.

        Raises:
            TooOld: so much was committed since then that nobody can tell any more.
        """

    def clock(self) -> int:
        """Return the store's own time: microseconds since 1970. It may step back; callers must cope."""

    def close(self) -> None:
        """Give back what this process holds open. Closing twice is allowed."""


PATIENCE_US: Final = 5_000_000
"""How long a call tries again while others keep the store locked, unless the caller says otherwise."""


class EmbeddedStore(Store, Protocol):
    """A store that lives in this process or on this machine, so that several processes may decide on it.

    Every call that takes `patience_us` waits so long for others at most, then raises `StoreUnavailable`;
    with 0 it waits not at all and raises `Busy`: for callers on an event loop.
    """

    def load(self, *, patience_us: int = PATIENCE_US) -> Snapshot:
        """See `Store.load`."""

    def commit(
        self, base: Version, tag: str, head: Head, rows: Sequence[Row], *, patience_us: int = PATIENCE_US
    ) -> Version:
        """See `Store.commit`."""

    def changes_since(self, version: Version, *, patience_us: int = PATIENCE_US) -> Delta:
        """See `Store.changes_since`."""

    def find(self, tag: str, base: Version, *, patience_us: int = PATIENCE_US) -> Version | None:
        """See `Store.find`."""

    def moved(self, version: Version) -> bool:
        """Tell cheaply whether `version` may no longer be the newest; False is certain, True is a hint."""

    def recent(self, limit: int) -> list[Past]:
        """Return the leases that ended last, newest first, as far back as the log goes."""

    def misplaced(self) -> StoreUnavailable | None:
        """Return what to raise if the store's file was removed or replaced since it was opened."""

    def try_lock(self) -> bool:
        """Take the turn to write if it is free. A courtesy among processes: correctness never rests on it."""

    def lock(self, timeout_us: int) -> bool:
        """Wait for the turn to write, `timeout_us` at most; False: go ahead without it."""

    def unlock(self) -> None:
        """Give the turn to the next process. Allowed without having it."""


class NetworkStore(Protocol):
    """A store behind a network, which several servers may decide on. Each coroutine is one atomic step.

    One task at a time decides; others may read meanwhile. Connections are made when they are needed and made
    again when they are lost. Whoever is cancelled while waiting knows as little of what happened as after
    `StoreUnavailable`.
    """

    async def load(self) -> Snapshot:
        """See `Store.load`."""

    async def commit(self, base: Version, tag: str, head: Head, rows: Sequence[Row]) -> Version:
        """See `Store.commit`. One round trip; a `Conflict` has the delta with it whenever there is one."""

    async def changes_since(self, version: Version) -> Delta:
        """See `Store.changes_since`.

        Raises:
            LostTail: as `TooOld`, and it is certain that confirmed commits are gone.
        """

    async def find(self, tag: str, base: Version) -> Version | None:
        """See `Store.find`."""

    async def recent(self, limit: int) -> list[Past]:
        """See `EmbeddedStore.recent`."""

    def clock(self) -> int:
        """Return the store's time, microseconds since 1970, without asking: every answer brings it along.

        It never goes back, neither behind what it returned before nor behind the last committed instant that
        was applied. Steps of the store's own clock add nothing to it; see `ebbgate.stores.network_clock`.

        Raises:
            StoreUnavailable: the store never answered yet.
        """

    def watch(self) -> AsyncIterator[None]:
        """Tell again and again that the version may have moved. Hints may come late, twice or for nothing.

        It never raises: while the store is out of reach it tells so at its own pace, and whoever looks hears
        why.
        """

    async def close(self) -> None:
        """Give back what this process holds open. Closing twice is allowed."""
