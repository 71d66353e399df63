"""Keys in order, of which it is found without looking at all of them how many stand before one."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import chain, islice
from typing import Final

Key = tuple[int, int]

CHUNK: Final = 1_000
"""Keys of one chunk at first; one of twice as many is split."""


class Line:
    """Different keys in order, in chunks: adding, removing and finding one cost the root of their number."""

    __slots__ = ("_chunks",)

    def __init__(self, keys: Iterable[Key]) -> None:
        """Put these keys in order."""
        ordered = sorted(keys)
        self._chunks = [ordered[place : place + CHUNK] for place in range(0, len(ordered), CHUNK)] or [[]]

    def _place(self, key: Key) -> int:
        """Return the chunk in which a key stands, or belongs."""
        chunks = self._chunks
        if len(chunks) == 1 or key <= chunks[0][-1]:
            return 0
        return min(bisect_left(chunks, key, key=lambda chunk: chunk[-1]), len(chunks) - 1)

    def add(self, key: Key) -> None:
        """Put one more key in its place."""
        chunks = self._chunks
        place = len(chunks) - 1
        chunk = chunks[place]
        if not chunk or key > chunk[-1]:
            chunk.append(key)
        else:
            place = self._place(key)
            chunk = chunks[place]
            insort(chunk, key)
        if len(chunk) >= 2 * CHUNK:
            chunks.insert(place + 1, chunk[CHUNK:])
            del chunk[CHUNK:]

    def remove(self, key: Key) -> None:
        """Take a key out, which must be there."""
        place = self._place(key)
        chunk = self._chunks[place]
        at = bisect_left(chunk, key)
        assert chunk[at] == key, f"{key} stands in no line"
        del chunk[at]
        if not chunk and len(self._chunks) > 1:
            del self._chunks[place]

    def before(self, key: Key) -> int:
        """Return how many keys are smaller."""
        place = self._place(key)
        return sum(map(len, self._chunks[:place])) + bisect_left(self._chunks[place], key)

    def first(self, count: int | None = None) -> list[Key]:
        """Return the `count` smallest keys, or all of them, in order."""
        return list(islice(chain.from_iterable(self._chunks), count))
