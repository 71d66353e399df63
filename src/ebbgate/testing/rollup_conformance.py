"""What every store of history must do, as tests that the author of one runs against it with pytest.

Inherit from the class, and give it a fixture `opened`: a function that opens the same history once more.
"""

# ruff: noqa: D102 - the name of a test is the law that it proves

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from ebbgate.core.model import SECOND
from ebbgate.stores.rollups import COARSE, FINE, HistoryStore, Part, Place, Span

Opened = Callable[[], HistoryStore]

NOW_US: Final = 1_800_000_000 * SECOND
HERE: Final = Place(0, FINE.block_of(NOW_US), "a")
SPAN: Final = Span("w", NOW_US - SECOND, NOW_US)


@asynccontextmanager
async def several(opened: Opened, count: int) -> AsyncIterator[list[HistoryStore]]:
    """Open it several times."""
    async with AsyncExitStack() as stack:
        stores = [opened() for _ in range(count)]
        for store in stores:
            stack.push_async_callback(store.close)
        yield stores


def told(opened: Opened, story: Callable[..., Coroutine[Any, Any, None]], count: int = 1) -> None:
    """Run a story with `count` openings of one history."""

    async def tell() -> None:
        async with several(opened, count) as stores:
            await story(*stores)

    asyncio.run(tell())


class HistoryConformance:
    """What every store of history does."""

    def test_a_new_history_is_empty(self, opened: Opened) -> None:
        async def story(store: HistoryStore) -> None:
            assert await store.read([HERE]) == {}
            assert await store.read([]) == {}
            assert await store.spans(0) == []
            await store.prune(NOW_US)
            await store.forget(["a"])

        told(opened, story)

    def test_parts_stand_one_behind_the_other_each_in_its_own_block(self, opened: Opened) -> None:
        others = [
            HERE._replace(limit_id="b"),
            HERE._replace(block=HERE.block - 1),
            HERE._replace(resolution=1),
        ]

        async def story(store: HistoryStore) -> None:
            await store.write([Part(HERE, "[1],"), *(Part(other, "[7],") for other in others)], SPAN)
            await store.write([Part(HERE, "[2],[3],")], SPAN)
            await store.write([], SPAN)
            assert await store.read([HERE, *others, HERE._replace(limit_id="c")]) == {
                HERE: "[1],[2],[3],",
                **dict.fromkeys(others, "[7],"),
            }

        told(opened, story)

    def test_what_many_limits_did_is_written_and_read_at_once(self, opened: Opened) -> None:
        places = [HERE._replace(limit_id=f"limit {number} é") for number in range(1_000)]

        async def story(store: HistoryStore) -> None:
            for _ in range(2):
                await store.write([Part(place, "[1],") for place in places], SPAN)
            assert await store.read(places) == dict.fromkeys(places, "[1],[1],")

        told(opened, story)

    def test_several_writers_lose_nothing_of_each_other(self, opened: Opened) -> None:
        async def story(*stores: HistoryStore) -> None:
            async def write(number: int, store: HistoryStore) -> None:
                for _ in range(10):
                    parts = [Part(HERE, f"[{number}],"), Part(HERE._replace(limit_id="b"), "[9],")]
                    await store.write(
                        parts[:: 1 if number % 2 else -1], Span(f"w{number}", 0, NOW_US + number)
                    )

            await asyncio.gather(*(write(number, store) for number, store in enumerate(stores)))
            text = (await stores[0].read([HERE]))[HERE]
            assert sorted(text.split(",")[:-1]) == sorted(
                f"[{number}]" for number in range(3) for _ in range(10)
            )
            assert sorted(await stores[1].spans(0)) == [Span(f"w{n}", 0, NOW_US + n) for n in range(3)]

        if self.is_shared:
            told(opened, story, 3)

    is_shared = True

    def test_a_span_is_replaced_by_what_its_writer_says_next(self, opened: Opened) -> None:
        async def story(store: HistoryStore) -> None:
            await store.write([], SPAN)
            await store.write([], SPAN._replace(ended_us=NOW_US + 5))
            await store.write([], Span("v", 1, 2))
            assert sorted(await store.spans(0)) == [Span("v", 1, 2), SPAN._replace(ended_us=NOW_US + 5)]
            assert await store.spans(NOW_US) == [SPAN._replace(ended_us=NOW_US + 5)]

        told(opened, story)

    def test_what_is_forgotten_is_gone_for_good(self, opened: Opened) -> None:
        old = HERE._replace(resolution=1, block=COARSE.block_of(NOW_US) - 300)
        other = HERE._replace(limit_id="b")

        async def story(store: HistoryStore) -> None:
            await store.write([Part(place, "[1],") for place in (HERE, old, other)], SPAN)
            await store.forget(["a", "never there"])
            assert await store.read([HERE, old, other]) == {other: "[1],"}

        told(opened, story)

    def test_what_is_too_old_goes_and_what_is_kept_stays(self, opened: Opened) -> None:
        blocks = [
            Place(number, each.block_of(NOW_US - each.keep_us) - late, "a")
            for number, each in enumerate((FINE, COARSE))
            for late in (0, 1)
        ]

        async def story(store: HistoryStore) -> None:
            await store.write([Part(place, "[1],") for place in blocks], SPAN)
            await store.write([], Span("old", 1, NOW_US - COARSE.keep_us - COARSE.block_us - 1))
            await store.prune(NOW_US)
            assert set(await store.read(blocks)) == {blocks[0], blocks[2]}
            assert await store.spans(0) == [SPAN]

        told(opened, story)

    def test_beyond_its_size_the_oldest_goes_first(self, opened: Opened) -> None:
        text = "[1000000000]," * 1_000
        places = [HERE._replace(block=HERE.block - back) for back in range(20)]

        async def story(store: HistoryStore) -> None:
            await store.write([Part(place, text) for place in places], SPAN)
            await store.prune(NOW_US, 5 * len(text))
            assert set(await store.read(places)) == set(places[:5])
            await store.prune(NOW_US, 5 * len(text))
            assert len(await store.read(places)) == 5

        told(opened, story)
