"""The power fails at every moment: with "full" nothing acknowledged is lost, with "normal" only a tail."""

import os
import random
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import Conflict, Row, TooOld, Version
from ebbgate.stores.sqlite import Durability, SqliteStore
from ebbgate.testing.power import Disk, Operation, installed
from ebbgate.testing.power_cuts import Cut, cuts
from ebbgate.testing.stores import gone, head, row, tag
from tests.faults.world import Machine, Story, chance_of, checkpoint, digest, integrity, logged, recovered

SEED = int(os.environ.get("EBBGATE_FAULT_SEED", "1"))
ROOM = int(os.environ.get("EBBGATE_FAULT_ROOM", "1"))  # how many times as many samples


class Life:
    """Two writers on one file, with checkpoints, and one of them closing and opening again."""

    def __init__(self, path: Path, disk: Disk, durability: Durability, chance: random.Random) -> None:
        self.path, self.disk, self.durability, self.chance = path, disk, durability, chance
        self.machine = Machine()
        self.story = Story()

    def open(self) -> SqliteStore:
        return SqliteStore(self.path, durability=self.durability, clocks=self.machine.clocks, keep=10_000)

    def commits(self, stores: list[SqliteStore], times: int, size_max: int) -> None:
        for _ in range(times):
            store = self.chance.choice(stores)
            base = self.story.versions[-1]
            if store.moved(base):
                store.changes_since(self.story.versions[max(base.number - 1, 0)])
            number = base.number + 1
            rows: list[Row] = []
            for record in self.chance.sample(range(12), self.chance.randint(1, 4)):
                if (("lease", str(record)) in self.story.rows[-1]) and self.chance.random() < 0.4:
                    rows.append(gone(str(record)))
                else:
                    rows.append(row(str(record), f"{number} " + "x" * self.chance.randint(0, size_max)))
            version = Version(number, tag())
            self.story.tell(version, head(number), rows)
            self.disk.mark(("begun", number))
            assert store.commit(base, version.tag, head(number), rows) == version
            self.disk.mark(("done", number))

    def live(self) -> None:
        first = self.open()
        self.disk.mark(("made", 0))
        with closing(self.open()) as second:
            self.commits([first, second], 4, 200)
            checkpoint(self.path, over=False)
            self.commits([first, second], 3, 6_000)
            checkpoint(self.path, over=True)  # the log starts over: the next commit writes from its start
            self.commits([first, second], 3, 200)
            first.close()
            self.commits([second], 1, 200)
        # The last one has closed: the log was put into the file and deleted.
        with closing(self.open()) as third:
            self.commits([third], 2, 3_000)
            checkpoint(self.path, over=True)
            self.commits([third], 2, 200)
            checkpoint(self.path, over=False)
            self.commits([third], 1, 200)


def numbers(marks: list[object], what: str) -> int:
    """Return the number of the last commit that was "begun" or "done"."""
    return max((mark[1] for mark in marks if isinstance(mark, tuple) and mark[0] == what), default=0)


def bounds(cut: Cut, durability: Durability) -> tuple[int, int]:
    """Return which commits must have survived and which may have."""
    surely = cut.marks if durability == "full" else cut.marks[: cut.synced]
    return numbers(surely, "done"), numbers(cut.marks, "begun")


def check(store: SqliteStore, story: Story, boots_max: int = 1) -> int:
    """Check that a store holds what it held after one of its commits; return which."""
    assert integrity(store) == "ok"
    versions = logged(store)
    now = store.load()
    assert versions[-1] == now.version
    boots = 0
    while versions[-1] not in story.versions:  # what a boot commits
        versions.pop()
        boots += 1
    survived = versions[-1].number
    assert versions == story.versions[: survived + 1], "the log has a hole or a stranger"
    assert 0 < boots <= boots_max if survived else boots == 0
    assert {(kind, id_): body for kind, id_, body, _ in now.rows} == story.rows[survived]
    assert now.head.token > story.heads[survived].token or not survived
    assert now.head.arrival == story.heads[survived].arrival
    if survived < story.versions[-1].number:
        check_that_the_lost_tail_is_noticed(store, story, now.version)
    return survived


def check_that_the_lost_tail_is_noticed(store: SqliteStore, story: Story, now: Version) -> None:
    """Whoever has seen more than survived can neither commit nor go on from there, ever."""
    newest = story.versions[-1]
    while True:
        with pytest.raises(TooOld):
            store.changes_since(newest)
        with pytest.raises(Conflict):
            store.commit(newest, tag(), head(newest.number + 1), [row("z")])
        with pytest.raises(Conflict):
            store.commit(newest, "", head(newest.number + 1), [])
        assert store.moved(newest)
        assert store.find(newest.tag, story.versions[-2]) is None
        if now.number > newest.number:
            return
        now = store.commit(now, tag(), head(now.number + 1), [row("z", now.number)])


def life(folder: Path, durability: Durability) -> tuple[list[Operation], Story]:
    folder.mkdir(mode=0o700)
    with installed() as disk:
        lived = Life(folder / "limits.db", disk, durability, chance_of(SEED))
        lived.live()
        return disk.operations, lived.story


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_power_cut_at_any_moment_takes_nothing_acknowledged_or_only_a_tail(
    folder: Path, durability: Durability
) -> None:
    operations, story = life(folder / "lived", durability)
    chance = chance_of(SEED)
    known: dict[bytes, int] = {}
    moments = images = lost = 0
    for cut in cuts(operations):
        if cut.place and operations[cut.place - 1].what == "mark" and chance.random() < 0.5:
            continue
        moments += 1
        surely, at_most = bounds(cut, durability)
        for image in cut.images(chance, every_max=3, samples=2 * ROOM):
            images += 1
            key = digest(image)
            survived = known.get(key)
            if survived is None:
                machine = Machine(boot="second")
                with recovered(image, folder / "after", machine, durability) as store:
                    survived = known[key] = check(store, story)
            assert surely <= survived <= at_most, f"at operation {cut.place}, seed {SEED}"
            lost += at_most - survived
    print(f"{durability}: {len(operations)} operations, {moments} moments, {images} images, "
          f"{len(known)} different ones, {lost} commits lost in all; seed {SEED}")  # fmt: skip
    assert len(set(known.values())) == len(story.versions), "every length of the history was met"


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_second_power_cut_while_the_first_is_recovered_from_takes_nothing_more(
    folder: Path, durability: Durability
) -> None:
    operations, story = life(folder / "lived", durability)
    chance = chance_of(SEED)
    again = folder / "again"
    for cut in cuts(operations):
        if chance.random() > 0.06 * ROOM:
            continue
        (image,) = chance.sample(list(cut.images(chance, every_max=1)), 1)
        with installed() as disk:
            with recovered(image, folder / "after", Machine(boot="second"), durability) as store:
                survived = numbers_survived(store, story)
            second_life = disk.operations
        for second in cuts(second_life):
            if chance.random() < 0.7 or "limits.db" not in second.names:
                continue
            for left in second.images(chance, every_max=1, samples=1):
                with recovered({**image, **left}, again, Machine(boot="third"), durability) as store:
                    assert numbers_survived(store, story) == survived, f"seed {SEED}"
                    assert integrity(store) == "ok"


def numbers_survived(store: SqliteStore, story: Story) -> int:
    """Return which commit of the story is the last that a store knows."""
    return max(version.number for version in logged(store) if version in story.versions)


def test_the_proof_can_fail(folder: Path) -> None:
    """A store that syncs nothing loses what it acknowledged, and more than a tail."""
    operations, story = life(folder / "lived", "off")  # type: ignore[arg-type]  # what no user can choose
    chance = chance_of(SEED)
    complaints: set[str] = set()
    for cut in cuts(operations):
        if chance.random() < 0.8:
            continue
        for image in cut.images(chance, every_max=2, samples=1):
            if {"lost an acknowledged commit", "is damaged"} <= complaints:
                return
            try:
                with recovered(image, folder / "after", Machine(boot="second")) as store:
                    if check(store, story) < bounds(cut, "full")[0]:
                        complaints.add("lost an acknowledged commit")
            except (AssertionError, StoreUnavailable, apsw.Error):
                complaints.add("is damaged")
    raise AssertionError(f"only this was noticed: {complaints}")
