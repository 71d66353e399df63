"""From a holder's release at one server to the next waiter at another one; see `bench.handover`."""

from collections.abc import Iterator

from bench.crew import Result, Start, Task, crew
from bench.handover import gaps_ms_of, lines_of, turns
from bench.report import Line, Options, Remark, at_most
from bench.stores.sharing import at_its_server, conditions, databases, fleet

P50_MS = {"PostgreSQL, synchronous_commit=on": 3, "Valkey, AOF everysec": 2}
P99_MS = 15


def turns_at(task: Task, start: Start) -> Result:
    """Take turns with the process at the other server."""
    return at_its_server(turns, task, start)


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure two processes, each at a server of its own, that want one slot."""
    yield from conditions(options)
    with databases() as found:
        for database in found:
            gaps: list[list[float]] = []
            for _ in range(options.repeats):
                with fleet(database.namespace(), 2, a=1, warm=100) as servers:
                    tasks = [{"url": server.url, "seconds": options.scaled(5, 1)} for server in servers]
                    gaps.append(gaps_ms_of(crew(turns_at, tasks)))
            what = f"{database.name}: hand-over across two servers"
            yield from lines_of(what, gaps, at_most(P50_MS[database.name]), at_most(P99_MS))
