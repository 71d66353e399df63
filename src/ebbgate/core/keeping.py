"""What a waiter that cannot get in keeps from later ones, and where it is looked at again."""

from ebbgate.core.line import Key
from ebbgate.core.live import ALL, Group, Live
from ebbgate.core.model import Lease


def order_of_keeping(group: Group) -> tuple[str, ...]:
    """Return the limits of which an overtaken head keeps slots, in that order.

    The one that fewest wait for comes first: what is kept of it while the next is still full idles fewest.
    """
    needs = sorted((live.waiting, live.limit.limit, live.limit.id) for live, _ in group.needs)
    return tuple(limit_id for _, _, limit_id in needs)


def parks_and_claims(
    group: Group, key: Key, head: Lease, lacking: list[Live], now_us: int
) -> tuple[tuple[Live, ...], tuple[tuple[Live, int], ...]]:
    """Return where a head that lacks these is parked, and what it keeps from later ones.

    It is parked where room must be gained before anything changes for it: at the limit that it gathers; else
    at one that is full; else at all that it lacks.
    """
    claims: list[tuple[Live, int]] = []
    gathers = lacking[0] if len(lacking) == 1 else None
    if head.keeps:
        for live in lacking:
            if live.is_closed(now_us):
                return (live,), ()
        needs = {live.limit.id: (live, slots) for live, slots in group.needs}
        order = [needs[limit_id] for limit_id in head.keeps]
        secured = next(place for place, (live, _) in enumerate(order) if live in lacking)
        claims = order[:secured]
        gathers = order[secured][0]
    if gathers is not None:
        # Room that is not there now may come back by decay, unseen; hence a claim on every metered limit.
        if gathers.timed or gathers.visible(key, now_us) > 0:
            claims.append((gathers, ALL))
        return (gathers,), tuple(claims)
    for live in lacking:
        if not live.timed and live.visible(key, now_us) <= 0:
            return (live,), ()
    return tuple(lacking), ()
