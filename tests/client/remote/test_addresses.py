"""From what stands in `EBBGATE_URL` to servers that can be dialled."""

import pytest

from ebbgate.client.connect import gate_for
from ebbgate.client.remote.addresses import Address, addresses_of, canonical
from ebbgate.errors import InvalidRequest


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ebbgate://host", Address("host", 4220)),
        ("ebbgate://host:1", Address("host", 1)),
        ("ebbgates://host", Address("host", 443, secure=True)),
        ("http://host", Address("host", 80)),
        ("https://host:4220", Address("host", 4220, secure=True)),
        ("https://host/limits/", Address("host", 443, secure=True, prefix="/limits")),
        ("ebbgate://[::1]:4220", Address("::1", 4220)),
        ("ebbgate://HOST.example", Address("host.example", 4220)),
        ("ebbgate+unix:///run/x%20y.sock", Address("", 0, path="/run/x y.sock")),
    ],
)
def test_one_server_is_found_by_its_scheme_host_and_port(url: str, address: Address) -> None:
    assert addresses_of(url) == (address,)


def test_several_servers_stand_behind_each_other() -> None:
    found = (Address("a", 4220), Address("b", 1), Address("c", 443, secure=True))
    assert addresses_of("ebbgate://a, ebbgate://b:1,ebbgates://c,ebbgate://a") == found
    assert addresses_of("ebbgate://a,b:1") == found[:2]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ebbgate://",
        "ebbgate://:4220",
        "ebbgate://host:0",
        "ebbgate://host:70000",
        "ebbgate://host:x",
        "ebbgate://user:secret@host",
        "ebbgate://host?key=1",
        "ebbgate://host#x",
        "ebbgate+unix://relative.sock",
        "redis://host",
        "ebbgate://a,redis://host",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        addresses_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "ebbgate://name:secret@host:70000",
        "ebbgate://secret@host,redis://x",
        "ebbgate://a,b:secret@c",
        "ebbgate://host?key=secret",
        "http//name:secret@host",
        "secret@host:4220",
    ],
)
def test_a_key_in_an_address_is_repeated_nowhere(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        gate_for(url)
    assert "secret" not in str(refused.value)


def test_addresses_of_the_same_servers_are_one_however_they_are_written() -> None:
    assert canonical("ebbgate://b,a") == canonical("ebbgate://A:4220,ebbgate://b:4220,http://a:4220")
    assert canonical("ebbgates://a") != canonical("ebbgate://a")
    for url in ("ebbgate://[::1]", "https://a/x", "ebbgate+unix:///a%20b"):
        assert addresses_of(canonical(url)) == addresses_of(url)
