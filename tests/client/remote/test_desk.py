"""What is kept until it is answered, and what an answer means; the clock is the test's."""

from collections.abc import Sequence

import pytest

from ebbgate.client.remote.desk import (
    AGAIN_MAX,
    ASK_AGAIN_US,
    Asked,
    Desk,
    Reply,
)
from ebbgate.client.remote.pulse import SILENT_US
from ebbgate.client.waiting import Gone, Waiter
from ebbgate.core.commands import Done, Ended, Held, Refused, Waiting
from ebbgate.core.model import SECOND
from ebbgate.errors import InternalError, NotAuthorized, ServerUnavailable, StoreUnavailable
from ebbgate.wire.stream import (
    AcquireItem,
    DeleteItem,
    DoneItem,
    Down,
    EndedItem,
    FailedItem,
    GoodbyeItem,
    HeldItem,
    HurryItem,
    RefusedItem,
    ReleaseItem,
    RenewItem,
    Up,
    WaitingItem,
)

DURATION = 60 * SECOND
AHEAD = 1_000 * SECOND  # the store's clock is ahead of the local one by so much


class Noted(Asked):
    """A command whose answer is kept."""

    __slots__ = ("reply",)

    def __init__(self, item: Up, waiter: Waiter | None = None) -> None:
        super().__init__(item, waiter)
        self.reply: Reply | None = None

    def settle(self, desk: Desk, reply: Reply) -> None:
        """Keep it."""
        self.reply = reply


class Talk:
    """A desk, a clock, and what is said over the connection."""

    def __init__(self) -> None:
        self.now_us = SECOND
        self.desk = Desk("s", lambda: self.now_us)
        self.epoch = 0
        self.connect()

    def connect(self) -> list[Up]:
        """Connect anew; return what is said at once."""
        self.epoch += 1
        self.desk.connected(self.epoch)
        return self.desk.sending()

    def ask(self, make: type[Up] | None = None, lease_id: str = "l", *, waits: bool = True) -> Noted:
        number = self.desk.number()
        waiter = Waiter(lease_id) if waits else None
        item: Up = AcquireItem(number, lease_id, (("a", 1),), DURATION)
        if make is ReleaseItem:
            item = ReleaseItem(number, lease_id, "s")
        elif make is DeleteItem:
            item = DeleteItem(number, lease_id)
        asked = Noted(item, waiter)
        self.desk.ask(asked)
        return asked

    def hear(self, *items: Down) -> None:
        self.desk.received([(self.now_us + AHEAD, list(items))])

    def held(self, number: int, lease_id: str = "l", *, at_us: int | None = None) -> HeldItem:
        """Return the grant of a lease, at a local instant."""
        at_us = AHEAD + (self.now_us if at_us is None else at_us)
        return HeldItem(number, lease_id, 7, at_us, at_us + DURATION, 1, protected=True)

    def queue(self, lease_id: str = "l") -> Waiter:
        """Have a lease wait."""
        asked = self.ask(lease_id=lease_id)
        self.desk.sending()
        self.hear(WaitingItem(asked.item.number, lease_id, 1))
        assert isinstance(asked.reply, Waiting)
        assert asked.waiter is not None
        return asked.waiter


def kinds(items: Sequence[Up]) -> list[tuple[str, str]]:
    return [(type(item).__name__, getattr(item, "id", "")) for item in items]


def test_what_is_unanswered_is_said_again_in_its_order_under_its_number() -> None:
    talk = Talk()
    asked = [talk.ask(lease_id=f"l{number}") for number in range(3)] + [talk.ask(ReleaseItem, "l0")]
    said = talk.desk.sending()
    assert talk.desk.sending() == []
    talk.hear(talk.held(said[1].number, "l1"))
    assert talk.connect() == [asked[0].item, asked[2].item, asked[3].item]
    assert isinstance(asked[1].reply, Held)


def test_what_was_given_up_is_not_said_again_and_its_answer_is_nobodys() -> None:
    talk = Talk()
    asked = talk.ask()
    talk.desk.sending()
    talk.desk.give_up(asked)
    talk.hear(talk.held(asked.item.number))
    assert asked.reply is None
    assert talk.connect() == []


def test_who_waits_asks_again_after_a_break_before_all_others_and_in_the_old_order() -> None:
    talk = Talk()
    waiters = [talk.queue(f"w{number}") for number in range(3)]
    talk.now_us += ASK_AGAIN_US
    assert not talk.desk.look()
    talk.desk.sending()
    talk.ask(lease_id="late")
    said = talk.connect()
    assert kinds(said) == [("AcquireItem", lease_id) for lease_id in ("w0", "w1", "w2", "late")]
    talk.hear(
        WaitingItem(said[0].number, "w0", 1), talk.held(said[1].number, "w1"),
        EndedItem(said[2].number, "w2", "revoked", 1, 3),
    )  # fmt: skip
    assert waiters[0].outcome is None
    assert isinstance(waiters[1].outcome, Held)
    assert isinstance(waiters[2].outcome, Ended)


def test_who_waits_asks_now_and_then_and_never_too_many_at_a_time() -> None:
    talk = Talk()
    for number in range(AGAIN_MAX + 10):
        talk.queue(f"w{number}")
    talk.now_us += ASK_AGAIN_US
    talk.desk.look()
    first = talk.desk.sending()
    talk.now_us += ASK_AGAIN_US - 1
    talk.desk.look()
    assert talk.desk.sending() == []
    talk.now_us += 1
    talk.desk.look()
    second = talk.desk.sending()
    assert len(first) == len(second) == AGAIN_MAX
    assert {name for _, name in kinds(first + second)} == {f"w{number}" for number in range(AGAIN_MAX + 10)}


def test_a_connection_is_silent_when_nothing_comes_though_something_is_unanswered() -> None:
    talk = Talk()
    talk.now_us += 2 * SILENT_US
    assert not talk.desk.look(), "nothing is asked"
    talk.ask()
    talk.desk.sending()
    talk.now_us += SILENT_US
    assert not talk.desk.look()
    talk.now_us += 1
    assert talk.desk.look()
    talk.hear(HurryItem())
    assert not talk.desk.look()


@pytest.mark.parametrize("code", ["unknown_session", "stale_session"])
def test_an_unknown_session_never_reaches_who_asked(code: str) -> None:
    talk = Talk()
    asked = talk.ask()
    talk.desk.sending()
    talk.hear(RefusedItem(asked.item.number, code, {}))
    assert talk.desk.is_outdated
    assert asked.reply is None
    assert talk.connect() == [asked.item]
    assert not talk.desk.is_outdated


def test_a_refusal_and_a_failure_reach_who_asked() -> None:
    talk = Talk()
    first, second = talk.ask(lease_id="l1"), talk.ask(lease_id="l2")
    talk.desk.sending()
    talk.hear(
        RefusedItem(first.item.number, "never_fits", {"name": "a"}),
        FailedItem(second.item.number, "store_unavailable", "gone", transient=True),
    )
    assert first.reply == Refused("never_fits", {"name": "a"})
    assert isinstance(second.reply, StoreUnavailable)
    assert second.reply.transient


def test_a_deletion_that_was_said_twice_is_done_though_the_limit_is_gone() -> None:
    talk = Talk()
    once = talk.ask(DeleteItem)
    talk.desk.sending()
    talk.hear(RefusedItem(once.item.number, "limit_not_found", {"names": ["l"]}))
    assert isinstance(once.reply, Refused)
    twice = talk.ask(DeleteItem)
    talk.desk.sending()
    talk.connect()
    talk.hear(RefusedItem(twice.item.number, "limit_not_found", {"names": ["l"]}))
    assert twice.reply == Done("")


def test_a_lease_counts_from_when_it_was_asked_for_if_it_was_granted_then() -> None:
    talk = Talk()
    asked = talk.ask()
    talk.desk.sending()
    sent_us = talk.now_us
    talk.now_us += SECOND
    talk.hear(talk.held(asked.item.number))
    assert talk.desk.counted_from("l", 0) == sent_us


def test_a_lease_that_was_granted_long_before_it_is_told_counts_from_its_grant() -> None:
    """The first answer was lost."""
    talk = Talk()
    asked = talk.ask()
    talk.desk.sending()
    granted_us = talk.now_us
    talk.now_us += 20 * SECOND
    talk.connect()
    talk.hear(talk.held(asked.item.number, at_us=granted_us))
    assert isinstance(asked.reply, Held)
    assert talk.desk.counted_from("l", 0) == granted_us


def test_a_lease_that_would_be_lost_when_it_is_told_is_renewed_first() -> None:
    talk = Talk()
    asked = talk.ask()
    talk.desk.sending()
    granted_us = talk.now_us
    talk.now_us += DURATION + SECOND
    talk.connect()
    talk.hear(talk.held(asked.item.number, at_us=granted_us))
    assert asked.reply is None
    (renewal,) = talk.desk.sending()
    assert isinstance(renewal, RenewItem)
    sent_us = talk.now_us
    talk.now_us += SECOND
    talk.hear(talk.held(renewal.number))
    assert talk.desk.counted_from("l", 0) == sent_us
    outcome: object = asked.reply
    assert isinstance(outcome, Held)


@pytest.mark.parametrize("doubt", ["hurry", "silence"])
def test_a_grant_that_is_told_in_doubt_of_the_clocks_is_renewed_first(doubt: str) -> None:
    talk = Talk()
    waiter = talk.queue()
    if doubt == "hurry":
        talk.hear(HurryItem())
        assert talk.desk.hurried
    else:
        talk.now_us += 40 * SECOND
    talk.hear(talk.held(0))
    assert waiter.outcome is None
    (renewal,) = talk.desk.sending()
    assert isinstance(renewal, RenewItem)
    assert not renewal.retake
    talk.hear(talk.held(renewal.number))
    assert isinstance(waiter.outcome, Held)


def test_a_grant_is_heard_at_once_where_the_clocks_are_known() -> None:
    talk = Talk()
    waiter = talk.queue()
    talk.now_us += SECOND
    talk.hear(talk.held(0))
    assert isinstance(waiter.outcome, Held)
    assert talk.now_us - SECOND // 10 < talk.desk.counted_from("l", 0) <= talk.now_us


def test_losses_and_refusals_that_are_told_reach_who_waits_or_the_gate() -> None:
    talk = Talk()
    revoked, refused = talk.queue("w1"), talk.queue("w2")
    talk.hear(
        EndedItem(0, "w1", "revoked", 1, 1), RefusedItem(0, "never_fits", {}, "w2"),
        EndedItem(0, "held", "expired", 1, 1), GoodbyeItem(0.5),
    )  # fmt: skip
    assert isinstance(revoked.outcome, Ended)
    assert refused.outcome == Refused("never_fits", {})
    assert [ended.id for ended in talk.desk.ended] == ["held"]
    assert talk.desk.goodbye_seconds == 0.5


def test_a_waiter_that_is_forgotten_hears_nothing_and_asks_nothing() -> None:
    talk = Talk()
    waiter = talk.queue()
    talk.desk.forget("l")
    talk.hear(talk.held(0))
    assert waiter.outcome is None
    assert talk.connect() == []
    assert not talk.desk.is_busy()


def test_a_refused_key_ends_all_waiting_and_other_lasting_errors_only_questions() -> None:
    talk = Talk()
    waiter, asked = talk.queue("w"), talk.ask()
    talk.desk.fail(InternalError("what the server cannot read it will never read"))
    assert isinstance(asked.reply, InternalError)
    assert waiter.outcome is None
    talk.desk.fail(NotAuthorized("no"))
    assert waiter.outcome == Refused("not_authorized", {"message": "no"})


def test_when_another_gate_takes_over_everybody_asks_again() -> None:
    talk = Talk()
    waiter, asked = talk.queue("w"), talk.ask()
    error = ServerUnavailable("gone")
    talk.desk.retire(error)
    assert asked.reply is error
    assert isinstance(waiter.outcome, Gone)
    assert not talk.desk.is_busy()


def test_an_answer_to_something_else_harms_nobody() -> None:
    talk = Talk()
    asked = talk.ask()
    talk.desk.sending()
    talk.hear(DoneItem(999, "x"), WaitingItem(0, "x", 1), talk.held(0, "unknown"))
    assert asked.reply is None
    assert talk.desk.unanswered
