"""Ids are UUIDs in the order of their making."""

import uuid

import pytest

from ebbgate.wire.ids import is_canonical, new_id


def test_an_id_is_a_uuid_of_version_7_as_every_language_writes_it() -> None:
    for _ in range(1_000):
        made = new_id()
        read = uuid.UUID(made)
        assert str(read) == made
        assert (read.version, read.variant) == (7, uuid.RFC_4122)


def test_ids_stand_in_the_order_of_the_time_of_their_making() -> None:
    made = [new_id(unix_ms) for unix_ms in (0, 1, 255, 256, 1_800_000_000_000, (1 << 48) - 1)]
    assert made == sorted(made)


def test_the_time_is_where_version_7_has_it() -> None:
    assert uuid.UUID(new_id(1_800_000_000_123)).int >> 80 == 1_800_000_000_123


def test_no_two_ids_of_one_instant_are_the_same() -> None:
    assert len({new_id(0) for _ in range(100_000)}) == 100_000


def test_only_what_uuid_itself_would_write_is_canonical() -> None:
    assert all(is_canonical(str(uuid.uuid4())) for _ in range(100))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "0" * 32,
        "A" * 8 + "-0000-0000-0000-000000000000",
        "{00000000-0000-7000-a000-000000000000}",
        "é" * 36,
    ],
)
def test_everything_else_is_not(text: str) -> None:
    assert not is_canonical(text)


def test_dashes_elsewhere_are_not_canonical() -> None:
    digits = uuid.uuid4().hex
    assert not is_canonical("-".join((digits[:4], digits[4:8], digits[8:16], digits[16:20], digits[20:])))
