"""API keys: how they are written, how they are presented, and that nothing tells what they are."""

import hmac
from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbgate.errors import InvalidRequest
from ebbgate.server import keys as module
from ebbgate.server.keys import KEY_LENGTH_MIN, Keys, keys_from

KEY = "k" * KEY_LENGTH_MIN
PADDED = b64encode(b"sixteen random bytes").decode()


def bearer(keys: Keys, key: str) -> str | None:
    return keys.id_of(f"Bearer {key}".encode(), basic=False)


def basic(keys: Keys, text: str) -> str | None:
    return keys.id_of(b"Basic " + b64encode(text.encode()), basic=True)


def test_without_keys_there_is_nothing_to_ask_for() -> None:
    assert not Keys()
    assert not keys_from(None, None)
    assert not keys_from(" , ,", "\n# none yet\n\n")


def test_a_key_is_known_by_its_name_or_by_its_digest() -> None:
    keys = Keys([KEY, f"ci={KEY}2"])
    assert bearer(keys, KEY) == sha256(KEY.encode()).hexdigest()[:8]
    assert bearer(keys, f"{KEY}2") == "ci"
    assert set(keys.ids) == {bearer(keys, KEY), "ci"}


def test_two_keys_of_one_name_are_one_client_that_changes_its_key() -> None:
    keys = Keys([f"ci={KEY}-old", f"ci={KEY}-new"])
    assert bearer(keys, f"{KEY}-old") == bearer(keys, f"{KEY}-new") == "ci"


def test_an_equals_sign_that_pads_a_key_parts_nothing() -> None:
    assert PADDED.endswith("=")
    assert bearer(Keys([PADDED]), PADDED)
    assert bearer(Keys([f"ci={PADDED}"]), PADDED) == "ci"


def test_a_list_and_a_file_add_up() -> None:
    keys = keys_from(f"a={KEY}1, {KEY}2 ,", f"# of the team\nb={KEY}3\n\n  c={KEY}4  \n")
    assert [bearer(keys, f"{KEY}{number}") is not None for number in (1, 2, 3, 4)] == [True] * 4
    assert bearer(keys, "# of the team") is None


@pytest.mark.parametrize(
    "entry",
    [
        "short",
        "ci=short",
        f"c i={KEY}",
        f"={KEY}",
        f"ci={KEY} x",
        "ci=" + "ü" * 20,
        "x" * 513,
        "n" * 65 + f"={KEY}",
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(entry: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Keys([KEY, entry])
    assert "no. 2" in str(refused.value)
    assert entry.rpartition("=")[2] not in str(refused.value)


def test_one_key_has_one_name() -> None:
    with pytest.raises(InvalidRequest):
        Keys([f"a={KEY}", f"b={KEY}"])


def test_a_key_is_shown_nowhere() -> None:
    keys = Keys([f"ci={KEY}"])
    assert KEY not in repr(keys) + str(keys) + repr(keys._known)
    assert KEY.encode() not in repr(keys._known).encode()


def test_bearer_in_any_case_and_nothing_else() -> None:
    keys = Keys([f"ci={KEY}"])
    for said in (f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "):
        assert keys.id_of(said.encode(), basic=False) == "ci"
    for said in ("", KEY, f"Token {KEY}", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"):
        assert keys.id_of(said.encode(), basic=False) is None


def test_basic_carries_a_key_as_password_or_alone_where_it_is_allowed() -> None:
    keys = Keys([f"ci={KEY}", f"odd={KEY}:x"])
    for said in (KEY, f"{KEY}:", f"user:{KEY}", f":{KEY}"):
        assert basic(keys, said) == "ci"
        assert keys.id_of(b"Basic " + b64encode(said.encode()), basic=False) is None
    assert basic(keys, f"user:{KEY}:x") == basic(keys, f"{KEY}:x") == "odd"
    assert basic(keys, f"user:{KEY}y") is None
    for raw in (b"Basic ???", b"Basic", b"Basic " + b"A" * 5_000, b"Basic =", b"Basic \xff"):
        assert keys.id_of(raw, basic=True) is None


@given(st.binary(max_size=200), st.booleans())
def test_no_header_makes_it_fail(header: bytes, basic_too: bool) -> None:
    keys = Keys([KEY])
    for said in (header, b"Bearer " + header, b"Basic " + header, b"Basic " + b64encode(header)):
        assert keys.id_of(said, basic=basic_too) is None


def test_every_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time each, digests of one length, and no early end."""
    keys = Keys([f"{KEY}{number}" for number in range(5)])
    compared = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    class Watched:
        compare_digest = staticmethod(watched)

    monkeypatch.setattr(module, "hmac", Watched)
    for presented in (f"{KEY}0", f"{KEY}4", "x"):
        compared.clear()
        bearer(keys, presented)
        assert compared == [(32, 32)] * 5
