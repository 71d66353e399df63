"""What is recorded is what happened: no more, no less, and nothing where nobody looked."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from ebbgate.core.commands import Tick
from ebbgate.core.model import SECOND
from ebbgate.errors import StoreUnavailable
from ebbgate.server.history.points import Point, decoded, encoded, together
from ebbgate.server.history.series import POINTS_MAX, WIDTHS, quantile, window_of
from ebbgate.server.tally import WAIT_BUCKETS
from ebbgate.stores.rollups import COARSE, FINE, HistoryStore, MemoryHistory, Part, Span
from ebbgate.stores.rollups_sqlite import SqliteHistory
from tests.server.history.worlds import BEGAN_US, World, levels, starts, tell


def test_levels_are_means_over_time_and_the_highest() -> None:
    async def story(world: World, _: HistoryStore) -> None:
        db = world.limit("db", 3)
        await world.pass_(4)
        first, _second = world.acquire("db", 2), world.acquire("db", 1)
        world.acquire("db", 1)
        await world.pass_(3)
        world.release(first)
        await world.pass_(23)
        (one, two, three) = await world.read(db)
        assert levels([one, two, three]) == [(round((3 * 3 + 2 * 3) / 10, 3), 0.3), (2, 0), (2, 0)]
        assert (one.held_max, one.waiting_max, one.slots) == (3, 1, 3)
        assert [one.grants, two.grants] == [3, 0]
        assert one.waited_ms == pytest.approx(3_000, abs=1)

    tell(story)


def test_what_does_not_change_is_written_once_a_block_and_shown_all_the_time() -> None:
    async def story(world: World, kept: HistoryStore) -> None:
        db = world.limit("db", 3)
        world.acquire("db", 2)
        await world.pass_(4 * 3600)
        assert isinstance(kept, MemoryHistory)
        fine = [
            text
            for (resolution, _), texts in kept._blocks.items()
            for text in texts.values()
            if not resolution
        ]
        assert len(fine) == 4 * 6
        assert all(len(decoded(text)) == 1 for text in fine)
        assert levels(await world.read(db, 3600)) == [(2, 0)] * 360
        assert levels(await world.read(db, 4 * 3600, 120)) == [(2, 0)] * 120

    tell(story)


def test_idle_limits_write_nothing() -> None:
    async def story(world: World, kept: HistoryStore) -> None:
        ids = [world.limit(f"n{number}", 1) for number in range(50)]
        await world.pass_(120)
        assert isinstance(kept, MemoryHistory)
        before = {at: dict(texts) for at, texts in kept._blocks.items()}
        await world.pass_(7200)
        assert kept._blocks == before
        assert levels(await world.read(ids[7], 3600)) == [(0, 0)] * 360

    tell(story)


def test_where_no_server_ran_there_is_a_gap_and_not_zero() -> None:
    async def told() -> None:
        kept, world = MemoryHistory(), World()
        history = await world.begin(kept)
        db = world.limit("db", 3)
        world.acquire("db", 2)
        await world.pass_(25)
        await history.finish()
        later = World(world.now_us + 40 * SECOND, world.book)
        history = await later.begin(kept)
        await later.pass_(15)
        found = await later.read(db)
        assert list(starts(found)) == [0, 10, 20, 60, 70]
        assert {level for level, _ in levels(found)} == {2}
        assert [round(one.seen_us / SECOND) for one in found] == [10, 10, 5, 5, 10]
        assert sum(one.grants for one in found) == 1
        await history.finish()

    asyncio.run(told())


def test_a_restart_within_a_step_loses_nothing_and_counts_nothing_twice() -> None:
    async def told() -> None:
        kept, world = MemoryHistory(), World()
        history = await world.begin(kept)
        db = world.limit("db", 9)
        world.acquire("db")
        await world.pass_(3)
        await history.finish()
        again = World(world.now_us + 2 * SECOND, world.book)
        history = await again.begin(kept)
        again._ids = (f"{1:08x}-1111-7000-8000-00000000000{number}" for number in range(9))
        again.acquire("db")
        await again.pass_(5)
        await history.flush()
        (found,) = await again.read(db)
        assert (found.grants, round(found.seen_us / SECOND)) == (2, 8)
        assert found.mean(found.held_area) == pytest.approx((1 * 3 + 2 * 5) / 8, rel=1e-3)
        await history.finish()

    asyncio.run(told())


def test_two_servers_that_look_at_the_same_count_what_each_decided() -> None:
    one = Point(5, 10_000, 3, 20_000, 2, 2, 4, [4], 0, 5_000, 1, 1)
    other = Point(5, 10_000, 3, 20_000, 2, 2, 6, [0, 0, 6], 60, 5_000, 1, 1)
    both = together(one, other)
    assert (both.grants, both.waits, both.waited_ms) == (10, [4, 0, 6], 60)
    assert both.held_area / both.seen_ms == one.held_area / one.seen_ms
    assert (both.held_max, both.held_last) == (2, 2)


def test_spent_slots_come_back_evenly_between_two_points() -> None:
    async def story(world: World, _: HistoryStore) -> None:
        mails = world.limit("mails", 60, decay=0.1)
        world.acquire("mails", 6, spend=True)
        await world.pass_(120)
        found = await world.read(mails)
        spent = [round(one.mean(one.spent_area), 2) for one in found]
        assert spent == [5.5, 4.5, 3.5, 2.5, 1.5, 0.5, 0, 0, 0, 0, 0, 0]
        assert found[0].spent_max == 6
        minutes = await world.read(mails, 120, 60)
        assert [round(one.mean(one.spent_area), 2) for one in minutes] == [3, 0]

    tell(story)


def test_who_is_denied_and_who_leaves_is_counted_at_the_limit() -> None:
    async def story(world: World, _: HistoryStore) -> None:
        db = world.limit("db", 1)
        world.acquire("db")
        await world.pass_(30)
        world.acquire("db", wait=False)
        world.release(world.acquire("db"))
        await world.pass_(10)
        found = await world.read(db)
        assert [(one.grants, one.denied, one.left) for one in found] == [
            (1, 0, 0),
            (0, 0, 0),
            (0, 0, 0),
            (0, 1, 1),
        ]

    tell(story)


def test_minutes_and_steps_of_ten_seconds_tell_the_same() -> None:
    async def story(world: World, _kept: HistoryStore) -> None:
        chance = random.Random(7)
        db, held = world.limit("db", 5), list[str]()
        for _ in range(400):
            if held and chance.random() < 0.5:
                world.release(held.pop(chance.randrange(len(held))))
            else:
                held.append(world.acquire("db", chance.randint(1, 2)))
            await world.pass_(chance.choice([0.3, 2, 9, 40]))
        fine = await world.read(db, 7200 * 2, 10)
        coarse = await world.read(db, 7200 * 2, 60)
        for area in ("held_area", "waiting_area", "grants", "left", "seen_us"):
            total = sum(getattr(one, area) for one in fine)
            assert sum(getattr(one, area) for one in coarse) == pytest.approx(total, rel=1e-3), area
        assert sum(one.grants for one in fine) == world.book.names["db"].granted

    tell(story)


def test_a_deleted_limit_is_forgotten() -> None:
    async def story(world: World, kept: HistoryStore) -> None:
        db = world.limit("db", 1)
        world.acquire("db")
        await world.pass_(90)
        world.delete("db")
        await world.pass_(10)
        assert isinstance(kept, MemoryHistory)
        assert not any(db in texts for texts in kept._blocks.values())
        assert not world.history or not world.history.recorder._gauges

    tell(story)


def test_after_everything_was_loaded_anew_the_levels_are_right_again() -> None:
    async def story(world: World, _: HistoryStore) -> None:
        db = world.limit("db", 4)
        await world.pass_(20)
        watchers, world.watchers = world.watchers, []
        world.acquire("db", 3)
        world.watchers = watchers
        for watcher in watchers:
            watcher(None, world.now_us)
        await world.pass_(20)
        assert levels(await world.read(db))[-1] == (3, 0)

    tell(story)


def test_a_store_that_fails_leaves_a_gap_and_then_it_goes_on() -> None:
    class Failing(MemoryHistory):
        fails = False

        async def write(self, parts: Sequence[Part], span: Span) -> None:
            if self.fails:
                raise StoreUnavailable("the disk is full")
            await super().write(parts, span)

    async def told() -> None:
        kept, world = Failing(), World()
        history = await world.begin(kept)
        db = world.limit("db", 3)
        world.acquire("db", 2)
        await world.pass_(20)
        kept.fails = True
        with pytest.raises(StoreUnavailable) as failed:
            await world.pass_(10)
        history._fail(failed.value)
        kept.fails = False
        await world.pass_(20)
        found = await world.read(db)
        assert list(starts(found)) == [0, 10, 30, 40]
        await history.finish()

    asyncio.run(told())


def test_a_machine_that_slept_shows_a_gap() -> None:
    async def story(world: World, _: HistoryStore) -> None:
        db = world.limit("db", 3)
        world.acquire("db", 2)
        await world.pass_(20)
        world.now_us += 300 * SECOND
        await world.pass_(20)
        assert list(starts(await world.read(db))) == [0, 10, 330]

    tell(story)


def test_a_point_is_short_and_read_back_as_it_was() -> None:
    short = Point(1, 10_000, 5)
    assert encoded(short) == "[1,10000,5],"
    full = Point(2, 9_999, 5, 40_000, 5, 4, 12, [0, 3, 9], 300, 700, 2, 1, 3, 4, 5, 6, 7, 8)
    assert decoded(encoded(short) + encoded(full)) == [short, full]


def test_no_answer_has_more_points_than_a_chart_can_show() -> None:
    now_us = BEGAN_US + 12_345_678
    for seconds in (60, 900, 3_000, 3_001, 3_600, 21_600, 86_400, 86_401, 604_800, 2_592_000):
        for back in (0, 80_000, 2_000_000):
            window = window_of(now_us, now_us - back * SECOND, seconds * SECOND)
            count = (window.end_us - window.start_us) / window.width_us
            assert 1 <= count <= POINTS_MAX
            assert window.width_us // SECOND in WIDTHS
            each = (FINE, COARSE)[window.resolution]
            assert window.start_us % window.width_us == window.width_us % each.step_us == 0
            if not window.resolution:
                assert window.start_us >= now_us - FINE.keep_us


def test_a_quantile_lies_within_its_bucket() -> None:
    assert quantile([], 0.5) is None
    assert quantile([10], 0.99) == 0
    assert quantile([0] * len(WAIT_BUCKETS) + [1], 0.5) == WAIT_BUCKETS[-1]
    waits = [50, 0, 0, 50]
    assert quantile(waits, 0.5) == 0
    assert quantile(waits, 0.75) == pytest.approx((WAIT_BUCKETS[2] + WAIT_BUCKETS[3]) / 2)


@pytest.mark.slow
def test_a_day_of_limits_that_never_rest_has_a_bounded_size(tmp_path: Path) -> None:
    busy, hours = 6, 26

    async def told() -> None:
        world, kept = World(), SqliteHistory(tmp_path / "store.db")
        history = await world.begin(kept)
        ids = [world.limit(f"n{number}", 5) for number in range(busy)]
        for number in range(500):
            world.limit(f"idle{number}", 5)
        held: list[str] = []
        for step in range(hours * 360):
            for number in range(busy):
                held.append(world.acquire(f"n{number}"))
                if len(held) > 3 * busy:
                    world.release(held.pop(0))
            world.now_us = (world.now_us // (10 * SECOND) + 1) * 10 * SECOND
            if step % 6 == 5:
                world.do(Tick())
                await history.flush()
        await kept.prune(world.now_us)
        connection = kept._connection
        assert connection is not None
        sizes = dict(
            connection.execute("SELECT resolution, sum(length(text)) FROM block GROUP BY resolution")
        )
        assert sizes[0] < busy * 8_640 * 60
        assert sizes[1] < busy * hours * 60 * 70 + 500 * 40
        (blocks,) = connection.execute(
            "SELECT count(*) FROM block WHERE resolution = 0 AND limit_id = ?", (ids[0],)
        )
        assert 144 <= blocks[0] <= 146
        found = await world.read(ids[0], 20 * 3600, 300)
        assert all(one.grants == 30 for one in found[1:-1])
        await history.finish()

    asyncio.run(told())
