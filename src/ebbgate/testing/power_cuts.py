"""What a disk may hold after a power cut: from the record of a `Disk`, for every moment of it.

What is assumed of a disk stands in `ebbgate.testing.power`.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Literal

from ebbgate.testing.power import Operation

Image = dict[str, bytes]
"""The files of a folder: name -> content."""

SECTOR: Final = 512

_NO_CHANCE: Final = random.Random(0)  # noqa: S311 - what is done as a whole asks it nothing

Fate = Literal["lost", "done", "torn"]


@dataclass(slots=True)
class _Inode:
    """One file: what is surely on the disk, and what may be."""

    durable: bytes = b""
    pending: list[Operation] = field(default_factory=list)


@dataclass(slots=True)
class Cut:
    """One moment at which the power may fail."""

    place: int  # how many operations took place
    marks: list[object]  # what the test has remembered by then
    synced: int  # how many of these marks there were when the log file was last synced
    inodes: dict[int, _Inode]
    names: dict[str, int]  # of the files that are surely there
    entries: list[Operation]  # files made and deleted since, in this order

    def images(self, chance: random.Random, *, every_max: int = 5, samples: int = 6) -> Iterator[Image]:
        """Return what the disk may hold.

        Args:
            chance: decides, where not everything is tried.
            every_max: up to so many open operations every subset of them is tried, each done as a whole;
            samples: of more than that, and with torn writes, so many subsets.
        """
        pending = [(number, op) for number, inode in self.inodes.items() for op in inode.pending]
        for made in range(len(self.entries) + 1):
            whole: tuple[Fate, ...] = ("lost", "done")
            if len(pending) <= every_max:
                for fates in product(whole, repeat=len(pending)):
                    yield self._image(made, fates, chance)
            else:
                for fate in whole:
                    yield self._image(made, [fate] * len(pending), chance)
                # The newest alone, and all but the newest: what an order that SQLite counts on would forbid.
                before = len(pending) - 1
                yield self._image(made, [*whole[:1] * before, "done"], chance)
                yield self._image(made, [*whole[1:] * before, "lost"], chance)
            for _ in range(samples if pending else 0):
                bias = chance.random()
                kinds: list[Fate] = ["lost", "done", "torn"]
                weights = [1 - bias, bias, chance.choice([0, 0.1, 1])]
                yield self._image(made, chance.choices(kinds, weights, k=len(pending)), chance)

    def _image(self, made: int, fates: Sequence[Fate], chance: random.Random) -> Image:
        contents: dict[int, bytes] = {}
        fate = iter(fates)
        for number, inode in self.inodes.items():
            content = bytearray(inode.durable)
            for operation in inode.pending:
                _apply(content, operation, next(fate), chance)
            contents[number] = bytes(content)
        names = dict(self.names)
        for entry in self.entries[:made]:
            _enter(names, entry)
        return {name: contents[number] for name, number in names.items() if not name.endswith("-shm")}


def cuts(operations: Sequence[Operation]) -> Iterator[Cut]:
    """Return every moment of a record, the one before the first operation included.

    What is returned is valid until the next one is asked for.
    """
    cut = Cut(0, [], 0, {}, {}, [])
    yield cut
    for operation in operations:
        cut.place += 1
        _step(cut, operation)
        yield cut


def _step(cut: Cut, operation: Operation) -> None:
    match operation.what:
        case "mark":
            cut.marks.append(operation.mark)
        case "create":
            cut.inodes[operation.inode] = _Inode(operation.data)
            cut.entries.append(operation)
        case "delete":
            cut.entries.append(operation)
        case "write" | "truncate":
            cut.inodes[operation.inode].pending.append(operation)
        case "sync":
            _sync(cut, operation)


def _sync(cut: Cut, operation: Operation) -> None:
    inode = cut.inodes[operation.inode]
    content = bytearray(inode.durable)
    for pending in inode.pending:
        _apply(content, pending, "done", _NO_CHANCE)
    inode.durable = bytes(content)
    inode.pending = []
    if any(entry.what == "create" and entry.inode == operation.inode for entry in cut.entries):
        for entry in cut.entries:
            _enter(cut.names, entry)
        cut.entries = []
    if operation.name.endswith("-wal"):
        cut.synced = len(cut.marks)


def _enter(names: dict[str, int], entry: Operation) -> None:
    if entry.what == "create":
        names[entry.name] = entry.inode
    else:
        names.pop(entry.name, None)


def _apply(content: bytearray, operation: Operation, fate: Fate, chance: random.Random) -> None:
    if fate == "lost":
        return
    if operation.what == "truncate":
        del content[operation.offset :]
        return
    start, end = operation.offset, operation.offset + len(operation.data)
    before = len(content)
    if before < end:
        content.extend(bytes(end - before))
    if fate == "done":
        content[start:end] = operation.data
        return
    for sector in range(start - start % SECTOR, end, SECTOR):
        first, last = max(sector, start), min(sector + SECTOR, end)
        kept = chance.random()
        if kept < 0.5:
            content[first:last] = operation.data[first - start : last - start]
        elif kept < 0.75 and first >= before:
            content[first:last] = chance.randbytes(last - first)
