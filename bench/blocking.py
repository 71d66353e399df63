"""How long an event loop stands still while other processes use the file as hard as they can.

One task of the loop acquires and releases a limit of its own, another one that the other processes use too; a
third, the heart, measures how long the loop takes to come back to it. With two cores and four busy processes
most of the longest gaps are the kernel's scheduler giving the core to others; the same loop without any use
of the file shows them (the control), and they are taken out of what is judged: the time in which the thread
was ready to run and was not run, which the kernel tells.
"""

import asyncio
import time
from collections.abc import Iterator

from bench.crew import Result, Start, Task, crew, store
from bench.report import Line, Options, at_most, percentile, waited_for_core


def hammer(task: Task, start: Start) -> Result:
    """Acquire and release without a pause, in a thread."""
    from ebbgate.sync import concurrency

    with concurrency(task["limit"]):
        pass
    until, count = start() + task["seconds"] + 0.2, 0
    while time.monotonic() < until:
        with concurrency(task["limit"]):
            count += 1
    return {"pairs": count}


def loop(task: Task, start: Start) -> Result:
    """Measure the gaps between the beats of a loop that uses limits (or, as control, does not)."""
    return asyncio.run(_loop(task, start))


async def _loop(task: Task, start: Start) -> Result:
    from ebbgate.asyncio import concurrency

    ended = False
    pairs = 0

    async def use(name: str) -> None:
        nonlocal pairs
        while not ended:
            async with concurrency(name):
                await asyncio.sleep(0)
            pairs += 1
            await asyncio.sleep(0)

    names = task["limits"]
    for name in names:
        async with concurrency(name):
            pass
    until = start() + task["seconds"]
    tasks = [asyncio.create_task(use(name)) for name in names]
    gaps_ms: list[float] = []
    own_ms: list[float] = []
    # Sleeping between beats is what loops mostly do; then the kernel's word covers less than the gap.
    while True:
        waited, begun = waited_for_core(), time.monotonic()
        if begun >= until:
            break
        for _ in range(3):
            await asyncio.sleep(0)
        gap = time.monotonic() - begun
        gaps_ms.append(1000 * gap)
        own_ms.append(1000 * max(gap - (waited_for_core() - waited), 0.0))
    ended = True
    await asyncio.gather(*tasks)
    return {"gaps": gaps_ms, "own": own_ms, "pairs": pairs}


def run(options: Options) -> Iterator[Line]:
    """Measure the loop with three busy processes beside it, then the control."""
    seconds = options.scaled(4, 0.7)
    for limits, what in ((["a", "mine"], "loop with limits in use"), ([], "control: loop without limits")):
        most: list[float] = []
        p99: list[float] = []
        raw: list[float] = []
        pairs: list[float] = []
        for _ in range(options.repeats):
            with store(a=2, mine=5, b=5, c=5) as url:
                # One crew does one thing: `beside` tells each member its part.
                tasks = [{"limits": limits}] + [{"limit": name} for name in ("a", "b", "c")]
                result = crew(beside, [{**task, "seconds": seconds} for task in tasks], url)[0]
            most.append(max(result["own"]))
            p99.append(percentile(result["own"], 0.99))
            raw.append(max(result["gaps"]))
            pairs.append(result["pairs"] / seconds)
        target = at_most(2) if limits else None
        yield Line(f"{what}, longest block, scheduler apart", most, "ms", target, judged="worst")
        yield Line(f"{what}, p99, scheduler apart", p99, "ms")
        yield Line(f"{what}, longest gap, scheduler included", raw, "ms")
        if limits:
            yield Line(f"{what}, pairs of this loop meanwhile", pairs, "/s")


def beside(task: Task, start: Start) -> Result:
    """Be the loop, or one of those beside it."""
    return loop(task, start) if "limits" in task else hammer(task, start)
