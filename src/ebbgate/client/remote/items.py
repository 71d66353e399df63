"""From commands to the items that carry them."""

import msgspec

from ebbgate.core.commands import Acquire, Command, CoolDown, DeleteLimit, PutLimit, Release, Renew, Revoke
from ebbgate.core.decay import check_decay
from ebbgate.core.limits import check_description, check_name, check_slots
from ebbgate.errors import InvalidLimit, InvalidRequest
from ebbgate.wire.stream import (
    AcquireItem,
    CoolItem,
    DeleteItem,
    PutItem,
    ReleaseItem,
    RenewItem,
    RevokeItem,
    Up,
    decode_up,
    encode_up,
)


def acquire_item(number: int, command: Acquire) -> AcquireItem:
    """Return the item that carries an acquisition."""
    return AcquireItem(
        number, command.id, command.slots, command.duration_us, command.spend, command.wait, command.strict,
        command.priority, command.labels,
    )  # fmt: skip


def item_of(number: int, command: Command) -> Up:
    """Return the item that carries a command.

    Raises:
        TypeError: none carries it.
    """
    match command:
        case Acquire():
            return acquire_item(number, command)
        case Release():
            return ReleaseItem(number, command.id, command.session)
        case Renew():
            return RenewItem(number, command.id, command.session, command.duration_us, command.retake)
        case Revoke():
            return RevokeItem(number, command.id)
        case PutLimit():
            return PutItem(
                number, command.request_id, command.mode, command.target, command.new_id, command.name,
                command.limit, command.slot_decay_per_second, command.active, command.description,
            )  # fmt: skip
        case DeleteLimit():
            return DeleteItem(number, command.target, command.force)
        case CoolDown():
            return CoolItem(number, command.target, command.duration_us, command.why)
        case _:
            raise TypeError(f"no client says {type(command).__name__}")


def again(number: int, item: AcquireItem) -> AcquireItem:
    """Return the same acquisition under another number."""
    return AcquireItem(
        number, item.id, item.slots, item.duration_us, item.spend, item.wait, item.strict, item.priority,
        item.labels,
    )  # fmt: skip


def check(command: Command) -> None:
    """Refuse what could not travel as it is; all else is refused by whoever decides.

    Raises:
        InvalidLimit: a limit could not be like that.
    """
    if not isinstance(command, PutLimit):
        return
    if command.mode != "update":
        check_name(command.target)
    if command.name is not None:
        check_name(command.name)
    if command.limit is not None:
        check_slots(command.limit)
    if command.slot_decay_per_second is not None:
        check_decay(command.slot_decay_per_second)
    if command.description is not None:
        check_description(command.description)
    active: object = command.active
    if not (active is None or isinstance(active, bool)):
        raise InvalidLimit(f"active must be true or false, got {active!r}")


def checked(item: Up) -> Up:
    """Return an item if a server would understand it: what it cannot read, it closes the connection for.

    Raises:
        InvalidRequest: it would not.
    """
    try:
        decode_up(encode_up((item,)))
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise InvalidRequest(f"an argument has a wrong type: {error}") from error
    return item
