"""Records become readable documents and come back equal; what is damaged is named."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbgate.core.model import Lease, Limit, ManagementRequest, Meter, Record, Session, Stored
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Row
from ebbgate.stores.codec import decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(-1, 2**60)
SLOTS = st.lists(st.tuples(TEXT, st.integers(1, 10**9)), max_size=3).map(tuple)
LABELS = st.dictionaries(TEXT, TEXT, max_size=3)
REFUSAL = st.none() | st.tuples(TEXT, st.dictionaries(TEXT, TEXT | NUMBER | st.lists(TEXT), max_size=2))

RECORDS: dict[str, st.SearchStrategy[Record]] = {
    "lease": st.builds(
        Lease,
        asked=SLOTS,
        slots=SLOTS,
        labels=LABELS,
        unknown=st.lists(TEXT).map(tuple),
        keeps=st.lists(TEXT).map(tuple),
        refusal=REFUSAL,
        id=TEXT,
        session=TEXT,
        wake=TEXT,
        token=NUMBER,
    ),
    "limit": st.builds(
        Limit,
        id=TEXT,
        name=TEXT,
        description=TEXT,
        slot_decay_per_second=st.floats(0, 1e6, allow_nan=False),
    ),
    "meter": st.builds(Meter, id=TEXT, empty_us=st.integers(0, 10**26), numerator=st.integers(1, 10**30)),
    "session": st.builds(Session, id=TEXT, host=TEXT, wake=TEXT, labels=LABELS),
    "request": st.builds(ManagementRequest, id=TEXT, limit_id=TEXT, at_us=NUMBER),
}


def values(record: Record) -> tuple[object, ...]:
    """What a record holds; leases are compared by identity otherwise."""
    if isinstance(record, Meter):
        return tuple(record)
    return tuple(getattr(record, each.name) for each in fields(record))


@given(st.sampled_from(sorted(RECORDS)).flatmap(lambda kind: st.tuples(st.just(kind), RECORDS[kind])))
def test_every_record_comes_back_equal(kind_and_record: tuple[str, Record]) -> None:
    kind, record = kind_and_record
    for keep in (True, False):
        (back,) = decode(encode([Stored(kind, record.id, record, keep)]))
        assert (back.kind, back.id, back.keep) == (kind, record.id, keep)
        assert back.record is not None
        assert type(back.record) is type(record)
        assert values(back.record) == values(record)


def test_a_removal_without_a_last_state_comes_back() -> None:
    removal = Stored("lease", "a", None, keep=False)
    assert encode([removal]) == [Row("lease", "a", None, keep=False)]
    assert decode(encode([removal])) == [removal]


@pytest.mark.parametrize("kind", sorted(RECORDS))
@given(st.data())
def test_a_document_names_every_field_that_says_something(kind: str, data: st.DataObject) -> None:
    record = data.draw(RECORDS[kind])
    names = record._fields if isinstance(record, Meter) else [each.name for each in fields(record)]
    body = encode([Stored(kind, record.id, record)])[0].body
    assert body is not None
    named = set(json.loads(body))
    assert named <= set(names)
    says_nothing = {name for name in names if getattr(record, name) in (-1, 0, "", False, None, (), {})}
    assert set(names) - named <= (says_nothing if isinstance(record, Lease) else set())


def test_fields_of_another_release_do_no_harm() -> None:
    (stored,) = decode([Row("request", "m", b'{"id": "m", "at_us": 1, "limit_id": "l", "new": [1]}')])
    assert stored.record == ManagementRequest("m", 1, "l")
    lease = Lease("a", "s", "hold", (), (), (), False, 0, 1, {}, "", 1, 1)
    body = encode([Stored("lease", "a", lease)])[0].body
    assert body is not None
    older = {name: value for name, value in json.loads(body).items() if name not in {"keeps", "refusal"}}
    (stored,) = decode([Row("lease", "a", json.dumps(older).encode())])
    assert isinstance(stored.record, Lease)
    assert values(stored.record) == values(lease)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("lease", b""),
        ("lease", b"{"),
        ("lease", b"[]"),
        ("lease", b'{"id": "a"}'),
        ("lease", b"\xff\xfe"),
        ("limit", b'{"id": 1}'),
        ("meter", b'["a", 1, 1, 1, 1]'),
        ("request", b'{"id": "another", "at_us": 1, "limit_id": "l"}'),
        ("nonsense", b'{"id": "a"}'),
        ("lease", None),
    ],
)
def test_a_row_that_cannot_be_read_is_named(kind: str, body: bytes | None) -> None:
    with pytest.raises(StoreUnavailable, match=f"corrupt: the {kind} with id 'a'.*restore"):
        decode([Row(kind, "a", body)])
