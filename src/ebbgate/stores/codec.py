"""Records as JSON documents and back. A document keeps the names of the fields, so that people can read it.

Fields that a document has and its record lacks are ignored, and the other way round take their default: a
store may be shared with the release before this one.

Known limit: what a refusal tells comes back as JSON has it, so a tuple in it becomes a list.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypedDict

import msgspec

from ebbgate.core.model import Lease, Limit, ManagementRequest, Meter, Record, Session, Stored
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Row


class _Meter(TypedDict):
    """The fields of a `Meter`, which as a named tuple would become an array without names."""

    id: str
    numerator: int
    denominator: int
    empty_us: int
    rest: int


_encode: Final = msgspec.json.Encoder().encode
_decode_meter: Final = msgspec.json.Decoder(_Meter).decode
_DECODERS: Final[dict[str, Callable[[bytes], Record]]] = {
    "lease": msgspec.json.Decoder(Lease).decode,
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
