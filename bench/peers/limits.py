"""Rate limits that never block: the `limits` library on Redis beside ebbgate's `rate_limit`, checks a second.

`limits` only tells yes or no and never waits; a `rate_limit` that has room answers at once, so that with
room for all the two do the same.
"""

from collections.abc import Iterator

from bench.crew import Result, Start, Task, crew, store
from bench.pairs import counted, waiting
from bench.peers.redis import packages, server
from bench.report import Line, Options, Remark
from bench.server.serving import through_server

PER_SECOND = 1_000_000
"""More than anybody asks: what is measured is the check."""


def hits(task: Task, start: Start) -> Result:
    """Check one limit in one thread, by the strategy that the task names."""
    from limits import RateLimitItemPerSecond, storage, strategies  # type: ignore[import-not-found]

    limiter = getattr(strategies, task["strategy"])(storage.RedisStorage(f"redis://127.0.0.1:{task['port']}"))
    item = RateLimitItemPerSecond(PER_SECOND)

    def check() -> None:
        assert limiter.hit(item, "a"), "there is room"

    return counted(check, task, start)


def spends(task: Task, start: Start) -> Result:
    """Spend one slot of a limit with room in one thread."""
    from ebbgate.sync import rate_limit

    return counted(lambda: rate_limit("r"), task, start)


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure three strategies of `limits`, and ebbgate on a file and through a server."""
    where = packages()
    seconds = options.scaled(2, 0.3)
    with server() as (port, version):
        yield Remark(f"{version}, in memory only; {where.versions('limits', 'redis', 'hiredis')}")
        for strategy in (
            "FixedWindowRateLimiter",
            "SlidingWindowCounterRateLimiter",
            "MovingWindowRateLimiter",
        ):
            task = {"port": port, "strategy": strategy, "seconds": seconds}
            results = [where.crew(hits, [task])[0] for _ in range(options.repeats)]
            what = f"limits on Redis, {strategy}, one thread, checks"
            yield Line(what, [r["rate"] for r in results], "/s", note=waiting(results))
    for where_to, place in (("a file", store), ("a server, FULL", through_server())):
        results = []
        for _ in range(options.repeats):
            with place(r=(PER_SECOND, float(PER_SECOND))) as url:
                results += crew(spends, [{"seconds": seconds}], url)
        rates = [r["rate"] for r in results]
        yield Line(f"ebbgate on {where_to}, rate_limit, one thread", rates, "/s", note=waiting(results))
