"""A body that cannot be read is the client's mistake: it gets a status of 4xx, and the log gets no traceback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefect.conftest import folder_of_a_test
from tests.prefect.contract import LIMITS, Case, ask
from tests.server.processes import Served, started

DIGITS = b"1" * 4_301
UNREADABLE = {
    "digits": b'{"limit": %b, "slots": %b}' % (DIGITS, DIGITS),
    "digits_after_a_float": b'{"name": "a", "limit": 1.0, "description": %b}' % DIGITS,
    "digits_in_an_unknown_field": b'{"x": %b}' % DIGITS,
    "deep": b"[" * 100_000,
    "deep_inside": b'{"x": ' + b"[" * 100_000,
    "no_utf8": b'{"name": "\xff"}',
    "cut": b'{"name": "a',
}
ROUTES = [
    ("POST", "/v1/limits"), ("PUT", "/v1/limits/a"), ("PATCH", "/v1/limits/a"), ("POST", "/v1/limits/a/cool-down"),
    ("POST", "/v1/leases"), ("POST", "/v1/leases/renew"), ("POST", "/v1/spends"),
    ("POST", f"{LIMITS}/"), ("PATCH", f"{LIMITS}/a"), ("POST", f"{LIMITS}/filter"), ("POST", f"{LIMITS}/increment"),
    ("POST", f"{LIMITS}/increment-with-lease"), ("POST", f"{LIMITS}/decrement"),
    ("POST", f"{LIMITS}/decrement-with-lease"),
]  # fmt: skip


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    folder: Path = folder_of_a_test()
    with started(folder) as server:
        yield server


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_body_that_cannot_be_read_is_a_clients_mistake_at_every_route(served: Served, body: bytes) -> None:
    for method, path in ROUTES:
        answered = ask(served.url, Case(method, path, body))
        expected = {422} if path.startswith("/api") else {400, 422}
        assert answered.status in expected, (method, path, answered)
    assert not [entry for entry in served.entries() if "traceback" in entry]
