"""Spans and metrics for OpenTelemetry: how long code waited for slots, how long it held them, and what was lost.

>>> instrument()  # doctest: +SKIP

It needs `opentelemetry-api`; where they go is told to OpenTelemetry's own SDK. Until `instrument` is called, nothing
of this costs anything.
"""

import contextvars
import time
from typing import Final

from ebbgate.version import requirement

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.util.types import AttributeValue
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}; install it: pip install {requirement('otel')}", name=error.name
    ) from None

from ebbgate.client.lease import Lease
from ebbgate.errors import EbbgateError
from ebbgate.integrations.observing import Acquisition, Observation, add, remove
from ebbgate.version import version

_NAME: Final = "ebbgate"

_WAIT_BOUNDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0)
_HOLD_BOUNDS: Final = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0)


class Telemetry:
    """An observer that makes spans and measures."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        """Tell these providers, or those of the process."""
        self.tracer = trace.get_tracer(_NAME, version(), tracer_provider)
        meter = metrics.get_meter(_NAME, version(), meter_provider)
        self.waits = meter.create_histogram(
            "ebbgate.client.wait.duration", "s", "From asking for slots to getting in, or giving up.",
            explicit_bucket_boundaries_advisory=_WAIT_BOUNDS,
        )  # fmt: skip
        self.holds = meter.create_histogram(
            "ebbgate.client.hold.duration", "s", "From getting in to leaving the block.",
            explicit_bucket_boundaries_advisory=_HOLD_BOUNDS,
        )  # fmt: skip
        self.losses = meter.create_counter(
            "ebbgate.client.losses", "{lease}", "Leases that were lost while their block ran."
        )

    def asks(self, acquisition: Acquisition) -> Observation:
        """See `Observer`."""
        return _Told(self, acquisition)


class _Told:
    """One acquisition: a span while it waits, another while it holds, which is the parent of what its block does."""

    def __init__(self, telemetry: Telemetry, acquisition: Acquisition) -> None:
        self._telemetry = telemetry
        self._limits = [name for name, _ in acquisition.slots]
        self._kind = "spend" if acquisition.spend else "hold"
        self._attributes: dict[str, AttributeValue] = {
            "ebbgate.limits": self._limits,
            "ebbgate.slots": [slots for _, slots in acquisition.slots],
            "ebbgate.kind": self._kind,
        }
        self._token: contextvars.Token[context.Context] | None = None
        self._at = time.monotonic()
        self._span = self._begin("wait for")

    def _begin(self, what: str) -> trace.Span:
        name = f"{what} {', '.join(self._limits)}"
        return self._telemetry.tracer.start_span(name, attributes=self._attributes)

    def let_in(self, lease: Lease | None) -> None:
        waited = self._measured_wait()
        self._attributes["ebbgate.waited_seconds"] = waited
        if lease is not None:
            self._attributes["ebbgate.lease.id"] = lease.id
            self._attributes["ebbgate.lease.protected"] = lease.protected
            self._attributes["ebbgate.lease.fencing_token"] = lease.fencing_token
        self._span.set_attributes(self._attributes)
        self._span.end()
        if lease is not None:
            self._at = time.monotonic()
            self._span = self._begin("hold")
            self._token = context.attach(trace.set_span_in_context(self._span))

    def kept_out(self, error: BaseException) -> None:
        code = error.code if isinstance(error, EbbgateError) else type(error).__name__
        waited = self._measured_wait(code)
        self._span.set_attributes({"ebbgate.waited_seconds": waited, "error.type": code})
        self._span.set_status(trace.StatusCode.ERROR, str(error))
        self._span.end()

    def lost(self, lease: Lease) -> None:
        for limit in self._limits:
            self._telemetry.losses.add(1, {"ebbgate.limit": limit})
        self._span.add_event("ebbgate.lease.lost", {"ebbgate.why": lease.why})

    def left(self, lease: Lease, error: BaseException | None) -> None:
        held = time.monotonic() - self._at
        for limit in self._limits:
            self._telemetry.holds.record(held, {"ebbgate.limit": limit})
        self._span.set_attribute("ebbgate.lease.lost", lease.lost)
        if error is not None:
            self._span.set_attribute("error.type", type(error).__qualname__)
        self._span.end()
        if self._token is not None:
            context.detach(self._token)

    def _measured_wait(self, error: str = "") -> float:
        waited = time.monotonic() - self._at
        failed = {"error.type": error} if error else {}
        for limit in self._limits:
            attributes = {"ebbgate.limit": limit, "ebbgate.kind": self._kind, **failed}
            self._telemetry.waits.record(waited, attributes)
        return waited


_current: list[Telemetry] = []


def instrument(
    tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
) -> None:
    """Make spans and metrics from now on of everything that this process waits for, holds and loses.

    Args:
        tracer_provider: where spans go; None: the provider of the process.
        meter_provider: where metrics go; None: the same.
    """
    uninstrument()
    telemetry = Telemetry(tracer_provider, meter_provider)
    _current.append(telemetry)
    add(telemetry)


def uninstrument() -> None:
    """Make none of new acquisitions."""
    while _current:
        remove(_current.pop())
