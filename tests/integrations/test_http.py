"""Requests keep to a rate limit, and a server that says "too many requests" makes everybody wait."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import requests

from ebbgate import Client, errors
from ebbgate.client.connect import close_gate
from ebbgate.integrations.httpx import AsyncLimitedTransport, LimitedTransport
from ebbgate.integrations.pacing import COOL_MAX_SECONDS, pause_asked
from ebbgate.integrations.requests import LimitedAdapter
from tests.embedded import embedded


class Vendor(ThreadingHTTPServer):
    """An API that notes when it was called, and is at times too busy."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.called: list[float] = []
        self.busy_for = 0  # seconds it will ask the next caller to wait
        self.before_answering: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Vendor

    def do_GET(self) -> None:
        self.server.called.append(time.monotonic())
        busy, self.server.busy_for = self.server.busy_for, 0
        self.server.before_answering()
        self.send_response(429 if busy else 200)
        if busy:
            self.send_header("Retry-After", str(busy))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    url = f"sqlite:///{tmp_path / 'limits.db'}"
    monkeypatch.setenv("EBBGATE_URL", url)
    client = Client(url)
    client.create_limit("api", 1, slot_decay_per_second=20.0)
    yield client
    close_gate(url)


def is_paced(called: list[float]) -> bool:
    """Tell whether six requests took five intervals of 50 ms, but for how late the first one was."""
    return len(called) == 6 and called[-1] - called[0] >= 0.22


def test_requests_of_httpx_keep_to_the_rate(client: Client, vendor: Vendor) -> None:
    with httpx.Client(transport=LimitedTransport("api")) as http:
        assert [http.get(vendor.url).status_code for _ in range(6)] == [200] * 6
    assert is_paced(vendor.called)


def test_requests_of_async_httpx_keep_to_the_rate(client: Client, vendor: Vendor) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncLimitedTransport("api")) as http:
            await asyncio.gather(*(http.get(vendor.url) for _ in range(6)))

    asyncio.run(main())
    assert is_paced(vendor.called)


def test_requests_of_requests_keep_to_the_rate(client: Client, vendor: Vendor) -> None:
    with requests.Session() as session:
        session.mount("http://", LimitedAdapter("api"))
        assert [session.get(vendor.url).status_code for _ in range(6)] == [200] * 6
    assert is_paced(vendor.called)


def test_a_server_that_is_too_busy_makes_everybody_wait_and_see_why(client: Client, vendor: Vendor) -> None:
    with httpx.Client(transport=LimitedTransport("api", timeout_seconds=0)) as http:
        vendor.busy_for = 60
        assert http.get(vendor.url).status_code == 429
        limit = client.read_limit("api")
        assert limit.cool_down_why == "429 from 127.0.0.1"
        assert limit.cool_down_until is not None
        with requests.Session() as session:
            session.mount("http://", LimitedAdapter("api", timeout_seconds=0))
            with pytest.raises(errors.AcquireTimeout):
                session.get(vendor.url)
    assert len(vendor.called) == 1, "what had to wait was not sent"


def test_async_clients_are_made_to_wait_too(client: Client, vendor: Vendor) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncLimitedTransport("api")) as http:
            vendor.busy_for = 60
            await http.get(vendor.url)

    asyncio.run(main())
    assert client.read_limit("api").cool_down_until is not None


class Noting(httpx.AsyncHTTPTransport):
    """Notes its last response."""

    response: httpx.Response | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.response = await super().handle_async_request(request)
        return self.response


def test_who_is_cancelled_while_everybody_is_made_to_wait_gives_the_connection_back(
    client: Client, vendor: Vendor
) -> None:
    deciding = embedded(client)._mutex
    held, go_on = threading.Event(), threading.Event()

    def decide() -> None:
        with deciding.lock:
            held.set()
            go_on.wait(30)

    def begin_to_decide() -> None:
        threading.Thread(target=decide).start()
        held.wait(30)

    async def main() -> None:
        inner = Noting()
        async with httpx.AsyncClient(transport=AsyncLimitedTransport("api", inner)) as http:
            vendor.busy_for, vendor.before_answering = 60, begin_to_decide
            asking = asyncio.create_task(http.get(vendor.url))
            while inner.response is None:
                await asyncio.sleep(0.001)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            assert inner.response.is_closed
        go_on.set()

    asyncio.run(main())


def test_it_can_be_left_to_the_caller(client: Client, vendor: Vendor) -> None:
    with httpx.Client(transport=LimitedTransport("api", cool_down=False)) as http:
        vendor.busy_for = 60
        http.get(vendor.url)
    assert client.read_limit("api").cool_down_until is None


def test_a_response_is_not_lost_to_a_limit_that_does_not_exist(
    client: Client, vendor: Vendor, recwarn: pytest.WarningsRecorder
) -> None:
    vendor.busy_for = 60
    with httpx.Client(transport=LimitedTransport("nobody")) as http:
        assert http.get(vendor.url).status_code == 429
    recwarn.pop(errors.UnknownLimitWarning)


def test_retry_after_is_read_as_the_standard_has_it() -> None:
    now = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    later = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert pause_asked(429, {"Retry-After": "30"}) == 30
    assert pause_asked(503, {"Retry-After": later}, now) == 90
    assert pause_asked(503, {"Retry-After": format_datetime(now - timedelta(days=1), usegmt=True)}, now) == 0
    assert pause_asked(429, {"Retry-After": "9" * 40}) == COOL_MAX_SECONDS
    assert pause_asked(200, {"Retry-After": "30"}) is None
    assert pause_asked(429, {}) is None
    for nonsense in ("soon", "-5", "", "٣", f"Mon, 01 Jan {10**20} 00:00:00 GMT"):
        assert pause_asked(429, {"Retry-After": nonsense}) is None


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "1.5"}, 1.5),
        (429, {"Retry-After": "0.25"}, 0.25),
        (429, {"Retry-After": "120, 60"}, 120),
        (403, {"Retry-After": "60"}, 60),
        (403, {}, None),
        (429, {"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        (429, {"retry-after-ms": "soon", "Retry-After": "2"}, 2),
        (429, {"retry-after-ms": "9" * 400}, COOL_MAX_SECONDS),
        (429, {"Retry-After": "1e3"}, None),
        (429, {"Retry-After": "nan"}, None),
        (429, {"Retry-After": "1, soon"}, None),
    ],
)
def test_a_pause_is_read_in_each_form_that_vendors_send(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    assert pause_asked(status, headers) == seconds


def test_a_date_in_retry_after_is_measured_from_the_date_of_the_response() -> None:
    for year in (1990, 2090):  # the clock here is wrong by decades
        sent = datetime(year, 11, 20, 12, 0, tzinfo=UTC)
        until = format_datetime(sent + timedelta(seconds=20), usegmt=True)
        headers = {"Retry-After": until, "Date": format_datetime(sent, usegmt=True)}
        assert pause_asked(429, headers) == 20
