"""What OpenTelemetry's own SDK is told of waits, holds and losses."""

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ebbgate import AsyncClient, Client
from ebbgate.client.observing import observers
from ebbgate.errors import AcquireTimeout, LeaseLost
from ebbgate.integrations import opentelemetry
from ebbgate.integrations.observing import Acquisition, Observation
from tests.cli.support import wait_until
from tests.serving import served


class Told:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self, metric: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for one in scope.metrics
            if one.name == metric
            for point in one.data.data_points
        ]


@pytest.fixture
def told() -> Iterator[Told]:
    here = Told()
    opentelemetry.instrument(here.tracers, here.meters)
    yield here
    opentelemetry.uninstrument()
    here.meters.shutdown()
    here.tracers.shutdown()


@pytest.fixture(params=["file", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"sqlite:///{tmp_path}/gate.db"
        return
    with served("memory://") as server:
        yield server.url


def hold(client: Client, name: str, inside: Callable[[], None], **terms: Any) -> str:  # noqa: ANN401 - those of `concurrency`
    with client.concurrency(name, **terms) as lease:
        inside()
    return lease.id


def hold_async(client: Client, name: str, inside: Callable[[], None], **terms: Any) -> str:  # noqa: ANN401 - those of `concurrency`
    async def main() -> str:
        asynchronous = AsyncClient(client.url)
        async with asynchronous.concurrency(name, **terms) as lease:
            await asyncio.to_thread(inside)
        return lease.id

    return asyncio.run(main())


def spend(client: Client, name: str) -> None:
    client.rate_limit(name)


def spend_async(client: Client, name: str) -> None:
    async def main() -> None:
        await AsyncClient(client.url).rate_limit(name)

    asyncio.run(main())


@pytest.mark.parametrize("way", [hold, hold_async])
def test_a_block_is_a_span_for_its_wait_and_one_for_its_hold_around_what_it_does(
    way: Callable[..., str], url: str, told: Told
) -> None:
    def inside() -> None:
        told.tracers.get_tracer("mine").start_span("work").end()

    with Client(url) as client:
        client.create_limit("database", 5)
        lease_id = way(client, "database", inside, occupy=2)
    spans = told.spans()
    waited, held, work = spans["wait for database"], spans["hold database"], spans["work"]
    assert work.parent is not None
    assert held.context is not None
    assert work.parent.span_id == held.context.span_id
    assert held.parent is None
    for span in (waited, held):
        attributes = dict(span.attributes or {})
        assert attributes["ebbgate.limits"] == ("database",)
        assert attributes["ebbgate.slots"] == (2,)
        assert attributes["ebbgate.lease.id"] == lease_id
        assert attributes["ebbgate.kind"] == "hold"
        assert 0 <= float(str(attributes["ebbgate.waited_seconds"])) < 60
        assert span.status.is_unset
    (wait,) = told.points("ebbgate.client.wait.duration")
    assert dict(wait.attributes) == {"ebbgate.limit": "database", "ebbgate.kind": "hold"}
    assert wait.count == 1
    (hold_point,) = told.points("ebbgate.client.hold.duration")
    assert (dict(hold_point.attributes), hold_point.count) == ({"ebbgate.limit": "database"}, 1)


@pytest.mark.parametrize("way", [spend, spend_async])
def test_a_spend_is_one_span_and_holds_nothing(
    way: Callable[[Client, str], None], url: str, told: Told
) -> None:
    with Client(url) as client:
        client.create_limit("api", 5, slot_decay_per_second=100)
        way(client, "api")
    assert set(told.spans()) == {"wait for api"}
    (wait,) = told.points("ebbgate.client.wait.duration")
    assert dict(wait.attributes) == {"ebbgate.limit": "api", "ebbgate.kind": "spend"}
    assert told.points("ebbgate.client.hold.duration") == []


@pytest.mark.parametrize("way", [hold, hold_async])
def test_who_is_kept_out_is_told_with_the_code_of_the_error(
    way: Callable[..., str], url: str, told: Told
) -> None:
    with Client(url) as client:
        client.create_limit("full", 0)
        with pytest.raises(AcquireTimeout):
            way(client, "full", pytest.fail, timeout_seconds=0.05)
    (span,) = told.spans().values()
    assert not span.status.is_ok
    assert not span.status.is_unset
    assert dict(span.attributes or {})["error.type"] == "acquire_timeout"
    (wait,) = told.points("ebbgate.client.wait.duration")
    assert wait.attributes["error.type"] == "acquire_timeout"
    assert wait.sum >= 0.05


@pytest.mark.parametrize("way", [hold, hold_async])
def test_a_loss_is_counted_once(way: Callable[..., str], url: str, told: Told) -> None:
    with Client(url) as client:
        client.create_limit("database", 1)

        def revoke() -> None:
            (lease,) = client.list_leases("database", "held")
            client.revoke_lease(lease.id)
            wait_until(lambda: bool(told.points("ebbgate.client.losses")), "the loss was never told")

        with pytest.raises(LeaseLost):
            way(client, "database", revoke, strict=True)
    (point,) = told.points("ebbgate.client.losses")
    assert (dict(point.attributes), point.value) == ({"ebbgate.limit": "database"}, 1)
    held = told.spans()["hold database"]
    assert [event.name for event in held.events] == ["ebbgate.lease.lost"]
    assert dict(held.attributes or {})["ebbgate.lease.lost"] is True


def test_a_block_that_runs_unprotected_says_so(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "0.1")
    with Client("ebbgate://127.0.0.1:9") as client:
        hold(client, "database", lambda: None, on_unavailable="run")
    assert dict(told.spans()["hold database"].attributes or {})["ebbgate.lease.protected"] is False


def test_after_uninstrument_nothing_is_told(told: Told) -> None:
    opentelemetry.uninstrument()
    with Client("memory://") as client:
        client.create_limit("database", 1)
        hold(client, "database", lambda: None)
        client.delete_limit("database")
    assert told.spans() == {}
    assert observers == []


def test_instrument_twice_tells_once(told: Told) -> None:
    opentelemetry.instrument(told.tracers, told.meters)
    assert len(observers) == 1


def test_an_observer_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def asks(self, acquisition: Acquisition) -> Observation:
            raise RuntimeError("a defect of the observer")

    observers.append(Broken())
    try:
        with Client("memory://") as client, warnings.catch_warnings(action="error"):
            client.create_limit("database", 1)
            hold(client, "database", lambda: None)
            client.delete_limit("database")
    finally:
        observers.clear()
    assert "a defect of the observer" in caplog.text


def test_the_sdk_does_not_import_it_by_itself() -> None:
    program = "import sys, ebbgate.sync, ebbgate.asyncio; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
