"""Records as JSON documents and back. A document keeps the names of the fields, so that people can read it.

Fields that a document has and its record lacks are ignored, and the other way round take their default: a
store may be shared with the release before this one.

Known limit: what a refusal tells comes back as JSON has it, so a tuple in it becomes a list.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypedDict

import msgspec

from ebbgate.core.model import (
    Kind,
    Lease,
    Limit,
    ManagementRequest,
    Meter,
    Record,
    Session,
    Slots,
    State,
    Stored,
    Why,
)
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Row


class _Meter(TypedDict):
    """The fields of a `Meter`, which as a named tuple would become an array without names."""

    id: str
    numerator: int
    denominator: int
    empty_us: int
    rest: int


class _Lease(msgspec.Struct, omit_defaults=True):
    """The fields of a `Lease`; what says nothing is left out, which makes commits a fifth quicker."""

    id: str
    session: str
    kind: Kind
    state: State
    asked: Slots
    slots: Slots
    duration_us: int
    arrival: int
    since_us: int
    unknown: tuple[str, ...] = ()
    strict: bool = False
    priority: int = 0
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    wake: str = ""
    why: Why = ""
    at_us: int = -1
    expires_us: int = -1
    token: int = -1
    ended_us: int = -1
    attend_due_us: int = -1
    overtaken_us: int = -1
    keeps: tuple[str, ...] = ()
    refusal: tuple[str, Mapping[str, object]] | None = None


def _from_lease(lease: Lease) -> _Lease:
    return _Lease(
        lease.id, lease.session, lease.kind, lease.state, lease.asked, lease.slots, lease.duration_us, lease.arrival,
        lease.since_us, lease.unknown, lease.strict, lease.priority, lease.labels, lease.wake, lease.why, lease.at_us,
        lease.expires_us, lease.token, lease.ended_us, lease.attend_due_us, lease.overtaken_us, lease.keeps,
        lease.refusal,
    )  # fmt: skip


def _to_lease(row: _Lease) -> Lease:
    return Lease(
        row.id, row.session, row.kind, row.asked, row.slots, row.unknown, row.strict, row.priority, row.duration_us,
        row.labels, row.wake, row.arrival, row.since_us, row.state, row.why, row.at_us, row.expires_us, row.token,
        row.ended_us, row.attend_due_us, row.overtaken_us, row.keeps, row.refusal,
    )  # fmt: skip


_encode: Final = msgspec.json.Encoder().encode
_decode_lease: Final = msgspec.json.Decoder(_Lease).decode
_decode_meter: Final = msgspec.json.Decoder(_Meter).decode
_DECODERS: Final[dict[str, Callable[[bytes], Record]]] = {
    "lease": lambda body: _to_lease(_decode_lease(body)),
    "limit": msgspec.json.Decoder(Limit).decode,
    "meter": lambda body: Meter(**_decode_meter(body)),
    "session": msgspec.json.Decoder(Session).decode,
    "request": msgspec.json.Decoder(ManagementRequest).decode,
}


def encode(changes: Sequence[Stored]) -> list[Row]:
    """Return the rows for what a decision changed."""
    return [
        Row(
            stored.kind,
            stored.id,
            None if stored.record is None else encode_record(stored.record),
            stored.keep,
        )
        for stored in changes
    ]


def encode_record(record: Record) -> bytes:
    """Return one record as JSON."""
    if isinstance(record, Lease):
        return _encode(_from_lease(record))
    return _encode(record._asdict() if isinstance(record, Meter) else record)


def decode(rows: Iterable[Row]) -> list[Stored]:
    """Return the records that rows hold.

    Raises:
        StoreUnavailable: a row is not what this package writes.
    """
    decoders = _DECODERS
    changes = []
    for row in rows:
        kind, record_id, body, keep = row
        try:
            record = None if body is None else decoders[kind](body)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
            raise _corrupt(
                row, str(error) if kind in decoders else f"{kind!r} is no kind of record"
            ) from error
        if (record is None and keep) or (record is not None and record.id != record_id):
            raise _corrupt(row, "it does not hold the record it is named for")
        changes.append(Stored(kind, record_id, record, keep))
    return changes


def _corrupt(row: Row, why: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the store is corrupt: the {row.kind} with id {row.id!r} cannot be read ({why}); "
        "restore it from a backup, or upgrade ebbgate if a newer release wrote it"
    )
