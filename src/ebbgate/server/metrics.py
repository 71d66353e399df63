"""What Prometheus scrapes: what is going on now, read from the book; what has happened, as `tally` has counted it.

Every metric of a limit carries its name. A server with very many limits shows the first `LIMITS_MAX` by name
one by one, and the rest together as `_other`, so that nobody's time series grow without bound.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
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
from ebbgate.core.live import Live
from ebbgate.core.model import SECOND, SERVER
from ebbgate.errors import StoreUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.front import App, Receive, Scope, Send
from ebbgate.server.sessions import Sessions
from ebbgate.server.tally import HOLD_BUCKETS, WAIT_BUCKETS, Tallies, Tally
from ebbgate.version import version

LIMITS_MAX: Final = 500
SLICE: Final = 250
"""How many limits are read before other tasks of the loop get their turn."""
OTHER: Final = "_other"
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one server."""

    def __init__(self, decider: Decider, sessions: Sessions, tallies: Tallies) -> None:
        """Show what is, and what `tallies` has counted."""
        self._decider = decider
        self._sessions = sessions
        self._tallies = tallies

    async def scrape(self) -> bytes:
        """Return everything in Prometheus' text format.

        Limits are read in slices, so a scrape may show some of them as they were some milliseconds before others.
        """
        happened: dict[str, Tally] = {}
        present: dict[str, dict[str, float]] = {}
        async for number, live in self._limits():
            name = live.limit.name if number < LIMITS_MAX else OTHER
            tally = self._tallies.of(live.limit.id)
            if tally is not None:
                happened.setdefault(name, Tally()).add(tally)
            _add(present, name, _values(live, self._decider.store.clock()))
        refusals, losses, now = dict(self._tallies.refusals), self._decider.engine.losses, list(self._now())

        def written() -> bytes:
            registry = CollectorRegistry()
            registry.register(_Given([*_past(happened, refusals, losses), *now, *_of_limits(present)]))
            return generate_latest(registry)

        return await asyncio.to_thread(written)

    async def _limits(self) -> AsyncIterator[tuple[int, Live]]:
        """Yield the limits by name, each with its number; those that are deleted meanwhile are left out."""
        names = self._decider.book.names
        for number, name in enumerate(list(self._decider.book.names_in_order())):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
                with suppress(StoreUnavailable):
                    await self._decider.rest()
            live = names.get(name)
            if live is not None:
                yield number, live

    def _now(self) -> Iterable[Metric]:
        """Return what the server is like now."""
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


def _past(happened: dict[str, Tally], refused: dict[str, int], lost: int) -> Iterable[Metric]:
    """Return what has happened since the server began."""
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
    for name, tally in happened.items():
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
    for code, number in refused.items():
        refusals.add_metric((code,), number)
    losses = CounterMetricFamily(
        "ebbgate_store_losses", "How often the store had lost what it had confirmed.",
        lost,
    )  # fmt: skip
    yield from (grants, ends, waits, holds, refusals, losses)


class _Given(Collector):
    """Metrics that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._metrics


def _buckets(bounds: Sequence[float], counted: Sequence[int]) -> list[tuple[str, float]]:
    """Return a histogram's buckets, each with all that are below its bound."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counted)), strict=True))


def _values(live: Live, now_us: int) -> dict[str, float]:
    """Return what is going on at a limit."""
    view = views.limit_view(live, now_us)
    firsts = [group.waiters[0].since_us for group in live.groups if group.waiters]
    return {
        "slots": view.limit.limit,
        "held": view.held,
        "spent": view.spent,
        "waiting": view.waiting,
        "oldest": max(now_us - min(firsts), 0) / SECOND if firsts else 0.0,
        "active": float(view.limit.active),
    }


def _add(shown: dict[str, dict[str, float]], name: str, values: dict[str, float]) -> None:
    before = shown.get(name)
    if before is None:
        shown[name] = values
        return
    for what, value in values.items():
        before[what] = max(before[what], value) if what == "oldest" else before[what] + value


def _of_limits(shown: dict[str, dict[str, float]]) -> Iterable[Metric]:
    families = {
        "slots": GaugeMetricFamily("ebbgate_limit_slots", "Slots that a limit has.", labels=("limit",)),
        "held": GaugeMetricFamily("ebbgate_limit_held_slots", "Slots that leases hold.", labels=("limit",)),
        "spent": GaugeMetricFamily(
            "ebbgate_limit_spent_slots", "Slots that are spent and have not come back.", labels=("limit",)
        ),
        "waiting": GaugeMetricFamily("ebbgate_limit_waiting", "Leases that wait.", labels=("limit",)),
        "oldest": GaugeMetricFamily(
            "ebbgate_limit_oldest_wait_seconds",
            "How long the first in line has waited.",
            labels=("limit",),
        ),
        "active": GaugeMetricFamily("ebbgate_limit_active", "1 if the limit is enforced.", labels=("limit",)),
    }
    for name, values in shown.items():
        for family, value in values.items():
            families[family].add_metric((name,), value)
    yield from families.values()


def metrics_app(metrics: Metrics, decider: Decider) -> App:
    """Return the application that answers a scrape."""

    async def scrape(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        reads = scope["method"] in {"GET", "HEAD"}
        with suppress(StoreUnavailable):  # then what is shown may not have been committed
            await decider.rest()
        body = await metrics.scrape() if reads else b""
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        if not reads:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": 200 if reads else 405, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return scrape
