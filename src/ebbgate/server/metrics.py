"""What Prometheus scrapes: what is going on now, read from the book; what has happened, counted as it is committed.

Every metric of a limit carries its name. A server with very many limits shows the first `LIMITS_MAX` by name
one by one, and the rest together as `_other`, so that nobody's time series grow without bound.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ebbgate.core import views
from ebbgate.core.model import SECOND, Lease, Stored
from ebbgate.server.decider import Decider
from ebbgate.server.front import App, Receive, Scope, Send
from ebbgate.server.sessions import Sessions
from ebbgate.version import version

LIMITS_MAX: Final = 500
OTHER: Final = "_other"
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_WAIT_BUCKETS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0)
_HOLD_BUCKETS: Final = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0)


class Metrics:
    """The metrics of one server."""

    def __init__(self, decider: Decider, sessions: Sessions) -> None:
        """Count from now on what `decider` commits."""
        self._decider = decider
        self._seen_us = 0
        self._registry = registry = CollectorRegistry()
        names = ("limit",)
        self._grants = Counter(
            "ebbgate_grants", "Acquisitions that got in.", (*names, "kind"), registry=registry
        )
        self._ends = Counter(
            "ebbgate_ends", "Leases that ended, and why: released, expired, lost_holder, revoked, cancelled.",
            (*names, "why"), registry=registry,
        )  # fmt: skip
        self._waits = Histogram(
            "ebbgate_wait_seconds", "From asking to being let in, 0 for who did not have to wait.", names,
            buckets=_WAIT_BUCKETS, registry=registry,
        )  # fmt: skip
        self._holds = Histogram(
            "ebbgate_hold_seconds", "From being let in to the end of the lease.", names,
            buckets=_HOLD_BUCKETS, registry=registry,
        )  # fmt: skip
        self._refusals = Counter(
            "ebbgate_refusals", "Commands that were refused, by the code of the error.", ("code",), registry=registry
        )  # fmt: skip
        registry.register(_Present(decider, sessions))
        decider.watchers.append(self._watch)
        decider.refused.append(lambda code: self._refusals.labels(code).inc())

    def scrape(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _watch(self, stored: Sequence[Stored] | None, now_us: int) -> None:
        before_us, self._seen_us = self._seen_us, now_us
        for entry in stored or ():
            lease = entry.record
            if isinstance(lease, Lease) and lease.slots:
                if lease.at_us > before_us:
                    self._granted(lease)
                if lease.ended_us > before_us and lease.why != "spent":
                    self._ended(lease)

    def _granted(self, lease: Lease) -> None:
        seconds = max(lease.at_us - lease.since_us, 0) / SECOND
        for name in self._names(lease):
            self._grants.labels(name, lease.kind).inc()
            self._waits.labels(name).observe(seconds)

    def _ended(self, lease: Lease) -> None:
        for name in self._names(lease):
            self._ends.labels(name, lease.why).inc()
            if lease.at_us >= 0:
                self._holds.labels(name).observe((lease.ended_us - lease.at_us) / SECOND)

    def _names(self, lease: Lease) -> Iterable[str]:
        book = self._decider.book
        for limit_id, _ in lease.slots:
            live = book.lives.get(limit_id)
            if live is not None:
                yield (
                    live.limit.name
                    if len(book.names) <= LIMITS_MAX
                    else _bounded(book.names, live.limit.name)
                )


def _bounded(names: Iterable[str], name: str) -> str:
    """Return a name as it stands in the metrics of a server with very many limits."""
    shown = sorted(names)[:LIMITS_MAX]
    return name if name <= shown[-1] else OTHER


class _Present(Collector):
    """What is going on now."""

    def __init__(self, decider: Decider, sessions: Sessions) -> None:
        self._decider = decider
        self._sessions = sessions

    def collect(self) -> Iterable[Metric]:
        """Read the book."""
        decider = self._decider
        yield InfoMetricFamily("ebbgate_server", "The server itself.", {"version": version()})
        ready = 1.0 if decider.why_not_ready is None else 0.0
        yield GaugeMetricFamily(
            "ebbgate_ready", "1 if slots can be granted, 0 if the store is out of reach.", ready
        )
        yield GaugeMetricFamily(
            "ebbgate_clients", "Client processes that are connected.", len(self._sessions)
        )
        yield GaugeMetricFamily(
            "ebbgate_sessions", "Client processes that are known.", len(decider.book.sessions)
        )
        yield GaugeMetricFamily("ebbgate_limits", "Limits.", len(decider.book.names))
        yield from self._limits()

    def _limits(self) -> Iterable[Metric]:
        families = {
            "slots": GaugeMetricFamily("ebbgate_limit_slots", "Slots that a limit has.", labels=("limit",)),
            "held": GaugeMetricFamily(
                "ebbgate_limit_held_slots", "Slots that leases hold.", labels=("limit",)
            ),
            "spent": GaugeMetricFamily(
                "ebbgate_limit_spent_slots", "Slots that are spent and have not come back.", labels=("limit",)
            ),
            "waiting": GaugeMetricFamily("ebbgate_limit_waiting", "Leases that wait.", labels=("limit",)),
            "oldest": GaugeMetricFamily(
                "ebbgate_limit_oldest_wait_seconds",
                "How long the first in line has waited.",
                labels=("limit",),
            ),
            "active": GaugeMetricFamily(
                "ebbgate_limit_active", "1 if the limit is enforced.", labels=("limit",)
            ),
        }
        for name, values in self._values().items():
            for family, value in values.items():
                families[family].add_metric((name,), value)
        yield from families.values()

    def _values(self) -> dict[str, dict[str, float]]:
        book, now_us = self._decider.book, self._decider.store.clock()
        shown: dict[str, dict[str, float]] = {}
        for number, name in enumerate(sorted(book.names)):
            live = book.names[name]
            view = views.limit_view(live, now_us)
            firsts = [group.waiters[0].since_us for group in live.groups if group.waiters]
            values = {
                "slots": view.limit.limit,
                "held": view.held,
                "spent": view.spent,
                "waiting": view.waiting,
                "oldest": max(now_us - min(firsts), 0) / SECOND if firsts else 0.0,
                "active": float(view.limit.active),
            }
            if number < LIMITS_MAX:
                shown[name] = values
            else:
                before = shown.setdefault(OTHER, dict.fromkeys(values, 0.0))
                for what, value in values.items():
                    before[what] = max(before[what], value) if what == "oldest" else before[what] + value
        return shown


def metrics_app(metrics: Metrics) -> App:
    """Return the application that answers a scrape."""

    async def scrape(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        reads = scope["method"] in {"GET", "HEAD"}
        body = metrics.scrape() if reads else b""
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        if not reads:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": 200 if reads else 405, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return scrape
