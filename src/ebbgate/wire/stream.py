"""The messages of the stream, both ways, as JSON arrays.

A message up is an array of items; a message down is the store's time when it was sent, and an array of items.
An item is an array that begins with its kind. Commands carry a number, which their answer repeats; what nobody
asked for at that moment, a grant or a loss, has the number 0.

A connection begins with `HelloItem`, which names the session that its commands are carried out for.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec

from ebbgate.core.commands import Done, Ended, Held, Outcome, Refused, Waiting
from ebbgate.core.model import Why
from ebbgate.errors import EbbgateError, InternalError, InvalidRequest, ServerUnavailable, StoreUnavailable
from ebbgate.wire.questions import Question

PATH: Final = "/v1/stream"
VERSION: Final = 1
MESSAGE_BYTES_MAX: Final = 1 << 20
ITEMS_MAX: Final = 5_000

Whole = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
"""What every language can count exactly."""

Signed = Annotated[int, msgspec.Meta(ge=-(1 << 53) + 1, le=(1 << 53) - 1)]

Role = Literal["main", "renewer"]
"""What a connection is for: everything, or only to keep leases alive while the other one is busy or gone."""


class _Item(msgspec.Struct, frozen=True, array_like=True, tag=lambda name: name.removesuffix("Item").lower()):
    """One element of a message."""


# --- up


class HelloItem(_Item, frozen=True):
    """A client process is here. A renewer's connection says it for each session that it serves."""

    number: Whole
    version: Whole
    session: str
    epoch: Whole
    role: Role
    host: str = ""
    pid: Whole = 0
    labels: Mapping[str, str] | None = None
    token: Whole = 0  # the newest fencing token that the client knows


class ByeItem(_Item, frozen=True):
    """A session is over: what it still holds is free."""

    number: Whole
    session: str


class AcquireItem(_Item, frozen=True):
    """See `core.commands.Acquire`."""

    number: Whole
    id: str
    slots: tuple[tuple[str, Whole], ...]  # as `Slots`
    duration_us: Signed
    spend: bool = False
    wait: bool = True
    strict: bool = False
    priority: Signed = 0
    labels: Mapping[str, str] | None = None


class RenewItem(_Item, frozen=True):
    """See `core.commands.Renew`; the session is one that this connection said hello for."""

    number: Whole
    id: str
    session: str
    duration_us: Signed
    retake: bool = True


class ReleaseItem(_Item, frozen=True):
    """See `core.commands.Release`; the session as for `RenewItem`."""

    number: Whole
    id: str
    session: str


class RevokeItem(_Item, frozen=True):
    """See `core.commands.Revoke`."""

    number: Whole
    id: str


class PutItem(_Item, frozen=True):
    """See `core.commands.PutLimit`."""

    number: Whole
    request_id: str
    mode: Literal["create", "update", "put"]
    target: str
    new_id: str = ""
    name: str | None = None
    limit: Signed | None = None
    slot_decay_per_second: float | None = None
    active: bool | None = None
    description: str | None = None


class DeleteItem(_Item, frozen=True):
    """See `core.commands.DeleteLimit`."""

    number: Whole
    target: str
    force: bool = False


class CoolItem(_Item, frozen=True):
    """See `core.commands.CoolDown`."""

    number: Whole
    target: str
    duration_us: Signed
    why: str = ""


class AskItem(_Item, frozen=True):
    """A question; see `wire.questions`."""

    number: Whole
    question: Question


Up = (
    AcquireItem
    | ReleaseItem
    | RenewItem
    | HelloItem
    | ByeItem
    | RevokeItem
    | PutItem
    | DeleteItem
    | CoolItem
    | AskItem
)


# --- down


class HeldItem(_Item, frozen=True):
    """See `core.commands.Held`."""

    number: int
    id: str
    token: int
    at_us: int
    expires_us: int
    arrival: int
    protected: bool
    unknown: tuple[str, ...] = ()
    suggestion: str = ""


class WaitingItem(_Item, frozen=True):
    """See `core.commands.Waiting`."""

    number: int
    id: str
    arrival: int


class EndedItem(_Item, frozen=True):
    """See `core.commands.Ended`."""

    number: int
    id: str
    why: Why
    at_us: int
    arrival: int


class RefusedItem(_Item, frozen=True):
    """See `core.commands.Refused`; with the number 0 it is about the waiter `id`."""

    number: int
    code: str
    details: Mapping[str, object]
    id: str = ""


class DoneItem(_Item, frozen=True):
    """See `core.commands.Done`."""

    number: int
    id: str
    created: bool = False


class AnswerItem(_Item, frozen=True):
    """The answer to a question, in the shape that the question promises."""

    number: int
    body: msgspec.Raw


class FailedItem(_Item, frozen=True):
    """A command met an error on its way; whether it was carried out is not known unless it was invalid."""

    number: int
    code: str
    message: str
    transient: bool = True


class HurryItem(_Item, frozen=True):
    """Every lease should be renewed now: the store's clock ran ahead."""


class GoodbyeItem(_Item, frozen=True):
    """The server stops: come back, here or at another one, after so many seconds."""

    after_seconds: float


Down = (
    HeldItem
    | WaitingItem
    | EndedItem
    | RefusedItem
    | DoneItem
    | AnswerItem
    | FailedItem
    | HurryItem
    | GoodbyeItem
)

_encode: Final = msgspec.json.Encoder().encode
decode_up: Final = msgspec.json.Decoder(list[Up]).decode
decode_down: Final = msgspec.json.Decoder(tuple[int, list[Down]]).decode


def encode_up(items: Sequence[Up]) -> bytes:
    """Return a message to a server."""
    return _encode(items)


def encode_down(store_us: int, items: Sequence[Down]) -> bytes:
    """Return a message to a client; `store_us` is the store's time now."""
    return _encode((store_us, items))


def item_of(number: int, outcome: Outcome, lease_id: str = "") -> Down:
    """Return the item that carries an outcome; `lease_id` is the waiter that a refusal is about."""
    match outcome:
        case Held():
            return HeldItem(number, *outcome)
        case Ended():
            return EndedItem(number, *outcome)
        case Waiting():
            return WaitingItem(number, *outcome)
        case Refused(code, details):
            return RefusedItem(number, code, details, lease_id)
        case Done():
            return DoneItem(number, *outcome)


def outcome_of(item: Down) -> Outcome:
    """Return the outcome that an item carries.

    Raises:
        TypeError: it carries none.
    """
    match item:
        case HeldItem():
            return Held(
                item.id, item.token, item.at_us, item.expires_us, item.arrival, item.protected, item.unknown,
                item.suggestion,
            )  # fmt: skip
        case EndedItem():
            return Ended(item.id, item.why, item.at_us, item.arrival)
        case WaitingItem():
            return Waiting(item.id, item.arrival)
        case RefusedItem():
            return Refused(item.code, item.details)
        case DoneItem():
            return Done(item.id, item.created)
        case _:
            raise TypeError(f"{type(item).__name__} carries no outcome")


_FAILURES: Final[Mapping[str, type[StoreUnavailable | ServerUnavailable]]] = {
    StoreUnavailable.code: StoreUnavailable,
    ServerUnavailable.code: ServerUnavailable,
}


def failed_item(number: int, error: EbbgateError) -> FailedItem:
    """Return the item that carries an error."""
    return FailedItem(number, error.code, str(error), getattr(error, "transient", False))


def error_of(item: FailedItem) -> EbbgateError:
    """Return the error that an item carries."""
    kind = _FAILURES.get(item.code)
    if kind is not None:
        return kind(item.message, transient=item.transient)
    return InvalidRequest(item.message) if item.code == InvalidRequest.code else InternalError(item.message)
