"""The log of a store behind a network: how a commit's rows are written into it, and how a delta is read from it.

PostgreSQL and Redis keep the same entries, so that people, backups and tests can compare them.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Delta, Row, Version

DELTA_MAX: Final = 64
"""How many commits are told at once: some 5 ms to take in when each is full, during which a loop stands still."""

PAGE: Final = 256
"""How many commits are read at once when people ask for history."""

_NULL: Final = msgspec.Raw(b"null")
_Logged = tuple[list[str], list[str], list[bool], list[msgspec.Raw]]
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Logged).decode


class Entry(NamedTuple):
    """One commit as the log has it."""

    number: int
    tag: str
    head: Head
    rows: bytes  # JSON: [[kind, ...], [id, ...], [whether it is kept, ...], [record or null, ...]]


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return the rows of one commit as JSON, by columns: so a store can part them without looking into records."""
    bodies = b",".join([row.body or b"null" for row in rows])
    return b"[%b,[%b]]" % (columns_of(rows), bodies)


def columns_of(rows: Sequence[Row]) -> bytes:
    """Return the first three columns as JSON, without the brackets around them all."""
    return _encode(([row.kind for row in rows], [row.id for row in rows], [row.keep for row in rows]))[1:-1]


def decode_rows(logged: bytes) -> list[Row]:
    """Return the rows of one commit.

    Raises:
        StoreUnavailable: this is no entry of a log.
    """
    try:
        columns = _decode(logged)
    except msgspec.MsgspecError as error:
        raise StoreUnavailable(
            f"the store is corrupt: its log cannot be read ({error}); restore it from a backup"
        ) from error
    return [
        Row(kind, record_id, None if body == _NULL else bytes(body), keep)
        for kind, record_id, keep, body in zip(*columns, strict=False)
    ]


def delta_of(base: Version, head: Head, entries: Sequence[Entry]) -> Delta:
    """Return the delta from `base`, which stood at `head`, of the entries that follow it.

    There may be one entry more than a delta tells: then there is more.
    """
    told = entries[:DELTA_MAX]
    rows = [row for entry in told for row in decode_rows(entry.rows)]
    if told:
        base, head = Version(told[-1].number, told[-1].tag), told[-1].head
    return Delta(base, head, rows, len(entries) > DELTA_MAX)
