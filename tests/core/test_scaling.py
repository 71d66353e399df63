"""What a grant and a waiter cost does not depend on how many wait."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from ebbgate.core import views
from ebbgate.core.book import Book
from ebbgate.core.commands import Acquire, Command, Hello, PutLimit, Release, Tick
from ebbgate.core.model import SECOND
from tests.core.support import T0, limit_id

DAY = 86_400 * SECOND
MANY = 100_000


def book_with(limits: dict[str, int], *, decay: dict[str, float] | None = None) -> Book:
    book = Book()
    commands: list[Command] = [Hello("s", 1)]
    for number, (name, slots) in enumerate(limits.items()):
        rate = (decay or {}).get(name, 0.0)
        commands.append(
            PutLimit("", "create", name, limit_id(number), limit=slots, slot_decay_per_second=rate)
        )
    book.confirm(book.decide(commands, T0).head)
    return book


def ask(book: Book, lease_id: str, *names: str, spend: bool = False, now_us: int = T0) -> None:
    slots = tuple((name, 1) for name in sorted(names))
    book.confirm(book.decide([Acquire(lease_id, "s", 1, slots, DAY, spend=spend)], now_us).head)


def one_limit(waiters: int) -> tuple[Book, str]:
    """Everybody waits for one slot of one limit."""
    book = book_with({"a": 1})
    for number in range(waiters + 1):
        ask(book, f"l{number}", "a")
    return book, "l0"


def tenants(waiters: int) -> tuple[Book, str]:
    """Everybody waits for a slot of a tenant's limit and of one that all share."""
    count = max(1, waiters // 10)
    book = book_with({"shared": 1, **{f"t{number}": 1 for number in range(count)}})
    ask(book, "l", "shared")
    for number in range(waiters):
        ask(book, f"l{number}", "shared", f"t{number % count}")
    return book, "l"


def busy_tenants(waiters: int) -> tuple[Book, str]:
    """The same, but the limits of nine tenants of ten are held, so that their waiters lack two limits."""
    count = max(10, waiters // 10)
    book = book_with({"shared": 1, **{f"t{number}": 1 for number in range(count)}})
    for number in range(count):
        if number % 10:
            ask(book, f"h{number}", f"t{number}")
    ask(book, "l", "shared")
    for number in range(waiters):
        ask(book, f"l{number}", "shared", f"t{number % count}")
    return book, "l"


def hand_over(book: Book, holder: str, grants: int) -> Iterator[float]:
    """Yield what each release, with the grant it causes, takes in seconds."""
    now_us = T0
    for _ in range(grants):
        now_us += 1000
        started = time.perf_counter()
        decision = book.decide([Release(holder, "s", 1)], now_us)
        book.confirm(decision.head)
        yield time.perf_counter() - started
        (told,) = decision.told
        holder = told.id


def rate_limited(waiters: int) -> tuple[Book, str]:
    """Everybody waits to spend a slot of a tenant's limit and of one that all share."""
    count = max(1, waiters // 10)
    names = {"shared": 1, **{f"t{number}": 100 for number in range(count)}}
    book = book_with(names, decay=dict.fromkeys(names, 10.0))
    for number in range(waiters + 1):
        ask(book, f"l{number}", "shared", f"t{number % count}", spend=True)
    return book, ""


def let_time_pass(book: Book, _holder: str, grants: int) -> Iterator[float]:
    """Yield what each grant by decay takes in seconds."""
    now_us = T0
    for _ in range(grants):
        started = time.perf_counter()
        now_us = book.next_due(now_us).at_us
        decision = book.decide([Tick()], now_us)
        book.confirm(decision.head)
        yield time.perf_counter() - started
        assert len(decision.told) == 1


def typical(costs: Iterator[float]) -> float:
    """Return the median, after those that still stand where they came in have found their place."""
    measured = list(costs)
    measured = sorted(measured[len(measured) // 2 :])
    return measured[len(measured) // 2]


STORIES = [
    (one_limit, hand_over),
    (tenants, hand_over),
    (busy_tenants, hand_over),
    (rate_limited, let_time_pass),
]


@pytest.mark.slow
@pytest.mark.parametrize(("world", "grant"), STORIES, ids=lambda story: story.__name__)
def test_a_grant_costs_the_same_behind_a_hundred_waiters_and_a_hundred_thousand(
    world: Callable[[int], tuple[Book, str]], grant: Callable[[Book, str, int], Iterator[float]]
) -> None:
    gc.disable()
    try:
        few = min(typical(grant(*world(100), 9)) for _ in range(50))
        many = typical(grant(*world(MANY), 2000))
    finally:
        gc.enable()
    print(f"{world.__name__}: {few * 1e6:.1f} us behind 100, {many * 1e6:.1f} us behind {MANY}")
    assert many < 3 * few  # 2 when nothing else runs


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, MANY], ids=["waiter", "holder"])
def test_a_lease_takes_at_most_a_kilobyte_and_a_half(slots: int) -> None:
    book = book_with({"shared": slots, **{f"t{number}": slots for number in range(100)}})
    count = 10_000
    ids = [f"00000000-0000-0000-0000-{number:012}" for number in range(count)]
    ask(book, "l", "shared")
    gc.collect()
    tracemalloc.start()
    for number, lease_id in enumerate(ids):
        ask(book, lease_id, "shared", f"t{number % 100}")
    each = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    print(f"{each:.0f} bytes")
    assert each <= 1_536


@pytest.mark.slow
@pytest.mark.parametrize("make", [one_limit, tenants], ids=["one limit", "tenants"])
def test_why_a_waiter_waits_is_found_without_looking_at_all_others(
    make: Callable[[int], tuple[Book, str]],
) -> None:
    def seconds(waiters: int) -> float:
        book, _ = make(waiters)
        lease = book.leases[f"l{waiters // 2}"]
        assert views.wait_view(book, T0, lease).position > waiters // 3  # who looks first has the order made
        spent = []
        for _ in range(200):
            started = time.perf_counter()
            views.wait_view(book, T0, lease)
            spent.append(time.perf_counter() - started)
        return sorted(spent)[len(spent) // 2]

    few, many = seconds(100), seconds(MANY)
    print(f"{few * 1e6:.1f} us among 100, {many * 1e6:.1f} us among {MANY}")
    assert many < 5 * few
