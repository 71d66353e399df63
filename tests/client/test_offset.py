"""A lease that is granted by a clock elsewhere is never counted from later than it was granted."""

import random

import pytest

from ebbgate.client.lease import Lease
from ebbgate.client.remote.offset import FRESH_US, KEPT_US, Offset
from ebbgate.core.commands import Held
from ebbgate.core.model import SECOND

AHEAD = 1_700_000_000 * SECOND  # the store's clock is ahead of the local one by so much
MS = 1_000


def after_one_exchange(*, took_us: int = 2 * MS) -> Offset:
    """An exchange sent at 0 and answered `took_us` later, whose time was read right before it arrived."""
    offset = Offset(0)
    offset.exchanged(0, took_us + AHEAD, took_us)
    return offset


def test_a_grant_is_counted_from_its_instant_less_what_the_exchange_took() -> None:
    offset = after_one_exchange()
    aged_us = 5 * MS // 100
    assert offset.counted_from(5 * MS + AHEAD, 5 * MS) == 3 * MS - aged_us


def test_a_grant_is_never_counted_from_later_than_now() -> None:
    """A store's clock that ran ahead makes grants seem to come from the future."""
    offset = after_one_exchange()
    assert offset.counted_from(SECOND + AHEAD, 5 * MS) == 5 * MS


def test_the_closest_bound_counts_until_it_is_old() -> None:
    offset = after_one_exchange(took_us=2 * MS)
    offset.exchanged(SECOND, 4 * SECOND + AHEAD, 4 * SECOND)
    at_us = 5 * SECOND
    assert offset.counted_from(at_us + AHEAD, at_us) == at_us - 2 * MS - at_us // 100
    later_us = KEPT_US + 1
    offset.exchanged(later_us, later_us + SECOND + AHEAD, later_us + SECOND)
    at_us = later_us + SECOND
    aged_us = SECOND // 100
    assert offset.counted_from(at_us + AHEAD, at_us) == at_us - SECOND - aged_us - aged_us // 100


def test_without_an_exchange_on_this_connection_a_client_asks_again() -> None:
    offset = Offset(0)
    assert offset.must_ask(AHEAD, 60 * SECOND, MS)
    offset.heard(AHEAD, 2 * MS)
    assert offset.must_ask(AHEAD, 60 * SECOND, 2 * MS)
    with pytest.raises(AssertionError):
        offset.counted_from(AHEAD, 2 * MS)


def test_after_a_long_silence_a_client_asks_again() -> None:
    offset = after_one_exchange()
    assert not offset.must_ask(FRESH_US + AHEAD, 60 * SECOND, FRESH_US)
    assert offset.must_ask(FRESH_US + AHEAD, 60 * SECOND, FRESH_US + 1)


def test_after_a_hurry_a_client_asks_again_and_what_was_sent_before_says_nothing() -> None:
    offset = after_one_exchange()
    offset.hurry(SECOND)
    assert offset.must_ask(SECOND + AHEAD, 60 * SECOND, SECOND)
    offset.exchanged(SECOND - 1, SECOND + AHEAD, SECOND + 1)
    assert offset.must_ask(SECOND + AHEAD, 60 * SECOND, SECOND + 1)
    offset.exchanged(SECOND, SECOND + AHEAD, SECOND + 2)
    assert not offset.must_ask(SECOND + AHEAD, 60 * SECOND, SECOND + 2)


def test_a_message_that_the_bound_does_not_allow_makes_a_client_ask_again() -> None:
    """The store's clock has stepped: what was known of it is worth nothing."""
    offset = after_one_exchange()
    hour = 3_600 * SECOND
    offset.heard(SECOND + AHEAD, SECOND)
    assert not offset.must_ask(SECOND + AHEAD, 60 * SECOND, SECOND)
    offset.heard(SECOND + AHEAD + hour, SECOND)
    assert offset.must_ask(SECOND + AHEAD + hour, 60 * SECOND, SECOND)
    offset.exchanged(SECOND, SECOND + AHEAD + hour + MS, SECOND + MS)
    assert offset.counted_from(2 * SECOND + AHEAD + hour, 2 * SECOND) <= 2 * SECOND - MS


def test_a_grant_that_came_so_late_that_its_lease_would_be_lost_is_asked_for_again() -> None:
    """At the instant at which a lease counted so would be lost, not before."""
    offset = after_one_exchange(took_us=0)
    at_us, duration_us = SECOND, 20 * SECOND
    now_us = [at_us]
    held = Held("l", 1, at_us + AHEAD, at_us + duration_us + AHEAD, 1, protected=True)
    while not offset.must_ask(held.at_us, duration_us, now_us[0]):
        now_us[0] += 50 * MS
    sent_us = offset.counted_from(held.at_us, now_us[0])
    lease = Lease(
        held, ("a",), duration_us, session="s", clock=lambda: now_us[0], sent_us=sent_us, waited_us=0,
        on_loss=lambda _: None, retake=True,
    )  # fmt: skip
    assert lease.deadline_us <= now_us[0] < lease.deadline_us + 50 * MS + SECOND
    assert now_us[0] < at_us + duration_us


def test_whatever_the_wire_and_the_clocks_do_no_grant_is_counted_from_later_than_it_was_made() -> None:
    """Clocks that run alike within 1 %, messages that take up to 5 s, grants told late."""
    chance = random.Random(1)
    counted = 0
    for _ in range(300):
        rate = 1 + chance.uniform(-0.0099, 0.0099)  # of the store's clock, by the local one
        ahead_us = chance.randint(-AHEAD, AHEAD)

        def store(local_us: int, rate: float = rate, ahead_us: int = ahead_us) -> int:
            return int(local_us * rate) + ahead_us

        offset, now_us = Offset(0), 0
        grants: list[int] = []
        for _ in range(100):
            now_us += chance.choice((MS, SECOND, 15 * SECOND))
            sent_us = now_us
            read_us = now_us + chance.randint(0, chance.choice((MS, 5 * SECOND)))
            now_us = read_us + chance.randint(0, chance.choice((MS, 5 * SECOND)))
            if chance.random() < 0.5:
                offset.exchanged(sent_us, store(read_us), now_us)
            else:
                offset.heard(store(read_us), now_us)
            grants.append(read_us)
            granted_us = chance.choice(grants[-3:])
            if not offset.must_ask(store(granted_us), 60 * SECOND, now_us):
                counted += 1
                from_us = offset.counted_from(store(granted_us), now_us)
                assert from_us <= granted_us + 1
    assert counted > 5_000
