"""What every store must do, as tests that the author of a store runs against it with pytest.

Inherit from the class that fits, and give it a fixture `place`:

    class TestMyStore(SharedStoreConformance):
        @pytest.fixture
        def place(self, tmp_path):
            return MyPlace(tmp_path)

What a store need not do (be used by threads, be shared) is said by the class it is tested with, never found
out by looking at it. A shared place is sent to other processes, so it must be possible to pickle it.

Known limit: nothing here pulls the plug; what survives a power cut is the store's own promise.
"""

# ruff: noqa: D102 - the name of a test is the law that it proves

import os
import random
import signal
import threading
from contextlib import closing, suppress
from multiprocessing.connection import Connection

from ebbgate.core.model import Head
from ebbgate.stores.base import EMPTY, Conflict, Delta, Row, Snapshot, Store, TooOld, Version
from ebbgate.testing.stores import (
    PATIENCE_S,
    EmbeddedPlace,
    Place,
    Rows,
    applied,
    count_up,
    gone,
    head,
    in_processes,
    in_threads,
    process,
    refused,
    row,
    tag,
    value_of,
)


class StoreConformance:
    """What every store does, used by one process."""

    def test_a_new_store_is_empty(self, place: Place) -> None:
        with closing(place.open()) as store:
            assert store.load() == Snapshot(EMPTY, Head(), [])
            assert store.changes_since(EMPTY) == Delta(EMPTY, Head(), [])

    def test_a_commit_makes_the_next_version_and_head_travels_along(self, place: Place) -> None:
        with closing(place.open()) as store:
            first = store.commit(EMPTY, "one", head(1), [row("a", 1)])
            second = store.commit(first, "two", head(2), [row("b", 2), row("a", 3)])
            assert (first, second) == (Version(1, "one"), Version(2, "two"))
            now = store.load()
            assert (now.version, now.head) == (second, head(2))
            assert applied(now.rows) == applied([row("a", 3), row("b", 2)])
            assert len(now.rows) == 2
            assert store.changes_since(first)[:2] == (second, head(2))

    def test_rows_are_told_apart_by_kind_and_id(self, place: Place) -> None:
        with closing(place.open()) as store:
            written = [row("a", 1), row("a", 2, kind="limit"), row("A", 3), row("a ", 4), row("ä", 5)]
            store.commit(EMPTY, tag(), Head(), written)
            assert applied(store.load().rows) == applied(written)

    def test_a_removed_row_is_gone_and_brings_its_last_state_along(self, place: Place) -> None:
        with closing(place.open()) as store:
            first = store.commit(EMPTY, tag(), Head(), [row("a", 1), row("b", 1), row("c", 1)])
            removals = [gone("a", "last"), gone("b"), gone("never there")]
            second = store.commit(first, tag(), Head(), removals)
            assert applied(store.load().rows) == applied([row("c", 1)])
            assert store.changes_since(first).rows == removals
            store.commit(second, tag(), Head(), [row("a", "again")])
            assert applied(store.load().rows) == applied([row("c", 1), row("a", "again")])

    def test_bodies_come_back_byte_for_byte(self, place: Place) -> None:
        values: list[object] = [
            "",
            'quote " \\ and \x00 \u2028',
            "é 漢 🔒",
            10**30,
            0.1,
            None,
            [],
            {"k": [1, {}]},
        ]
        written = [row(str(number), value) for number, value in enumerate(values)]
        written += [row("big", "x" * 1_000_000), Row("lease", "bare", b"1"), Row("lease", "null", b"null")]
        written += [Row("lease", "é\"'\\ 🔒 \u2028", '{"é": "🔒"}'.encode())]
        with closing(place.open()) as store:
            store.commit(EMPTY, tag(), Head(), written)
            assert applied(store.load().rows) == applied(written)

    def test_a_commit_on_anything_but_the_newest_version_changes_nothing(self, place: Place) -> None:
        with closing(place.open()) as store:
            first = store.commit(EMPTY, "one", head(1), [row("a", 1)])
            newest = store.commit(first, "two", head(2), [row("a", 2)])
            before = store.load()
            wrong = [EMPTY, first, Version(2, "one"), Version(2, ""), Version(1, "two"), Version(3, "two")]
            for base in wrong:
                for rows in ([row("a", 9), row("b", 9)], []):
                    with refused(Conflict):
                        store.commit(base, tag(), head(9), rows)
            assert store.load() == before
            assert store.changes_since(newest).rows == []

    def test_an_empty_commit_only_checks(self, place: Place) -> None:
        with closing(place.open()) as store:
            assert store.commit(EMPTY, tag(), head(7), []) == EMPTY
            first = store.commit(EMPTY, tag(), head(1), [row("a", 1)])
            assert store.commit(first, tag(), head(9), []) == first
            assert store.load()[:2] == (first, head(1))

    def test_what_the_caller_does_with_its_rows_later_changes_nothing(self, place: Place) -> None:
        with closing(place.open()) as store:
            rows = [row("a", 1)]
            first = store.commit(EMPTY, tag(), Head(), rows)
            rows.append(row("b", 1))
            store.load().rows.clear()
            store.changes_since(EMPTY).rows.clear()
            assert applied(store.load().rows) == applied([row("a", 1)])
            assert store.changes_since(EMPTY) == Delta(first, Head(), [row("a", 1)])

    def test_a_delta_is_complete_and_in_order(self, place: Place) -> None:
        """Rows on top of any earlier snapshot give the present; they come commit by commit, as written."""
        chance = random.Random(7)  # noqa: S311 - reproducible on purpose
        snapshots: list[tuple[Version, Rows]] = [(EMPTY, {})]
        commits: list[list[Row]] = []
        with closing(place.open()) as store:
            for number in range(1, min(place.kept, 40) + 1):
                ids = chance.sample("abcdefgh", chance.randint(1, 5))
                commits.append([
                    row(name, number) if chance.random() < 0.7 else gone(name, chance.choice([None, number]))
                    for name in ids
                ])  # fmt: skip
                version = store.commit(snapshots[-1][0], tag(), head(number), commits[-1])
                snapshots.append((version, applied(commits[-1], snapshots[-1][1])))
            now = store.load()
            assert applied(now.rows) == snapshots[-1][1]
            for passed, (version, _there) in enumerate(snapshots):
                delta = store.changes_since(version)
                assert delta == Delta(
                    now.version, now.head, [one for rows in commits[passed:] for one in rows]
                )

    def test_a_version_of_another_history_is_too_old(self, place: Place) -> None:
        """A store that lost its tail or was restored is noticed, and never mixed with another history."""
        with closing(place.open()) as store:
            first = store.commit(EMPTY, "one", Head(), [row("a", 1)])
            store.commit(first, "two", Head(), [row("a", 2)])
            for version in (Version(1, "two"), Version(2, "other"), Version(0, "one"), Version(3, "three")):
                with refused(TooOld):
                    store.changes_since(version)

    def test_what_is_no_longer_kept_is_too_old(self, place: Place) -> None:
        with closing(place.open()) as store:
            versions = [EMPTY]
            for number in range(1, 3 * place.kept + 600):
                versions.append(
                    store.commit(versions[-1], tag(), head(number), [row(f"{number % 5}", number)])
                )
            for old in (EMPTY, versions[1], versions[place.kept]):
                with refused(TooOld):
                    store.changes_since(old)
            kept = store.changes_since(versions[-place.kept])
            assert len(kept.rows) == place.kept - 1
            assert len(store.load().rows) == 5
            assert store.commit(versions[-1], tag(), Head(), []) == versions[-1]

    def test_a_commit_is_found_by_its_tag(self, place: Place) -> None:
        """So an answer that was lost is settled."""
        with closing(place.open()) as store:
            assert store.find("one", EMPTY) is None
            first = store.commit(EMPTY, "one", Head(), [row("a", 1)])
            assert store.find("one", EMPTY) == first
            assert store.find("other", EMPTY) is None
            assert store.find("one", first) is None
            with refused(Conflict):
                store.commit(EMPTY, "lost the race", Head(), [row("a", 2)])
            assert store.find("lost the race", EMPTY) is None
            store.commit(first, "two", Head(), [row("a", 3)])
            assert store.find("one", EMPTY) == first

    def test_too_late_to_tell_whether_a_commit_took_place(self, place: Place) -> None:
        with closing(place.open()) as store:
            base = store.commit(EMPTY, "asked for", Head(), [row("a", 0)])
            for number in range(3 * place.kept + 600):
                base = store.commit(base, tag(), Head(), [row("a", number)])
            with refused(TooOld):
                store.find("asked for", EMPTY)

    def test_the_clock_is_a_clock(self, place: Place) -> None:
        with closing(place.open()) as store:
            assert store.clock() > 1_600_000_000_000_000

    def test_closing_twice_is_allowed(self, place: Place) -> None:
        store = place.open()
        store.close()
        store.close()


class ThreadedStoreConformance(StoreConformance):
    """What a store does that several threads of one process use."""

    def test_no_update_is_lost_among_threads_of_one_opening(self, place: Place) -> None:
        with closing(place.open()) as store:
            made = in_threads(4, lambda: count_up(store, "sum", 50))
            _assert_counted(store, 200, [version for versions in made for version in versions])


class SharedStoreConformance(ThreadedStoreConformance):
    """What a store does that several openings decide on, in several processes."""

    def test_every_opening_sees_every_commit_at_once(self, place: Place) -> None:
        with closing(place.open()) as one, closing(place.open()) as two:
            version = EMPTY
            for number in range(1, 20):
                mine, other = (one, two) if number % 2 else (two, one)
                made = mine.commit(version, tag(), head(number), [row("a", number)])
                assert other.changes_since(version) == Delta(made, head(number), [row("a", number)])
                with refused(Conflict):
                    other.commit(version, tag(), head(99), [])
                assert other.commit(made, tag(), head(99), []) == made
                assert value_of(other.load(), "a") == number
                version = made

    def test_of_two_deciders_on_one_version_one_wins(self, place: Place) -> None:
        with closing(place.open()) as store:
            base = store.commit(EMPTY, tag(), Head(), [row("a", 0)])
            for number in range(20):
                start = threading.Barrier(2)
                won = in_threads(2, lambda: _tried(place, base, start))  # noqa: B023 - joined at once
                assert len([version for version in won if version]) == 1
                base = store.load().version
                assert base.number == number + 2

    def test_no_update_is_lost_among_processes(self, place: Place) -> None:
        with closing(place.open()) as store:
            made = in_processes(3, _count_up_elsewhere, place, 60)
            _assert_counted(store, 180, [version for versions in made for version in versions])

    def test_a_commit_is_seen_whole_or_not_at_all(self, place: Place) -> None:
        """While another process changes two rows at a time, no snapshot and no delta has them differ."""
        with closing(place.open()) as store:
            base = store.commit(EMPTY, tag(), Head(), [row("left", 0), row("right", 0)])
            with process(_change_pairs, place) as (child, answers):
                there = applied(store.load().rows)
                seen: set[bytes] = set()
                while child.is_alive() and not answers.poll():
                    now = store.load()
                    assert value_of(now, "left") == value_of(now, "right") == now.head.token
                    with suppress(TooOld):
                        delta = store.changes_since(base)
                        there, base = applied(delta.rows, there), delta.version
                        left, right = there["lease", "left"], there["lease", "right"]
                        assert left.replace(b"left", b"right") == right
                        seen.add(left)
                assert answers.recv() is None
            assert len(seen) > 1

    def test_a_killed_process_leaves_all_of_a_commit_or_nothing(self, place: Place) -> None:
        """Whatever it had been told is there; the next opening works."""
        for delay in (0, 3, 11, 40):
            with process(_change_pairs_and_tell, place) as (child, answers):
                told = max(int(answers.recv()) for _ in range(delay + 1))
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
                child.join(PATIENCE_S)
                with suppress(EOFError):
                    while True:
                        told = max(told, int(answers.recv()))
            with closing(place.open()) as store:
                now = store.load()
                assert told <= now.version.number <= told + 1
                assert value_of(now, "left") == value_of(now, "right") == now.head.token == now.version.number
                assert store.find("no such commit", now.version) is None


class EmbeddedStoreConformance(SharedStoreConformance):
    """What a store of this process or machine does beside that."""

    def test_moved_tells_of_every_commit_of_others(self, place: EmbeddedPlace) -> None:
        with closing(place.open()) as one, closing(place.open()) as two:
            version = one.load().version
            assert not one.moved(version)
            assert one.moved(Version(0, "other"))
            for number in range(1, 10):
                made = two.commit(version, tag(), head(number), [row("a", number)])
                assert one.moved(version)
                assert one.moved(version), "asking does not take it in"
                assert one.changes_since(version).version == made
                assert not one.moved(made)
                version = one.commit(made, tag(), head(number), [row("b", number)])
                assert not one.moved(version)
                assert two.changes_since(made).version == version

    def test_one_at_a_time_has_the_turn(self, place: EmbeddedPlace) -> None:
        with closing(place.open()) as one, closing(place.open()) as two:
            assert one.try_lock()
            assert not two.try_lock()
            assert not two.lock(2_000)
            one.unlock()
            assert two.lock(1_000_000)
            two.unlock()
            two.unlock()
            assert one.try_lock()
            one.unlock()

    def test_the_clock_never_goes_back_and_is_the_same_for_all(self, place: EmbeddedPlace) -> None:
        with closing(place.open()) as one, closing(place.open()) as two:
            read = [store.clock() for _ in range(200) for store in (one, two)]
            assert read == sorted(read)


# --- what other threads and processes do


def _assert_counted(store: Store, times: int, made: list[Version]) -> None:
    now = store.load()
    assert value_of(now, "sum") == times
    assert now.version.number == times
    assert sorted(version.number for version in made) == list(range(1, times + 1))
    assert len({version.tag for version in made}) == times


def _tried(place: Place, base: Version, start: threading.Barrier) -> Version | None:
    with closing(place.open()) as store:
        start.wait(PATIENCE_S)
        try:
            return store.commit(base, tag(), Head(), [row("a", 1)])
        except Conflict:
            return None


def _count_up_elsewhere(place: Place, answers: Connection, times: int) -> None:
    with closing(place.open()) as store:
        answers.send(count_up(store, "sum", times))


def _change_pairs(place: Place, answers: Connection, times: int = 400) -> None:
    with closing(place.open()) as store:
        for _ in range(times):
            _change_pair(store)
    answers.send(None)


def _change_pairs_and_tell(place: Place, answers: Connection) -> None:
    store = place.open()
    while True:
        answers.send(_change_pair(store))


def _change_pair(store: Store) -> int:
    version = store.load().version
    number = version.number + 1
    pair = [row("left", number), row("right", number)]
    return store.commit(version, tag(), Head(token=number), pair).number
