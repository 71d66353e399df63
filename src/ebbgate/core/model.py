"""The records a namespace is made of. Instants and durations are integers in microseconds.

Records are changed only by the book that holds them, under its journal; everybody else reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

SECOND: Final = 1_000_000

REMEMBERED_US: Final = 60 * SECOND
"""How long an ended lease or a request is known, so that a late duplicate of it changes nothing."""

RETAKE_US: Final = 60 * SECOND
"""How long after its end an expired lease may be taken again by its own late renewal."""

RETAKEABLE: Final = frozenset({"expired", "lost_holder"})
"""Why a lease must have ended for that."""

ATTENDED_US: Final = 30 * SECOND
"""How long a waiter without a connection is kept after its last question."""

FETCH_US: Final = 10 * SECOND
"""How long a grant to such a waiter is kept for it to be fetched."""

LATENESS_CREDIT_US: Final = 5_000
"""The most of a machine's lateness in granting a waiting spend that is credited."""

COOL_MAX_US: Final = 86_400 * SECOND
"""How long a limit may cool down at most."""

SERVER: Final = "server-"
"""How the ids of those sessions begin that are servers' own: by them servers that share a store know each other."""

State = Literal["waiting", "held", "ended"]
Why = Literal["", "released", "expired", "revoked", "cancelled", "refused", "lost_holder", "spent"]
Kind = Literal["hold", "spend"]

Remembers = Literal["everything", "spends", "nothing"]
"""Which of a session's ended leases are known for a while, since a duplicate can arrive late.

Everything: anybody may resend anything, as over REST. Spends: its epoch refuses late duplicates, but an answer
that was lost is asked for again, as over a stream. Nothing: no answer is ever lost, as within a process.
"""

Slots = tuple[tuple[str, int], ...]
"""(name or id of a limit, number of slots), sorted, each limit once."""


UnknownLimits = Literal["allow", "refuse"]
"""What becomes of an acquisition that names a limit which does not exist."""


class Settings(NamedTuple):
    """What a store's operator may set; the same for every process that decides on it."""

    lease_duration_min_us: int = 60 * SECOND
    lease_duration_max_us: int = 86_400 * SECOND
    unknown_limits: UnknownLimits = "allow"  # refuse: as if every caller were strict
    recovery_us: int = 30 * SECOND  # how long nothing is granted after the store has lost committed state
    patience_us: int = 30 * SECOND  # how long a waiter may be overtaken before it keeps its own slots


class Head(NamedTuple):
    """What the next decision builds on; written with every commit."""

    instant_us: int = 0  # of the last committed decision, by the store's clock
    token: int = 0  # the last fencing token given
    arrival: int = 0  # the last arrival number given


@dataclass(slots=True)
class Limit:
    """A named limit, as people define it."""

    id: str
    name: str
    limit: int  # slots
    slot_decay_per_second: float
    active: bool
    description: str
    created_us: int
    updated_us: int
    cool_until_us: int = -1  # until then nobody is let in; in the past or -1: it is not cooling down
    cool_why: str = ""  # as whoever asked for that put it


class Meter(NamedTuple):
    """The spent slots of one limit: the instant at which all of them will have come back.

    That instant is `empty_us` and `rest` / `numerator` microseconds. The rate is a fraction in slots per
    second; it is the limit's decay, or the last one before that became 0.
    """

    id: str  # of the limit
    numerator: int
    denominator: int
    empty_us: int
    rest: int  # 0 <= rest < numerator


@dataclass(slots=True)
class Session:
    """One client process as the store knows it."""

    id: str
    epoch: int  # rises at every reconnect; commands of older epochs are refused
    host: str
    pid: int
    labels: Mapping[str, str]
    presence: int  # the byte of the presence file it keeps locked while it lives; -1: none
    wake: str  # where it listens for what happens to its held leases; "": nowhere
    remembers: Remembers
    key: str = ""  # the id of the API key it came with; only who has the same may speak for it
    away_us: int = -1  # since when it is away; -1: it is here
    away_due_us: int = -1  # when what follows from that happens; -1: never, or it has happened
    away_certain: bool = False  # the kernel said that it is gone

    @property
    def is_closing(self) -> bool:
        """Whether it ended without a grace, and some of its leases are still to be ended."""
        return 0 <= self.away_due_us <= self.away_us


@dataclass(slots=True, eq=False)
class Lease:
    """One acquisition, from asking to ending."""

    id: str
    session: str
    kind: Kind
    asked: Slots  # by name, as the client asked: the same id with other slots is refused
    slots: Slots  # by limit id; once held, only limits that were active then
    unknown: tuple[str, ...]  # asked names that no limit has
    strict: bool
    priority: int
    duration_us: int
    labels: Mapping[str, str]
    wake: str  # where its waiter listens; "": nowhere
    arrival: int  # its place in the order of asking
    since_us: int  # when it was asked
    state: State = "waiting"
    why: Why = ""
    at_us: int = -1  # when it was granted
    expires_us: int = -1
    token: int = -1  # fencing token
    ended_us: int = -1
    attend_due_us: int = -1  # its client must ask again, or fetch its grant, before this; -1: no need
    overtaken_us: int = -1  # since when later ones are let in before it
    keeps: tuple[str, ...] = ()  # limit ids in the order in which it keeps slots of them
    refusal: tuple[str, Mapping[str, object]] | None = (
        None  # why it was refused: an error's code and arguments
    )

    def saved(self) -> tuple[object, ...]:
        """Return the fields that can change, for `restore`."""
        return (
            self.slots, self.unknown, self.duration_us, self.wake, self.state, self.why, self.at_us, self.expires_us,
            self.token, self.ended_us, self.attend_due_us, self.overtaken_us, self.keeps, self.refusal,
        )  # fmt: skip

    def restore(self, saved: tuple[object, ...]) -> None:
        """Set every field that can change back to what `saved` gave."""
        (
            self.slots, self.unknown, self.duration_us, self.wake, self.state, self.why, self.at_us, self.expires_us,
            self.token, self.ended_us, self.attend_due_us, self.overtaken_us, self.keeps, self.refusal,
        ) = saved  # type: ignore[assignment]  # fmt: skip  # exactly the tuple `saved` made


@dataclass(slots=True)
class ManagementRequest:
    """A change of a limit that was made, remembered so that its duplicate is not made again."""

    id: str
    at_us: int
    limit_id: str


Record = Limit | Meter | Session | Lease | ManagementRequest


class Stored(NamedTuple):
    """One record as a commit brings it; with `keep=False` it is gone, and `record` is its last state if known."""

    kind: str  # "limit", "meter", "session", "request" or "lease"
    id: str
    record: Record | None
    keep: bool = True
