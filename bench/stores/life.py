"""Start of a server on a store that holds many leases."""

from collections.abc import Iterator

from bench.background import resident_bytes
from bench.crew import crew
from bench.report import Line, Options, Remark, at_most
from bench.server.life import MB, fill
from bench.server.serving import serving
from bench.stores.sharing import conditions, databases, fleet


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure an empty store, then a full one."""
    yield from conditions(options)
    number = round(options.scaled(100_000, 5_000))
    with databases() as found:
        for database in found:
            url = database.namespace()
            ready, memory = _started(url, options)
            yield Line(f"{database.name}: start on an empty store, until ready", ready, "s")
            yield Line(f"{database.name}: memory then", memory, "MB")
            with fleet(url, 1, many=10**9) as (server,):
                crew(fill, [{"port": server.port, "held": number}])
            ready, memory = _started(url, options)
            full = f"{database.name}: start with {number:,} leases in the store, until ready"
            yield Line(full, ready, "s", at_most(5))
            yield Line(f"{database.name}: memory then, with {number:,} leases", memory, "MB")


def _started(url: str, options: Options) -> tuple[list[float], list[float]]:
    ready: list[float] = []
    memory: list[float] = []
    for _ in range(options.repeats):
        with serving(url) as server:
            ready.append(server.ready_s)
            memory.append(resident_bytes(server.pid) / MB)
    return ready, memory
