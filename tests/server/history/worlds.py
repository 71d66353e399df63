"""The real book, driven by hand on a clock that a test turns, with the history of it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from typing import Any

from ebbgate.core.book import Book
from ebbgate.core.commands import (
    Acquire,
    Command,
    DeleteLimit,
    Hello,
    Outcome,
    PutLimit,
    Refused,
    Release,
    Tick,
)
from ebbgate.core.model import SECOND
from ebbgate.server.audience import Watcher
from ebbgate.server.history.history import History
from ebbgate.server.history.series import Bucket, Window
from ebbgate.server.tally import Tallies
from ebbgate.stores.rollups import COARSE, HistoryStore, MemoryHistory

BEGAN_US = 1_800_000_000 * SECOND // COARSE.block_us * COARSE.block_us
LONG_US = 86_400 * SECOND


class World:
    """Whoever decides, its clock, and its history."""

    def __init__(self, now_us: int = BEGAN_US, book: Book | None = None) -> None:
        self.now_us = now_us
        self.book = book or Book()
        self.watchers: list[Watcher] = []
        self.own_watchers: list[Watcher] = []
        self.refused: list[Callable[[Refused], None]] = []
        self.store = self
        self.tallies = Tallies(self)
        self.history: History | None = None
        self._ids = (f"{number:08x}-0000-7000-8000-000000000000" for number in count())

    def clock(self) -> int:
        return self.now_us

    async def begin(self, kept: HistoryStore) -> History:
        """Begin to record, as a server that starts."""
        self.history = History(self, self.tallies, lambda: kept)
        await self.history.open()
        if "s" not in self.book.sessions:
            self.do(Hello("s", 0))
        return self.history

    async def pass_(self, seconds: float) -> None:
        """Let time pass, with a flush every ten seconds as a server has."""
        assert self.history is not None
        end_us = self.now_us + round(seconds * SECOND)
        while self.now_us < end_us:
            self.now_us = min((self.now_us // (10 * SECOND) + 1) * 10 * SECOND, end_us)
            self.do(Tick())
            await self.history.flush()

    def do(self, *commands: Command) -> list[Outcome]:
        """Decide, commit, and tell."""
        self.now_us += 1  # as no two decisions are of the same instant
        decision = self.book.decide(commands, self.now_us)
        self.book.confirm(decision.head)
        if decision.changes:
            for watcher in self.watchers:
                watcher(decision.changes, self.book.head.instant_us)
        for outcome in decision.outcomes:
            if isinstance(outcome, Refused):
                for refused in self.refused:
                    refused(outcome)
        return decision.outcomes

    def limit(self, name: str, slots: int, decay: float = 0.0) -> str:
        """Create or change a limit; return its id."""
        known = self.book.names.get(name)
        made = next(self._ids)
        self.do(PutLimit(made, "put", name, made, None, slots, decay))
        return known.limit.id if known else made

    def delete(self, name: str) -> None:
        self.do(DeleteLimit(name, force=True))

    def acquire(self, name: str, slots: int = 1, **more: Any) -> str:  # noqa: ANN401 - as the command has them
        """Ask for slots; return the id of the lease."""
        lease = next(self._ids)
        self.do(Acquire(lease, "s", 0, ((name, slots),), LONG_US, **more))
        return lease

    def release(self, lease: str) -> None:
        self.do(Release(lease, "s", 0))

    async def read(self, limit_id: str, seconds: float = 600, width: int = 10) -> list[Bucket]:
        """Return the last `seconds`."""
        assert self.history is not None
        width_us = width * SECOND
        end_us = -(-(self.now_us - 1_000) // width_us) * width_us  # not counting what `do` added
        window = Window(end_us - round(seconds * SECOND), end_us, width_us)
        return (await self.history.read([(limit_id, BEGAN_US)], window))[limit_id]


def tell(story: Callable[[World, HistoryStore], Coroutine[Any, Any, None]]) -> None:
    """Run a story in a new world, with a history in memory."""

    async def told() -> None:
        world, kept = World(), MemoryHistory()
        await world.begin(kept)
        await story(world, kept)
        if world.history is not None:
            await world.history.finish()

    asyncio.run(told())


def levels(buckets: list[Bucket]) -> list[tuple[float, float]]:
    """Return the mean held and waiting of each bucket."""
    return [(round(one.mean(one.held_area), 3), round(one.mean(one.waiting_area), 3)) for one in buckets]


def starts(buckets: list[Bucket]) -> Iterator[int]:
    """Return when each bucket begins, in seconds."""
    return ((one.start_us - BEGAN_US) // SECOND for one in buckets)
