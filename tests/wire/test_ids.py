"""Ids are UUIDs in the order of their making."""

import uuid

from ebbgate.wire.ids import new_id


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
