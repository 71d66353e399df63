"""History of one server: written in the background, every ten seconds, and read for people."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError
from ebbgate.server.audience import Watched
from ebbgate.server.history.points import Point, decoded, encoded
from ebbgate.server.history.recorder import SLICE, Recorder
from ebbgate.server.history.series import Bucket, Interval, Window, seen, series
from ebbgate.server.tally import Tallies
from ebbgate.stores.rollups import COARSE, FINE, RESOLUTIONS, HistoryStore, MemoryHistory, Part, Place, Span

_log: Final = logging.getLogger("ebbgate.server")

LATE_US: Final = 60 * SECOND
"""After so long without a flush, the time in between counts as one in which nobody looked."""

LAG_SECONDS: Final = 0.05
"""How long after the end of a step it is written, so that what happened in it is known."""

PRUNE_EVERY: Final = 60
"""Every so many flushes what is too old, or too much, is removed."""

FORGET_MAX: Final = 1_000
FINISH_SECONDS: Final = 3.0

Open = Callable[[], HistoryStore]


class History:
    """What happened at the limits of one namespace, as far as it is kept."""

    def __init__(self, decider: Watched, tallies: Tallies, opens: Open) -> None:
        """Do nothing before `start`.

        Args:
            decider: tells what happens.
            tallies: counts it.
            opens: opens the store; called in a thread. If it fails, history is kept in memory.
        """
        self._decider = decider
        self._opens = opens
        self.recorder = Recorder(decider, tallies)
        self._store: HistoryStore = MemoryHistory()  # until the real one is open
        self._opened = asyncio.Event()
        self._span = Span("", 0, 0)
        self._turn = asyncio.Lock()  # who reads must see a point either here or in the store
        self._flushes = 0
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    # --- writing

    def start(self) -> None:
        """Begin to record, on the running loop."""
        self._begin()
        self._task = asyncio.create_task(self._work())

    async def finish(self) -> None:
        """Write what there is, and close the store, within `FINISH_SECONDS`. Nothing is recorded any more."""
        with suppress(EbbgateError, TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                async with self._turn:  # a flush that is under way is not torn
                    await self._stop()
                if self._span.writer:
                    self.recorder.end(self._now())
                    await self._write(self._now())
        await self._stop()
        with suppress(EbbgateError):
            await self._store.close()
        self._store = MemoryHistory()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._opened.set()

    async def _work(self) -> None:
        await self.open()
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self.flush()
            except EbbgateError as error:
                self._fail(error)
            except Exception:  # noqa: BLE001 - people miss a picture, but nobody a slot
                _log.exception("a defect: history begins anew")
                self._begin()
            await self.recorder.catch_up()

    async def open(self) -> None:
        """Open the store. Whoever calls this instead of `start` flushes by hand."""
        if not self._span.writer:
            self._begin()
        await self.recorder.catch_up()
        opening = asyncio.ensure_future(asyncio.to_thread(self._opens))
        try:
            self._store = await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(EbbgateError):
                self._store = await opening
            raise
        except EbbgateError as error:
            _log.warning("history is kept in memory only: %s", error)
        self._opened.set()

    def _begin(self) -> None:
        now_us = self._now()
        self._span = Span(os.urandom(6).hex(), now_us, now_us)
        self.recorder.begin(now_us)

    def _fail(self, error: EbbgateError) -> None:
        if not self._failed:
            _log.warning("history has a gap: %s", error)
        self._failed = True
        self._begin()

    def _now(self) -> int:
        return self._decider.store.clock()

    def _pause(self) -> float:
        try:
            now_us = self._now()
        except EbbgateError:
            return FINE.step_us / SECOND
        return (FINE.step_us - now_us % FINE.step_us) / SECOND + LAG_SECONDS

    async def flush(self) -> None:
        """Write all steps that are over.

        Raises:
            StoreUnavailable: it may be that they were written.
        """
        until_us = self._now() // FINE.step_us * FINE.step_us
        if until_us <= self._span.ended_us:
            return
        if until_us - self._span.ended_us > LATE_US:
            self.recorder.end(self._span.ended_us)
            await self._write(self._span.ended_us)
            self._begin()
            return
        every = any(
            (until_us - each.step_us) // each.block_us > (self._span.ended_us - each.step_us) // each.block_us
            for each in RESOLUTIONS
        )  # the first step of a block is over
        await self.recorder.close_steps(until_us, every=every)
        await self._write(until_us)
        self._failed = False
        self._flushes += 1
        if self._flushes % PRUNE_EVERY == 1:
            await self._store.prune(until_us)

    async def _write(self, until_us: int) -> None:
        async with self._turn:
            taken, forgotten = self.recorder.take()
            parts: list[Part] = []
            for number, (place, points) in enumerate(taken.items()):
                parts.append(Part(place, "".join(map(encoded, points))))
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            self._span = self._span._replace(ended_us=max(until_us, self._span.ended_us))
            await self._store.write(parts, self._span)
            for at in range(0, len(forgotten), FORGET_MAX):
                await self._store.forget(forgotten[at : at + FORGET_MAX])

    # --- reading

    async def read(self, limits: Sequence[tuple[str, int]], window: Window) -> dict[str, list[Bucket]]:
        """Return what happened at limits within a window, by id.

        Args:
            limits: id and instant of creation of each.
            window: which buckets.

        Raises:
            StoreUnavailable: it cannot be read now.
        """
        await self._opened.wait()
        now_us = self._now()
        each = RESOLUTIONS[window.resolution]
        first, last = each.block_of(window.start_us), each.block_of(min(window.end_us, now_us))
        blocks = range(first, last + 1)
        places = [Place(window.resolution, block, one) for one, _ in limits for block in blocks]
        async with self._turn:
            spans, texts = await self._store.spans(first * each.block_us), await self._store.read(places)
            now_us = self._now()
            own = self._span._replace(ended_us=max(now_us, self._span.ended_us))
            found = [self._of(window.resolution, one, blocks, texts, now_us) for one, _ in limits]
        spans = [*(span for span in spans if span.writer != own.writer), own]
        whole = seen(spans, (first * each.block_us, min(window.end_us, now_us)))
        work = [
            (limit_id, _since(whole, created_us), points)
            for (limit_id, created_us), points in zip(limits, found, strict=True)
        ]
        return await asyncio.to_thread(_put_together, work, window)

    def _of(
        self, resolution: int, limit_id: str, blocks: Iterable[int], texts: dict[Place, str], now_us: int
    ) -> tuple[list[str], list[Point]]:
        """Return the blocks of a limit, and the points that are in none yet."""
        under_way = self.recorder.under_way(limit_id, now_us)
        found, fresh = [], [point for which, point in under_way if which == resolution]
        for block in blocks:
            place = Place(resolution, block, limit_id)
            if place in texts:
                found.append(texts[place])
            fresh += self.recorder.waiting(place)
        return found, fresh


def _since(looked: Iterable[Interval], created_us: int) -> list[Interval]:
    return [(max(began_us, created_us), ended_us) for began_us, ended_us in looked if ended_us > created_us]


def _put_together(
    work: Sequence[tuple[str, list[Interval], tuple[list[str], list[Point]]]], window: Window
) -> dict[str, list[Bucket]]:
    found: dict[str, list[Bucket]] = {}
    for limit_id, looked, (texts, fresh) in work:
        points: list[Point] = []
        for text in texts:
            try:
                points += decoded(text)
            except msgspec.MsgspecError:
                _log.warning("a block of the history of limit %s cannot be read", limit_id)
        found[limit_id] = series([*points, *fresh], looked, window)
    return found


assert COARSE.block_us % FINE.block_us == 0, "whoever begins a coarse block begins a fine one"
