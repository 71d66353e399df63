"""What people are shown, found by looking at everybody: no index, for small books."""

from ebbgate.core import views
from ebbgate.core.book import Book
from ebbgate.core.decay import spent_exactly
from ebbgate.core.model import Lease
from tests.core.support import copied


def waiting_key(lease: Lease) -> tuple[int, int]:
    return (-lease.priority, lease.arrival)


def wanting(book: Book, state: str, limit_id: str | None) -> list[Lease]:
    leases = [lease for lease in book.leases.values() if lease.state == state]
    return [lease for lease in leases if limit_id is None or limit_id in dict(lease.slots)]


def shown(book: Book, limit_id: str | None, state: str | None, holder: str | None) -> list[str]:
    """Return the ids that a list shows, all of them."""
    held = sorted(wanting(book, "held", limit_id), key=lambda lease: lease.arrival)
    waiting = sorted(wanting(book, "waiting", limit_id), key=waiting_key)
    both = [lease for lease in held + waiting if state in {None, lease.state}]
    return [lease.id for lease in both if holder in {None, lease.session, *lease.labels.values()}]


def check_limits(book: Book, now_us: int) -> None:
    listed = views.limits(book, now_us)
    assert [view.limit.name for view in listed] == sorted(limit.name for limit in book.limits.values())
    for view in listed:
        held = sum(dict(lease.slots)[view.limit.id] for lease in wanting(book, "held", view.limit.id))
        meter = book.lives[view.limit.id].meter
        spent = spent_exactly(meter, now_us) if meter else 0
        assert (view.held, view.spent) == (held, float(spent))
        assert view.active == held - (-spent // 1)
        assert view.waiting == len(wanting(book, "waiting", view.limit.id))
    for prefix, after in (("", "b"), ("c", ""), ("a", "ab"), ("b", "a"), ("zz", "")):
        names = [view.limit.name for view in views.limits(book, now_us, prefix=prefix, after=after, count=2)]
        expected = [view.limit.name for view in listed if view.limit.name.startswith(prefix)]
        assert names == [name for name in expected if name > after][:2]


def check_leases(book: Book, now_us: int) -> None:
    for limit_id in (None, *book.limits):
        for state, holder in ((None, None), ("held", None), ("waiting", "t"), (None, "s"), ("waiting", None)):
            expected = shown(book, limit_id, state, holder)
            for count in (1, 2, None):
                found: list[str] = []
                after = ""
                while page := views.leases(
                    book, now_us, limit_id=limit_id, state=state, holder=holder, after=after, count=count
                ):
                    found += [view.lease.id for view in page]
                    last = page[-1].lease
                    after = (
                        last.id if count == 1 else views.place_named(last.state, last.priority, last.arrival)
                    )
                assert found == expected


def check_waiters(book: Book, now_us: int) -> None:
    for lease in wanting(book, "waiting", None):
        view = views.wait_view(book, now_us, lease)
        lacking = [
            limit_id
            for limit_id, slots in lease.slots
            if book.lives[limit_id].visible(waiting_key(lease), now_us) < slots
        ]
        assert view.lacks == tuple(book.limits[limit_id].name for limit_id in lacking)
        before = [
            sum(waiting_key(other) < waiting_key(lease) for other in wanting(book, "waiting", limit_id))
            for limit_id in lacking
        ]
        assert view.position == max(before, default=0) + 1
        holders = {other.id: other for limit_id in lacking for other in wanting(book, "held", limit_id)}
        in_order = sorted(holders.values(), key=lambda other: (other.expires_us, other.arrival))
        assert view.blocked_by == tuple(other.id for other in in_order[: views.BLOCKERS_MAX])
        if any(not book.limits[limit_id].limit for limit_id in lacking):
            assert view.estimate_us is None
        if not lacking:
            assert view.estimate_us == 0


def check(book: Book, now_us: int) -> None:
    """Compare all that a book shows with the plain rule; that changes nothing in the book."""
    before = {lease.id: copied(lease) for lease in book.leases.values()}
    check_limits(book, now_us)
    check_leases(book, now_us)
    check_waiters(book, now_us)
    assert {lease_id: lease.saved() for lease_id, lease in book.leases.items()} == {
        lease_id: lease.saved() for lease_id, lease in before.items() if isinstance(lease, Lease)
    }
