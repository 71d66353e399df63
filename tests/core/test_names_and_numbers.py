"""What a limit may be called and have, what may be asked for, and near misses."""

import math
import unicodedata

import pytest

from ebbgate.core.commands import Acquire, Hello, check_id, wanted
from ebbgate.core.limits import check_description, check_name, check_slots, is_uuid, near_miss
from ebbgate.errors import InvalidLimit, InvalidRequest

UUID = "00000000-0000-4000-8000-00000000000a"


@pytest.mark.parametrize(
    "name", ["a", "db", "x" * 200, "two words", "größe", "日本", "a.b", "...", "a:b@c", "0" * 31]
)
def test_these_names_are_allowed(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("character", "/\\%&><?#")
def test_these_characters_are_not_allowed_in_a_name(character: str) -> None:
    with pytest.raises(InvalidLimit, match="cannot contain"):
        check_name(f"a{character}b")


@pytest.mark.parametrize(
    "name",
    ["", "x" * 201, ".", "..", " a", "a ", "\u00a0a", "a\u3000", "a\nb", "a\x00b", "a\x7fb", "a\x85b",
     "a\u2028b", "a\u00adb", "a\u200bb", "a\u200db", "a\u202eb", "a\u2066b", "a\ufeffb", "a\U000e0041b",
     "a\ud800b", "\t", UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}"],
)  # fmt: skip
def test_these_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidLimit):
        check_name(name)


def test_the_refusal_names_the_character_that_cannot_be_seen() -> None:
    with pytest.raises(InvalidLimit, match=r"character 3 is U\+202E \(RIGHT-TO-LEFT OVERRIDE\)"):
        check_name("ap\u202ei")


@pytest.mark.parametrize("name", [None, 1, b"a", True, ["a"]])
def test_a_name_is_text(name: object) -> None:
    with pytest.raises(InvalidLimit, match="must be text"):
        check_name(name)  # type: ignore[arg-type]


def test_a_name_is_stored_composed() -> None:
    """The two ways to write é are one name, and count as one character."""
    assert check_name("e\u0301") == "\u00e9"
    assert check_name("e\u0301" * 200) == "\u00e9" * 200
    assert wanted(["e\u0301", "\u00e9"]) == (("\u00e9", 1),)


@pytest.mark.parametrize("text", [UUID, UUID.upper(), UUID.replace("-", ""), f"urn:uuid:{UUID}"])
def test_ids_are_told_from_names(text: str) -> None:
    assert is_uuid(text)
    assert not is_uuid("not-an-id")
    assert not is_uuid("x" * 36)


@pytest.mark.parametrize("limit", [0, 1, 1_000_000_000])
def test_a_limit_is_a_whole_number_from_zero_to_a_billion(limit: int) -> None:
    assert check_slots(limit) == limit


@pytest.mark.parametrize("limit", [-1, 1_000_000_001, 1.0, 1.5, math.nan, math.inf, True, False, "1", None])
def test_any_other_limit_is_refused(limit: object) -> None:
    with pytest.raises(InvalidLimit):
        check_slots(limit)  # type: ignore[arg-type]


@pytest.mark.parametrize("description", ["x" * 2001, 7, None, b"", "\ud800"])
def test_a_description_is_text_of_two_thousand_characters_at_most(description: object) -> None:
    assert check_description("x" * 2000)
    with pytest.raises(InvalidLimit):
        check_description(description)  # type: ignore[arg-type]


def test_names_of_an_acquisition_are_one_several_or_a_mapping() -> None:
    assert wanted("b", 2) == (("b", 2),)
    assert wanted(["b", "a"], 2) == (("a", 2), ("b", 2))
    assert wanted(("b", "a")) == (("a", 1), ("b", 1))
    assert wanted({"b": 2, "a": 1}, 7) == (("a", 1), ("b", 2))
    assert wanted([]) == ()


def test_duplicate_names_are_one_name() -> None:
    assert wanted(["a", "a"], 3) == (("a", 3),)


@pytest.mark.parametrize(
    "occupy", [0, -1, 1_000_000_001, True, False, 1.0, 1.5, math.nan, math.inf, "1", None]
)
def test_occupy_is_a_whole_number_of_slots(occupy: object) -> None:
    for names in ("a", ["a"], {"a": occupy}):
        with pytest.raises(InvalidRequest, match="occupy must be"):
            wanted(names, occupy)  # type: ignore[arg-type]


def test_nonsense_is_refused_when_it_is_asked() -> None:
    with pytest.raises(InvalidRequest, match="must be a name"):
        wanted(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidLimit):
        wanted({1: 1})  # type: ignore[dict-item]
    with pytest.raises(InvalidRequest, match="at most 100"):
        wanted([f"n{number}" for number in range(101)])


@pytest.mark.parametrize("priority", [True, 1.0, None, "1", 1_000_001, -1_000_001, math.nan])
def test_a_priority_is_a_whole_number_within_a_million(priority: object) -> None:
    with pytest.raises(InvalidRequest, match="priority"):
        Acquire("l", "s", 1, (), 1, priority=priority)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels",
    [
        {str(number): "" for number in range(33)},
        {"a": 1},
        {1: "a"},
        {"a" * 201: ""},
        {"a": "b" * 201},
        {"\ud800": ""},
        {"a": "\udcff"},
    ],
    ids=["too many", "number", "numbered", "long name", "long", "half a character", "name of a file"],
)
def test_labels_are_few_and_short_texts(labels: dict[str, str]) -> None:
    Acquire("l", "s", 1, (), 1, labels={"a" * 200: "b" * 200})
    with pytest.raises(InvalidRequest, match="label"):
        Acquire("l", "s", 1, (), 1, labels=labels)
    with pytest.raises(InvalidRequest, match="label"):
        Hello("s", 1, labels=labels)


def test_a_near_miss_is_the_likest_name() -> None:
    assert near_miss("databse", ["api", "database", "datastore"]) == "database"
    assert near_miss("DATABASE", ["database"]) == "database"
    assert near_miss("ab", ["xy"]) is None
    assert near_miss("database", ["database-of-all-tenants"]) is None
    assert near_miss("aab", ["aabc", "aabb"]) == near_miss("aab", ["aabb", "aabc"]) == "aabb"


def test_a_near_miss_is_looked_for_among_a_bounded_number_of_names() -> None:
    names = [f"zzzz{number:04}" for number in range(200)] + ["database"]
    assert near_miss("databse", names) is None
    assert near_miss("databse", names[1:]) == "database"


@pytest.mark.parametrize("lease_id", ["", "a" * 101, "a\nb", "\x00"])
def test_an_id_is_short_and_printable(lease_id: str) -> None:
    with pytest.raises(InvalidRequest, match="id of a lease"):
        check_id(lease_id)
    assert check_id("a" * 100) == "a" * 100


def test_nobody_looks_for_near_misses_of_a_name_that_no_limit_could_have() -> None:
    assert near_miss("a" * 250, ["a" * 250]) is None
