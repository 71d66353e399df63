"""The history contract: what happened at each limit, step by step, for people. No decision ever reads it.

What a step holds is text to a store, which only keeps it: parts of one block are put one behind the other, in the
order in which they came, whoever wrote them. Several servers write into the same blocks.

Known limit: a part whose writing failed may have been written all the same; nobody writes it again.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from ebbgate.core.model import SECOND

CALL_SECONDS: Final = 10.0
"""How long one call to a database may take: nobody waits for it."""

BYTES_MAX: Final = 256 << 20
"""How much text one namespace keeps; beyond it the oldest goes first, whatever its age."""


class Resolution(NamedTuple):
    """Steps of one length, how many of them make a block, and for how long blocks are kept."""

    step_us: int
    block_us: int
    keep_us: int

    def block_of(self, at_us: int) -> int:
        """Return the number of the block that an instant lies in."""
        return at_us // self.block_us


FINE: Final = Resolution(10 * SECOND, 600 * SECOND, 86_400 * SECOND)
COARSE: Final = Resolution(60 * SECOND, 7_200 * SECOND, 30 * 86_400 * SECOND)
RESOLUTIONS: Final = (FINE, COARSE)


class Place(NamedTuple):
    """One block of one limit."""

    resolution: int  # its place in `RESOLUTIONS`
    block: int
    limit_id: str


class Part(NamedTuple):
    """What is put behind what a block holds already."""

    place: Place
    text: str


class Span(NamedTuple):
    """A time in which one server saw everything that happened, and wrote it."""

    writer: str  # random: another one after each start
    began_us: int
    ended_us: int


class HistoryStore(Protocol):
    """Where the history of one namespace is kept. Each coroutine is one atomic step.

    Any of them may raise `ebbgate.errors.StoreUnavailable`.
    """

    async def write(self, parts: Sequence[Part], span: Span) -> None:
        """Put each part behind its block, each block named once, and say what `span.writer` has seen by now."""

    async def read(self, places: Sequence[Place]) -> dict[Place, str]:
        """Return what the blocks hold; those that hold nothing are left out."""

    async def spans(self, since_us: int) -> list[Span]:
        """Return the spans that ended at `since_us` or later."""

    async def forget(self, limit_ids: Sequence[str]) -> None:
        """Remove all blocks of limits."""

    async def prune(self, now_us: int, bytes_max: int = BYTES_MAX) -> None:
        """Remove what is older than it is kept, and the oldest blocks beyond `bytes_max` of text."""

    async def close(self) -> None:
        """Give back what this process holds open. Closing twice is allowed."""


def oldest_blocks(now_us: int) -> tuple[int, ...]:
    """Return the oldest block that is kept of each resolution."""
    return tuple(each.block_of(now_us - each.keep_us) for each in RESOLUTIONS)


def oldest_span_us(now_us: int) -> int:
    """Return before when a span must have ended to be of no use any more."""
    return now_us - max(each.keep_us + each.block_us for each in RESOLUTIONS)


Sizes = dict[tuple[int, int], int]
"""How much text there is, by resolution and block."""


def beyond(sizes: Sizes, bytes_max: int) -> list[tuple[int, int]]:
    """Return the oldest blocks without which there is no more than `bytes_max` of text."""
    total = sum(sizes.values())
    gone: list[tuple[int, int]] = []
    for resolution, block in sorted(sizes, key=lambda one: one[1] * RESOLUTIONS[one[0]].block_us):
        if total <= bytes_max:
            break
        total -= sizes[resolution, block]
        gone.append((resolution, block))
    return gone


class MemoryHistory:
    """The history of one process, gone with it."""

    def __init__(self) -> None:
        """Start empty."""
        self._blocks: dict[tuple[int, int], dict[str, str]] = {}
        self._spans: dict[str, Span] = {}

    async def write(self, parts: Sequence[Part], span: Span) -> None:
        """See `HistoryStore.write`."""
        self._spans[span.writer] = span
        for (resolution, block, limit_id), text in parts:
            texts = self._blocks.setdefault((resolution, block), {})
            texts[limit_id] = texts.get(limit_id, "") + text

    async def read(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `HistoryStore.read`."""
        found: dict[Place, str] = {}
        for place in places:
            text = self._blocks.get(place[:2], {}).get(place.limit_id)
            if text:
                found[place] = text
        return found

    async def spans(self, since_us: int) -> list[Span]:
        """See `HistoryStore.spans`."""
        return [span for span in self._spans.values() if span.ended_us >= since_us]

    async def forget(self, limit_ids: Sequence[str]) -> None:
        """See `HistoryStore.forget`."""
        for texts in self._blocks.values():
            for limit_id in limit_ids:
                texts.pop(limit_id, None)

    async def prune(self, now_us: int, bytes_max: int = BYTES_MAX) -> None:
        """See `HistoryStore.prune`."""
        oldest = oldest_blocks(now_us)
        self._blocks = {at: texts for at, texts in self._blocks.items() if at[1] >= oldest[at[0]]}
        sizes = {at: sum(map(len, texts.values())) for at, texts in self._blocks.items()}
        for at in beyond(sizes, bytes_max):
            del self._blocks[at]
        since_us = oldest_span_us(now_us)
        self._spans = {writer: span for writer, span in self._spans.items() if span.ended_us >= since_us}

    async def close(self) -> None:
        """See `HistoryStore.close`: the memory goes when nobody refers to it."""
