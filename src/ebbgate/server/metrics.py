"""What Prometheus scrapes: what is going on now, read from the book; what has happened, as `tally` has counted it.

Every metric of a limit carries its name. A server with very many limits shows the first `LIMITS_MAX` by name
one by one, and the rest together as `_other`, so that nobody's time series grow without bound.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ebbgate.core import views
from ebbgate.core.model import SECOND, SERVER
from ebbgate.errors import StoreUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.front import App, Receive, Scope, Send
from ebbgate.server.sessions import Sessions
from ebbgate.server.tally import HOLD_BUCKETS, WAIT_BUCKETS, Tallies, Tally
from ebbgate.version import version

LIMITS_MAX: Final = 500
OTHER: Final = "_other"
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one server."""

    def __init__(self, decider: Decider, sessions: Sessions, tallies: Tallies) -> None:
        """Show what is, and what `tallies` has counted."""
        self._registry = CollectorRegistry()
        self._registry.register(_Past(decider, tallies))
        self._registry.register(_Present(decider, sessions))

    def scrape(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Past(Collector):
    """What has happened since the server began."""

    def __init__(self, decider: Decider, tallies: Tallies) -> None:
        self._decider = decider
        self._tallies = tallies

    def collect(self) -> Iterable[Metric]:
        """Read the tallies."""
        grants = CounterMetricFamily("ebbgate_grants", "Acquisitions that got in.", labels=("limit", "kind"))
        ends = CounterMetricFamily(
            "ebbgate_ends", "Leases that ended, and why: released, expired, lost_holder, revoked, cancelled.",
            labels=("limit", "why"),
        )  # fmt: skip
        waits = HistogramMetricFamily(
            "ebbgate_wait_seconds",
            "From asking to being let in, 0 for who did not have to wait.",
            labels=("limit",),
        )
        holds = HistogramMetricFamily(
            "ebbgate_hold_seconds", "From being let in to the end of the lease.", labels=("limit",)
        )
        for name, tally in self._shown().items():
            for kind, number in tally.grants.items():
                grants.add_metric((name, kind), number)
            for why, number in tally.ends.items():
                ends.add_metric((name, why), number)
            if any(tally.waits):
                waits.add_metric((name,), _buckets(WAIT_BUCKETS, tally.waits), tally.waited_us / SECOND)
            if any(tally.holds):
                holds.add_metric((name,), _buckets(HOLD_BUCKETS, tally.holds), tally.held_us / SECOND)
        refusals = CounterMetricFamily(
            "ebbgate_refusals", "Commands that were refused, by the code of the error.", labels=("code",)
        )
        for code, number in self._tallies.refusals.items():
            refusals.add_metric((code,), number)
        losses = CounterMetricFamily(
            "ebbgate_store_losses", "How often the store had lost what it had confirmed.",
            self._decider.engine.losses,
        )  # fmt: skip
        yield from (grants, ends, waits, holds, refusals, losses)

    def _shown(self) -> dict[str, Tally]:
        """Return the tallies by the names that their limits have now."""
        names = self._decider.book.names
        shown: dict[str, Tally] = {}
        for number, name in enumerate(sorted(names)):
            tally = self._tallies.of(names[name].limit.id)
            if tally is None:
                continue
            if number < LIMITS_MAX:
                shown[name] = tally
            else:
                shown.setdefault(OTHER, Tally()).add(tally)
        return shown


def _buckets(bounds: Sequence[float], counted: Sequence[int]) -> list[tuple[str, float]]:
    """Return a histogram's buckets, each with all that are below its bound."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counted)), strict=True))


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
        servers = sum(1 for id_ in decider.book.sessions if id_.startswith(SERVER))
        sessions = len(decider.book.sessions) - servers
        yield GaugeMetricFamily("ebbgate_sessions", "Client processes that are known.", sessions)
        yield GaugeMetricFamily("ebbgate_servers", "Servers that share the store.", max(servers, 1))
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


def metrics_app(metrics: Metrics, decider: Decider) -> App:
    """Return the application that answers a scrape."""

    async def scrape(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        reads = scope["method"] in {"GET", "HEAD"}
        with suppress(StoreUnavailable):  # then what is shown may not have been committed
            await decider.rest()
        body = metrics.scrape() if reads else b""
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        if not reads:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": 200 if reads else 405, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return scrape
