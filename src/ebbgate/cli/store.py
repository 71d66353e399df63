"""`ebbgate store`: look at the PostgreSQL or Redis that servers share, as a server would, and upgrade it."""

import asyncio
import time
from typing import Annotated, Final

import msgspec

from ebbgate.cli.options import Output
from ebbgate.cli.printing import print_fields, print_json
from ebbgate.cli.serve import Namespace, option
from ebbgate.core.model import SERVER
from ebbgate.errors import InvalidRequest
from ebbgate.stores import in_namespace, is_network_url, open_network_store, without_password

_LOOKS: Final = 5

_Store = Annotated[str, option("EBBGATE_STORE", "Its URL, as in `ebbgate serve --store`.")]


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a store."""

    store: str
    version: int  # how many commits there were
    limits: int
    leases: int
    servers: int  # that run, or did a moment ago
    load_ms: float
    round_trip_ms: float  # the median of some


def check(*, store: _Store = "", namespace: Namespace = None, output: Output = "table") -> None:
    """Connect to a store as a server would, and tell whether all is well. It commits nothing."""
    _show(_looked_at(store, namespace, upgrade=False), output)


def upgrade(*, store: _Store = "", namespace: Namespace = None, output: Output = "table") -> None:
    """Bring a store's schema to what this release knows; servers of the release before go on meanwhile."""
    _show(_looked_at(store, namespace, upgrade=True), output)


def _looked_at(url: str, namespace: str | None, *, upgrade: bool) -> StoreFacts:
    if not url:
        raise InvalidRequest("which store? --store URL, or EBBGATE_STORE")
    if not is_network_url(url):
        raise InvalidRequest(
            f"{without_password(url)!r} is no store that servers share; for a file: ebbgate doctor"
        )
    if namespace:
        url = in_namespace(url, namespace)
    return asyncio.run(_look(url, upgrade=upgrade))


async def _look(url: str, *, upgrade: bool) -> StoreFacts:
    store = open_network_store(url, upgrade=upgrade)
    try:
        began = time.perf_counter()
        snapshot = await store.load()
        loaded = time.perf_counter() - began
        trips = []
        for _ in range(_LOOKS):
            began = time.perf_counter()
            await store.find("none", snapshot.version)
            trips.append(time.perf_counter() - began)
    finally:
        await store.close()
    kinds = [row.kind for row in snapshot.rows]
    servers = sum(1 for row in snapshot.rows if row.kind == "session" and row.id.startswith(SERVER))
    return StoreFacts(
        store=without_password(url),
        version=snapshot.version.number,
        limits=kinds.count("limit"),
        leases=kinds.count("lease"),
        servers=servers,
        load_ms=round(loaded * 1_000, 3),
        round_trip_ms=round(sorted(trips)[_LOOKS // 2] * 1_000, 3),
    )


def _show(facts: StoreFacts, output: Output) -> None:
    if output == "json":
        print_json(facts)
        return
    print_fields([
        ("store", facts.store),
        ("commits", str(facts.version)),
        ("limits", str(facts.limits)),
        ("leases", f"{facts.leases}, those that ended a minute ago among them"),
        ("servers", str(facts.servers)),
        ("load", f"{facts.load_ms:.1f} ms"),
        ("round trip", f"{facts.round_trip_ms:.1f} ms"),
    ])  # fmt: skip
