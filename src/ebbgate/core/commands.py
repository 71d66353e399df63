"""What can be asked of a book, and what it answers.

Commands refuse nonsense when they are made. Outcomes are plain values: a decision is never an exception.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ebbgate.core.limits import LIMIT_MAX, check_name, is_text
from ebbgate.core.model import COOL_MAX_US, SECOND, Remembers, Slots, Why
from ebbgate.errors import InvalidRequest

PRIORITY_MAX: Final = 1_000_000
LABELS_MAX: Final = 32
LABEL_LENGTH_MAX: Final = 200
LIMITS_MAX: Final = 100
ID_LENGTH_MAX: Final = 100
FOR_EVER_US: Final = 1 << 62


def wanted(names: str | list[str] | tuple[str, ...] | Mapping[str, int], occupy: int = 1) -> Slots:
    """Return what one acquisition asks for, as sorted (name, slots); duplicate names are one name.

    Args:
        names: one name, several, or a mapping of name to slots.
        occupy: slots of each limit, >= 1; ignored for a mapping.

    Raises:
        InvalidRequest: a type or a number is wrong.
        InvalidLimit: a name could not be the name of any limit.
    """
    if isinstance(names, str):
        return ((check_name(names), _occupied(occupy)),)
    if isinstance(names, Mapping):
        asked = {check_name(name): _occupied(slots) for name, slots in names.items()}
        if len(asked) < len(names):
            raise InvalidRequest(f"one name stands twice, written in two ways: {sorted(names)}")
    elif isinstance(names, list | tuple | set | frozenset):
        asked = dict.fromkeys((check_name(name) for name in names), _occupied(occupy))
    else:
        raise InvalidRequest(
            f"names must be a name, a list of names or a mapping of name to slots, got {names!r}{_hint(names)}"
        )
    if len(asked) > LIMITS_MAX:
        raise InvalidRequest(f"one acquisition names at most {LIMITS_MAX} limits, got {len(asked)}")
    return tuple(sorted(asked.items()))


def _hint(names: object) -> str:
    return '; write the parentheses: @concurrency("name")' if callable(names) else ""


def _occupied(slots: object) -> int:
    if isinstance(slots, bool) or not isinstance(slots, int):
        raise InvalidRequest(f"occupy must be a whole number of slots, got {slots!r}")
    if not 1 <= slots <= LIMIT_MAX:
        raise InvalidRequest(f"occupy must be from 1 to {LIMIT_MAX:,} slots, got {slots}")
    return slots


def check_id(text: str, of: str = "lease") -> str:
    """Return `text` if it can be the id that a client chose for a lease, a session or a request.

    Raises:
        InvalidRequest: it is empty, long, or not printable.
    """
    if 0 < len(text) <= ID_LENGTH_MAX and text.isprintable():
        return text
    raise InvalidRequest(
        f"the id of a {of} has 1 to {ID_LENGTH_MAX} printable characters, got {len(text)}: {text[:40]!r}"
    )


def check_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return `labels` if they are few, short text.

    Raises:
        InvalidRequest: they are not.
    """
    if len(labels) > LABELS_MAX:
        raise InvalidRequest(f"at most {LABELS_MAX} labels, got {len(labels)}")
    texts: list[tuple[object, object]] = list(labels.items())
    for name, value in texts:
        if not is_text(name) or not is_text(value):
            raise InvalidRequest(f"labels are text, got {name!r}: {value!r}")
        if len(name) > LABEL_LENGTH_MAX or len(value) > LABEL_LENGTH_MAX:
            raise InvalidRequest(f"a label has at most {LABEL_LENGTH_MAX} characters, got {name[:40]!r}")
    return labels


@dataclass(frozen=True, slots=True)
class Hello:
    """A client process is here: its first words, and again after every reconnect with a higher epoch."""

    session: str
    epoch: int
    host: str = ""
    pid: int = 0
    labels: Mapping[str, str] | None = None
    presence: int = -1
    wake: str = ""
    remembers: Remembers = "everything"
    key: str = ""
    token: int = 0  # the newest fencing token that the client knows

    def __post_init__(self) -> None:
        """Refuse nonsense."""
        if self.labels:
            check_labels(self.labels)


@dataclass(frozen=True, slots=True)
class Away:
    """A client process has no connection any more, or is dead."""

    session: str
    epoch: int
    certain: bool  # the kernel said so; silence is not certain
    grace_us: int = 0
    seen_from: str = ""  # the server that says so, as `Hello.wake` names it; "": who knows all connections


@dataclass(frozen=True, slots=True)
class Acquire:
    """Take slots of one or several limits, all or none, or take a place in the queue for them."""

    id: str
    session: str
    epoch: int
    slots: Slots  # (name, slots), sorted: see `wanted`
    duration_us: int
    spend: bool = False  # `rate_limit`: only time brings the slots back
    wait: bool = True  # False: refused when there is no room now
    strict: bool = False
    priority: int = 0
    labels: Mapping[str, str] | None = None
    wake: str = ""
    attended: bool = True  # False: nothing but its next question tells that the client is still there

    def __post_init__(self) -> None:
        """Refuse nonsense."""
        priority: object = self.priority
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise InvalidRequest(f"priority must be a whole number, got {self.priority!r}")
        if not -PRIORITY_MAX <= self.priority <= PRIORITY_MAX:
            raise InvalidRequest(
                f"priority must be from -{PRIORITY_MAX} to {PRIORITY_MAX}, got {self.priority}"
            )
        if self.labels:
            check_labels(self.labels)


@dataclass(frozen=True, slots=True)
class Renew:
    """Restart the countdown of a lease."""

    id: str
    session: str
    epoch: int
    duration_us: int
    retake: bool = True  # whether its slots may be taken again if it has just expired


@dataclass(frozen=True, slots=True)
class Release:
    """Give the slots of a lease back, or leave the queue."""

    id: str
    session: str
    epoch: int


@dataclass(frozen=True, slots=True)
class ReleaseSlots:
    """Release some of the slots of a held lease; the lease ends when it has none left."""

    request_id: str  # remembered for a while, so that a repetition releases nothing more
    id: str
    session: str
    epoch: int
    slots: Slots  # (limit id, slots), each limit once


@dataclass(frozen=True, slots=True)
class Revoke:
    """An operator ends a lease."""

    id: str


@dataclass(frozen=True, slots=True)
class PutLimit:
    """Create a limit, or change one. None leaves a field as it is."""

    request_id: str
    mode: Literal["create", "update", "put"]  # put: create it, or change the one of this name
    target: str  # update: name or id; create and put: the name
    new_id: str = ""  # of a limit that is created
    name: str | None = None  # update: its new name
    limit: int | None = None
    slot_decay_per_second: float | None = None
    active: bool | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteLimit:
    """Delete a limit; with holders or waiters only if forced."""

    target: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class CoolDown:
    """Let nobody in for a while, whatever room there is; who waits keeps its place."""

    target: str  # name or id of a limit
    duration_us: int  # a cool-down that lasts longer already stays; 0 ends it now
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse nonsense."""
        if not 0 <= self.duration_us <= COOL_MAX_US:
            raise InvalidRequest(
                f"a limit cools down for 0 to {COOL_MAX_US // SECOND:,} seconds, got {self.duration_us / SECOND:g}"
            )
        why: object = self.why
        if not is_text(why) or len(why) > LABEL_LENGTH_MAX:
            raise InvalidRequest(
                f"the reason is text of at most {LABEL_LENGTH_MAX} characters, got {self.why!r}"
            )


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: carry out what is due."""

    expire: bool = True  # False within the recovery grace: nobody is expired or given up
    until_us: int = FOR_EVER_US  # nor what came due after this instant: the decider may have stalled since


Command = (
    Hello
    | Away
    | Acquire
    | Renew
    | Release
    | ReleaseSlots
    | Revoke
    | PutLimit
    | DeleteLimit
    | CoolDown
    | Tick
)


class Held(NamedTuple):
    """The lease holds its slots (a hold), or has spent them (a spend, with `expires_us` -1)."""

    id: str
    token: int
    at_us: int
    expires_us: int
    arrival: int
    protected: bool  # whether it has slots of any limit
    unknown: tuple[str, ...] = ()  # asked names that no limit has
    suggestion: str = ""  # for the first of them


class Waiting(NamedTuple):
    """The lease has a place in the queue; its outcome comes later."""

    id: str
    arrival: int


class Ended(NamedTuple):
    """The lease is over."""

    id: str
    why: Why
    at_us: int
    arrival: int


class Refused(NamedTuple):
    """The command changed nothing; `code` is that of an error, `details` are its arguments."""

    code: str
    details: Mapping[str, object]


class Done(NamedTuple):
    """The command was carried out; `id` is that of the limit or session."""

    id: str
    created: bool = False


Outcome = Held | Waiting | Ended | Refused | Done


class Told(NamedTuple):
    """What happened to a lease by somebody else's command, or by time."""

    id: str  # of the lease
    session: str
    wake: str  # where its client listens; "": nowhere
    outcome: Held | Ended | Refused
