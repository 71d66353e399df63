"""Which limits somebody wants to see, and in which order. Reads only; decides nothing."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from ebbgate.core.book import Book
from ebbgate.core.decay import spent_slots
from ebbgate.core.live import Live

Show = Literal["all", "full", "waiting", "used", "idle", "rates", "off"]
Sort = Literal["saturation", "name", "used", "waiting", "oldest", "grants"]

Place = tuple[float, ...]

Rates = Mapping[str, float]
"""Grants per second, by the id of a limit; those that are missing have none."""

CLOSED_SHARE: Final = 0.5
"""A closed gate counts as one of half a slot, so that a slot of it in use is more than full."""


def overview(
    book: Book, now_us: int, rates: Rates, *, search: str = "", show: Show = "all", sort: Sort = "saturation"
) -> list[Live]:
    """Return limits in order; those that are equal in it stand by name.

    Args:
        book: what is looked at.
        now_us: the store's time.
        rates: how often somebody got in lately, for the order by grants.
        search: only those that have this in their name or description, in letters of any size.
        show: only those of which this is true.
        sort: by what, the most first; names from the first.
    """
    found = [book.names[name] for name in book.names_in_order()]
    if search:
        wanted = search.casefold()
        found = [
            live
            for live in found
            if wanted in live.limit.name.casefold() or wanted in live.limit.description.casefold()
        ]
    if show != "all":
        fits = _FITS[show]
        found = [live for live in found if fits(live, now_us)]
    if sort == "grants":
        found.sort(key=lambda live: -rates.get(live.limit.id, 0.0))
    elif sort != "name":
        place = _PLACES[sort]
        found.sort(key=lambda live: place(live, now_us))
    return found


def active_slots(live: Live, now_us: int) -> int:
    """Return how many slots are in use: held, and spent rounded up."""
    return live.held if live.meter is None else live.held + spent_slots(live.meter, now_us)


def waiting_since_us(live: Live) -> int:
    """Return when who waits longest asked; -1: nobody waits."""
    return min([group.waiters[0].since_us for group in live.groups if group.waiters], default=-1)


def _is_off(live: Live, now_us: int) -> bool:
    return not live.limit.active or live.cool_until_us > now_us


_FITS: Final[Mapping[str, Callable[[Live, int], bool]]] = {
    "full": lambda live, now_us: live.limit.active and active_slots(live, now_us) >= live.limit.limit,
    "waiting": lambda live, _: live.waiting > 0,
    "used": lambda live, now_us: active_slots(live, now_us) > 0,
    "idle": lambda live, now_us: not live.waiting and active_slots(live, now_us) == 0,
    "rates": lambda live, _: live.limit.slot_decay_per_second > 0,
    "off": _is_off,
}


def _by_saturation(live: Live, now_us: int) -> Place:
    active = active_slots(live, now_us)
    share = active / max(live.limit.limit, CLOSED_SHARE) if live.limit.active else -1.0
    return (not live.waiting, -share, -live.waiting)


def _by_oldest(live: Live, _now_us: int) -> Place:
    since_us = waiting_since_us(live)
    return (since_us < 0, since_us)


_PLACES: Final[Mapping[str, Callable[[Live, int], Place]]] = {
    "saturation": _by_saturation,
    "used": lambda live, now_us: (-active_slots(live, now_us),),
    "waiting": lambda live, _: (-live.waiting,),
    "oldest": _by_oldest,
}
