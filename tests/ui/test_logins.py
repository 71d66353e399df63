"""Logging in with a browser: a cookie stands for a key, for pages of this server alone."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ebbgate.server.keys import Keys
from ebbgate.server.ui.logins import IDLE_SECONDS, LOGINS_MAX, Logins, cookie_header
from tests.server.rest.serving import Served, served

KEY = "a-key-of-many-letters"
OTHER = "another-key-of-letters"
SESSION = "/ui/session"
LIMIT = {"name": "db", "limit": 1}


@pytest.fixture
def here() -> Iterator[Served]:
    """Give a server that wants keys."""
    with served(keys=Keys([f"ops={KEY}", f"dev={OTHER}"])) as server:
        yield server


def logged_in(here: Served, key: str = KEY) -> httpx.Client:
    client = here.caller()
    answer = client.post(SESSION, json={"key": key})
    assert answer.status_code == 200, answer.text
    return client


def own(here: Served) -> dict[str, str]:
    return {"Origin": here.url}


def test_a_cookie_stands_for_the_key(here: Served) -> None:
    client = here.caller()
    assert client.get(SESSION).json() == {"needs_key": True, "key": None}
    assert client.get("/v1/limits").status_code == 401
    answer = client.post(SESSION, json={"key": f" {KEY} "})
    assert answer.json() == {"needs_key": True, "key": "ops"}
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert KEY not in cookie
    assert client.get(SESSION).json()["key"] == "ops"
    assert client.get("/v1/limits").status_code == 200
    assert client.post("/v1/limits", json=LIMIT, headers=own(here)).status_code == 201


def test_what_changes_something_must_say_that_it_comes_from_our_page(here: Served) -> None:
    client = logged_in(here)
    assert client.post("/v1/limits", json=LIMIT).status_code == 401
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/v1/limits", json=LIMIT, headers=foreign).status_code == 403
    sites: list[dict[str, str]] = [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site")]
    for headers in sites:
        assert client.post("/v1/limits", json=LIMIT, headers=headers).status_code == 403
        assert client.post(SESSION, json={"key": KEY}, headers=headers).status_code == 403
    answer = client.post("/v1/limits", json=LIMIT, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 201


def test_a_wrong_key_lets_nobody_in(here: Served) -> None:
    client = here.caller()
    answer = client.post(SESSION, json={"key": "wrong-key-of-many-letters"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_authorized")
    bodies: list[Any] = [{}, {"key": 1}, {"key": KEY, "more": 1}, {"key": "x" * 5000}]
    for body in bodies:
        assert client.post(SESSION, json=body).status_code == 400
    assert "set-cookie" not in answer.headers
    forged = {"Cookie": f"ebbgate-{here.url.rpartition(':')[2]}=forged"}
    assert client.get("/v1/limits", headers=forged).status_code == 401


def test_logging_out_ends_it_for_good(here: Served) -> None:
    client = logged_in(here)
    cookies = dict(client.cookies)
    assert client.delete(SESSION).status_code == 204
    assert client.get("/v1/limits").status_code == 401
    stolen = "; ".join(f"{name}={value}" for name, value in cookies.items())
    assert here.caller().get("/v1/limits", headers={"Cookie": stolen}).status_code == 401


def test_a_cookie_opens_neither_prefects_routes_nor_anything_beside_a_wrong_key(here: Served) -> None:
    client = logged_in(here)
    assert client.get("/api/concurrency_limits").status_code == 401
    assert (
        client.get("/v1/limits", headers={"Authorization": "Bearer wrong-key-of-letters"}).status_code == 401
    )


def test_without_keys_there_is_nothing_to_log_in_to() -> None:
    with served() as server:
        assert server.client.get(SESSION).json() == {"needs_key": False, "key": None}
        assert server.client.post(SESSION, json={"key": "x"}).json() == {"needs_key": False, "key": None}


def test_a_log_in_ends_when_nobody_uses_it() -> None:
    now = 0.0
    logins = Logins(Keys([f"ops={KEY}"]), lambda: now)
    scope = {"scheme": "https", "headers": [(b"host", b"gate.example.com")]}
    opened = logins.open(KEY)
    assert opened
    header = cookie_header(scope, opened[0])
    assert header.startswith(b"__Host-ebbgate=")
    assert b"; Secure" in header
    cookies = b"x=1; " + header.partition(b";")[0]
    for now in (1.0, IDLE_SECONDS, 2 * IDLE_SECONDS - 1):  # noqa: B007 - the clock reads it
        assert logins.id_of(scope, cookies) == "ops"
    now = 4 * IDLE_SECONDS
    assert logins.id_of(scope, cookies) is None


def test_only_so_many_are_logged_in() -> None:
    logins = Logins(Keys([KEY]))
    for _ in range(LOGINS_MAX + 5):
        assert logins.open(KEY)
    assert len(logins._known) == LOGINS_MAX
