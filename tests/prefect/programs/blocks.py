"""Blocks and rate limits of Prefect's SDK, told on stdout as JSON, one line each."""

import asyncio
import json
import sys
import threading
import time
import warnings
from typing import Any

warnings.simplefilter("ignore")

from prefect.concurrency import asyncio as asynchronous  # type: ignore[import-not-found]  # noqa: E402
from prefect.concurrency import sync  # noqa: E402


def tell(**what: object) -> None:
    """Say something."""
    print(json.dumps(what), flush=True)


def pause(seconds: float) -> None:
    """Work, as far as others can tell."""
    threading.Event().wait(seconds)


def turns(kind: str, names: str, count: int, work_s: float) -> None:
    """Hold slots of these limits again and again, and tell when."""
    each = names.split(",")
    if kind == "async":
        asyncio.run(_turns(each, count, work_s))
        return
    for _ in range(count):
        with sync.concurrency(each):
            begun = time.monotonic()
            pause(work_s)
            tell(begun=begun, ended=time.monotonic())


async def _turns(names: list[str], count: int, work_s: float) -> None:
    async def turn() -> None:
        async with asynchronous.concurrency(names):
            begun = time.monotonic()
            await asyncio.sleep(work_s)
            tell(begun=begun, ended=time.monotonic())

    await asyncio.gather(*(turn() for _ in range(count)))


def spend(kind: str, name: str, count: int) -> None:
    """Pass a rate limit so many times, and tell when."""

    async def all_of_them() -> None:
        for _ in range(count):
            await asynchronous.rate_limit(name)
            tell(at=time.monotonic())

    if kind == "async":
        asyncio.run(all_of_them())
        return
    for _ in range(count):
        sync.rate_limit(name)
        tell(at=time.monotonic())


def hold(name: str) -> None:
    """Hold a slot until a line is read, and tell whether it was lost meanwhile."""
    with sync.concurrency(name, lease_duration=60, strict=True):
        tell(held=name)
        sys.stdin.readline()
    tell(left=name)


def take(name: str) -> None:
    """Take a slot, and never give it back: killed, or waiting for it."""
    with sync.concurrency(name):
        tell(held=name)
        pause(600)


def give_up(name: str) -> None:
    """Wait for half a second, in both ways."""

    async def wait() -> None:
        async with asynchronous.concurrency(name, timeout_seconds=0.5):
            tell(entered=True)

    try:
        asyncio.run(wait())
    except TimeoutError as error:
        tell(timeout=str(error))
    try:
        with sync.concurrency(name, timeout_seconds=0.5):
            tell(entered=True)
    except TimeoutError as error:
        tell(timeout=str(error))


def cancelled(name: str) -> None:
    """Be cancelled while waiting."""

    async def wait() -> None:
        async with asynchronous.concurrency(name):
            tell(entered=True)

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.to_thread(sys.stdin.readline)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            tell(cancelled=True)

    asyncio.run(main())


def outcomes(kind: str, slots: str) -> None:
    """Do what goes wrong, and tell how; `slots` is the name of a limit of 2 of which one is taken."""
    attempts: list[tuple[str, dict[str, Any]]] = [
        ("nobody-made-this", {}),
        ("nobody-made-this", {"strict": True}),
        (slots, {"occupy": 3}),
        (slots, {"occupy": 0}),
        (slots, {"lease_duration": 5}),
        (slots, {"occupy": 2, "timeout_seconds": 0.5}),
        (slots, {"occupy": 2, "max_retries": 0}),
        (slots, {}),
        ("", {}),
    ]
    for name, more in attempts:
        names: str | list[str] = name or []
        try:
            if kind == "async":
                asyncio.run(_enter(names, more))
            else:
                with sync.concurrency(names, **more):
                    pass
        except Exception as error:
            tell(error=f"{type(error).__name__}: {error}")
        else:
            tell(ok=True)
    try:
        sync.rate_limit(slots)
    except Exception as error:
        tell(error=f"{type(error).__name__}: {error}")


async def _enter(names: str | list[str], more: dict[str, Any]) -> None:
    async with asynchronous.concurrency(names, **more):
        pass


def main() -> None:
    """Do what the command line says."""
    what, *arguments = sys.argv[1:]
    match what:
        case "turns":
            kind, names, count, work_s = arguments
            turns(kind, names, int(count), float(work_s))
        case "spend":
            kind, name, count_ = arguments
            spend(kind, name, int(count_))
        case "hold":
            hold(*arguments)
        case "take":
            take(*arguments)
        case "give_up":
            give_up(*arguments)
        case "cancelled":
            cancelled(*arguments)
        case "outcomes":
            outcomes(*arguments)


if __name__ == "__main__":
    main()
