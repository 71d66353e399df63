"""Limits, occupancy, acquiring and leases: one law a test, in the words of the contract."""

from dataclasses import replace

import pytest

from ebbgate.core.book import Book
from ebbgate.core.commands import (
    Acquire,
    Away,
    DeleteLimit,
    Done,
    Ended,
    Held,
    Hello,
    PutLimit,
    Refused,
    Release,
    ReleaseSlots,
    Renew,
    Revoke,
    Tick,
    Waiting,
)
from ebbgate.core.decay import spent_exactly
from ebbgate.core.model import SECOND, Settings
from tests.core.support import T0, Desk, limit_id


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.limit("a")
    return desk


def code(outcome: object) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


# --- limits


def test_a_limit_of_zero_closes_the_gate_and_is_no_error(desk: Desk) -> None:
    desk.limit("a", 0)
    assert isinstance(desk.ask("l", "a", 5), Waiting)
    desk.limit("a", 5)
    assert desk.state("l") == "held"


def test_an_inactive_limit_never_blocks_and_occupies_nothing(desk: Desk) -> None:
    desk.limit("a", active=False)
    outcome = desk.ask("l", "a", 7)
    assert isinstance(outcome, Held)
    assert not outcome.protected
    assert desk.book.names["a"].held == 0
    desk.limit("a", active=True)
    assert desk.book.names["a"].held == 0


def test_leases_taken_while_a_limit_was_active_stay_expire_and_count_again(desk: Desk) -> None:
    desk.ask("l", "a")
    desk.ask("m", "a", seconds=60)
    desk.limit("a", active=False)
    assert desk.state("m") == "held"
    assert desk.book.names["a"].held == 1
    desk.limit("a", active=True)
    assert isinstance(desk.ask("n", "a"), Waiting)
    desk.limit("a", active=False)
    desk.after(300)
    assert desk.state("l") == "ended expired"


def test_deactivating_lets_everybody_through_that_waits_only_for_it(desk: Desk) -> None:
    desk.limit("b")
    desk.ask("ha", "a")
    desk.ask("hb", "b")
    desk.ask("w", "a")
    desk.ask("both", ["a", "b"])
    desk.limit("a", active=False)
    assert (desk.state("w"), desk.state("both")) == ("held", "waiting")
    desk.release("hb")
    assert desk.lease("both").slots == ((limit_id(2), 1),)


def test_lowering_a_limit_evicts_nobody_and_drains(desk: Desk) -> None:
    desk.limit("a", 3)
    for lease_id in "xyz":
        desk.ask(lease_id, "a")
    desk.limit("a", 1)
    assert desk.book.names["a"].held == 3
    desk.ask("w", "a")
    desk.release("x")
    desk.release("y")
    assert desk.state("w") == "waiting"
    desk.release("z")
    assert desk.state("w") == "held"


def test_a_waiter_that_can_never_fit_any_more_is_refused_except_at_zero(desk: Desk) -> None:
    desk.limit("a", 3)
    desk.ask("h", "a")
    desk.ask("w", "a", 3)
    desk.limit("a", 0)
    assert desk.state("w") == "waiting"
    done = desk.decide(PutLimit("r", "update", "a", limit=2))
    assert done.told[0].outcome == Refused("never_fits", {"name": "a", "slots": 3, "limit": 2})
    assert desk.state("w") == "ended refused"
    assert desk.ask("w", "a", 3) == done.told[0].outcome


def test_renaming_keeps_leases_waiters_and_spent_slots(desk: Desk) -> None:
    desk.limit("r", 3, decay=0.5)
    desk.ask("s", "r", 2, spend=True)
    desk.ask("h", "r")
    desk.ask("w", "r")
    desk.decide(PutLimit("x", "update", "r", name="renamed"))
    live = desk.book.names["renamed"]
    assert "r" not in desk.book.names
    assert (live.held, live.waiting, live.room(desk.now)) == (1, 1, 0)
    assert desk.ask("h", "r") == desk.ask("h", "r")


def test_no_edit_refills_or_drains(desk: Desk) -> None:
    desk.limit("r", 10, decay=1.0)
    desk.ask("l", "r", 8, spend=True)
    desk.after(3)
    live = desk.book.names["r"]
    for edit in (
        {"limit": 20}, {"limit": 10}, {"active": False}, {"active": True}, {"name": "q"},
        {"slot_decay_per_second": 3.0},
        {"slot_decay_per_second": 0.0}, {"slot_decay_per_second": 0.001}, {"description": "x"},
    ):  # fmt: skip
        desk.decide(PutLimit(str(edit), "update", live.limit.name, **edit))
        assert live.meter is not None
        assert 0 <= spent_exactly(live.meter, desk.now) - 5 < 5e-6


def test_after_a_decay_of_zero_spent_slots_come_back_at_the_old_rate(desk: Desk) -> None:
    desk.limit("r", 4, decay=2.0)
    desk.ask("l", "r", 4, spend=True)
    desk.limit("r", None, decay=0.0)
    assert code(desk.ask("m", "r", spend=True)) == "no_slot_decay"
    desk.ask("h", "r")
    desk.after(0.499998)  # the edit took a microsecond
    assert desk.state("h") == "waiting"
    assert desk.book.next_due(desk.now).at_us == desk.now + 1
    desk.after(0.000001)
    assert desk.state("h") == "held"


def test_a_waiting_spend_is_refused_when_its_limit_loses_its_decay(desk: Desk) -> None:
    desk.limit("r", 1, decay=1.0)
    desk.ask("l", "r", spend=True)
    desk.ask("w", "r", spend=True)
    desk.limit("r", None, decay=0.0)
    assert desk.state("w") == "ended refused"


def test_rate_limit_needs_a_decay_on_active_limits_only(desk: Desk) -> None:
    assert code(desk.ask("l", "a", spend=True)) == "no_slot_decay"
    desk.limit("a", active=False)
    assert isinstance(desk.ask("m", "a", spend=True), Held)


def test_a_limit_that_is_used_is_only_deleted_by_force(desk: Desk) -> None:
    desk.ask("h", "a")
    desk.ask("w", "a")
    refused = desk.do(DeleteLimit("a"))
    assert code(refused) == "limit_in_use"
    assert isinstance(refused, Refused)
    assert refused.details["who"] == ["here process 7 held h", "here process 7 waiting w"]
    desk.ask("strict", "a", strict=True)
    done = desk.decide(DeleteLimit("a", force=True))
    assert desk.lease("h").slots == ()
    assert desk.lease("w").unknown == ("a",)
    assert [told.id for told in done.told] == ["strict", "w"]
    assert desk.lease("strict").refusal == ("limit_not_found", {"names": ["a"], "suggestion": ""})
    assert code(desk.do(DeleteLimit("a"))) == "limit_not_found"
    desk.release("h")


def test_a_limit_nobody_uses_is_deleted_with_what_is_spent(desk: Desk) -> None:
    desk.limit("r", 1, decay=0.001)
    desk.ask("l", "r", spend=True)
    desk.do(DeleteLimit("r"))
    desk.limit("r", 1, decay=0.001)
    assert isinstance(desk.ask("m", "r", spend=True), Held)


def test_a_holder_of_an_unknown_process_is_named_so(desk: Desk) -> None:
    desk.ask("h", "a")
    desk.book.sessions.clear()
    refused = desk.book.decide([DeleteLimit("a")], desk.now).outcomes[0]
    assert isinstance(refused, Refused)
    assert refused.details["who"] == ["an unknown client held h"]


# --- managing limits


def test_a_limit_is_made_once_however_often_the_request_arrives(desk: Desk) -> None:
    create = PutLimit("r", "create", "b", limit_id(9), limit=1)
    assert desk.do(create) == Done(limit_id(9), created=True)
    assert desk.do(create) == Done(limit_id(9))
    assert code(desk.do(PutLimit("other", "create", "b", limit_id(8), limit=1))) == "limit_exists"
    desk.after(60)
    desk.after(0)
    assert code(desk.do(create)) == "limit_exists"


def test_a_limit_is_found_by_name_or_id(desk: Desk) -> None:
    assert desk.do(PutLimit("", "update", limit_id(1).upper(), limit=2)) == Done(limit_id(1))
    assert desk.do(PutLimit("", "put", "a", limit=3)) == Done(limit_id(1))
    assert desk.book.names["a"].limit.limit == 3
    desk.limit("database")
    missing = desk.do(PutLimit("", "update", "databse", limit=2))
    assert missing == Refused("limit_not_found", {"names": ["databse"], "suggestion": "database"})
    assert code(desk.do(DeleteLimit(limit_id(5)))) == "limit_not_found"


@pytest.mark.parametrize(
    "wrong",
    [{"limit": -1}, {"limit": True}, {"slot_decay_per_second": -1.0}, {"active": 1}, {"name": "a/b"},
     {"description": 7}],
)  # fmt: skip
def test_a_wrong_edit_changes_nothing(desk: Desk, wrong: dict[str, object]) -> None:
    before = desk.book.names["a"].limit
    assert code(desk.do(PutLimit("r", "update", "a", **wrong))) == "invalid_limit"  # type: ignore[arg-type]
    assert desk.book.names["a"].limit is before
    assert "r" not in desk.book.requests


def test_a_new_limit_needs_its_number_of_slots_and_an_allowed_name(desk: Desk) -> None:
    assert code(desk.do(PutLimit("r", "create", "b", limit_id(9)))) == "invalid_limit"
    assert code(desk.do(PutLimit("r", "create", "b?", limit_id(9), limit=1))) == "invalid_limit"


def test_two_limits_never_have_one_name(desk: Desk) -> None:
    desk.limit("b")
    assert code(desk.do(PutLimit("", "update", "b", name="a"))) == "limit_exists"


def test_an_edit_that_changes_nothing_writes_nothing(desk: Desk) -> None:
    decision = desk.decide(PutLimit("", "update", "a", limit=1))
    assert (decision.outcomes, decision.changes) == ([Done(limit_id(1))], [])


# --- occupancy


def test_held_slots_do_not_decay_and_spent_ones_are_not_released(desk: Desk) -> None:
    desk.limit("r", 2, decay=1.0)
    desk.ask("h", "r")
    desk.ask("s", "r", spend=True)
    desk.ask("w", "r", spend=True)
    assert desk.release("s").outcomes == [Ended("s", "spent", desk.now, 2)]
    assert desk.state("w") == "waiting"
    desk.after(1)
    assert desk.lease("w").why == "spent"
    desk.ask("x", "r", spend=True)
    desk.after(0.999999)
    assert desk.state("x") == "waiting"
    desk.after(0.000001)
    assert desk.lease("x").why == "spent"


def test_a_refusal_changes_nothing_of_what_is_spent(desk: Desk) -> None:
    desk.limit("r", 1, decay=1.0)
    desk.ask("s", "r", spend=True)
    meter = desk.book.names["r"].meter
    for number in range(9):
        desk.after(0.1)
        assert code(desk.ask(f"l{number}", "r", spend=True, wait=False)) == "no_slot_free"
    assert desk.book.names["r"].meter == meter
    desk.after(0.1)
    assert isinstance(desk.ask("l", "r", spend=True, wait=False), Held)


# --- acquiring


def test_all_limits_or_none_in_one_step(desk: Desk) -> None:
    desk.limit("b")
    desk.ask("h", "b")
    assert isinstance(desk.ask("w", ["a", "b"]), Waiting)
    assert desk.book.names["a"].held == 0
    desk.release("h")
    assert [desk.book.names[name].held for name in "ab"] == [1, 1]


def test_occupy_may_differ_from_limit_to_limit(desk: Desk) -> None:
    desk.limit("a", 2)
    desk.limit("b", 3)
    desk.ask("l", {"a": 2, "b": 3})
    assert [desk.book.names[name].held for name in "ab"] == [2, 3]


def test_more_slots_than_a_limit_has_is_an_error_at_once(desk: Desk) -> None:
    assert desk.ask("l", "a", 2) == Refused("never_fits", {"name": "a", "slots": 2, "limit": 1})
    assert desk.ask("l", "a", 2) == Refused("never_fits", {"name": "a", "slots": 2, "limit": 1})


def test_unknown_names_are_told_and_the_known_ones_enforced(desk: Desk) -> None:
    desk.limit("database")
    held = desk.ask("l", ["a", "databse"])
    assert isinstance(held, Held)
    assert (held.unknown, held.suggestion, held.protected) == (("databse",), "database", True)
    assert isinstance(desk.ask("m", ["a", "databse"]), Waiting)
    alone = desk.ask("n", "nobody")
    assert isinstance(alone, Held)
    assert not alone.protected


def test_strict_raises_on_any_unknown_name_before_anything_is_taken(desk: Desk) -> None:
    refused = desk.ask("l", ["a", "nobody"], strict=True)
    assert refused == Refused("limit_not_found", {"names": ["nobody"], "suggestion": ""})
    assert desk.book.names["a"].held == 0


def test_the_same_id_asked_again_is_the_same_lease(desk: Desk) -> None:
    held = desk.ask("l", "a")
    waiting = desk.ask("w", "a")
    assert desk.ask("l", "a") == held
    assert desk.ask("w", "a") == waiting
    desk.release("l")
    assert isinstance(desk.ask("l", "a"), Ended)
    assert isinstance(desk.ask("w", "a"), Held)


def test_the_same_id_for_something_else_is_an_error(desk: Desk) -> None:
    desk.decide(Hello("t", 1))
    desk.limit("r", 5, decay=1.0)
    desk.ask("l", "r")
    for changed in (
        desk.ask("l", "a"), desk.ask("l", "r", 2), desk.ask("l", "r", session="t"),
        desk.ask("l", "r", spend=True),
    ):  # fmt: skip
        assert code(changed) == "id_reused"
    desk.ask("none", [])
    assert code(desk.ask("none", "a")) == "id_reused"


def test_releasing_an_unknown_id_refuses_a_late_acquire_of_it(desk: Desk) -> None:
    desk.release("l")
    assert desk.state("l") == "ended cancelled"
    late = desk.ask("l", "a", spend=True)
    assert isinstance(late, Ended)
    assert late.why == "cancelled"
    assert desk.book.names["a"].held == 0


def test_a_granted_spend_is_answered_again_alike(desk: Desk) -> None:
    desk.limit("r", 2, decay=0.001)
    held = desk.ask("l", "r", spend=True)
    assert desk.state("l") == "ended spent"
    assert desk.ask("l", "r", spend=True) == held
    assert desk.book.names["r"].room(desk.now) == 1


def test_ended_ids_are_remembered_for_a_minute(desk: Desk) -> None:
    desk.ask("l", "a")
    desk.release("l")
    desk.after(59.999999)
    assert desk.state("l")
    desk.after(0.000001)
    assert not desk.state("l")


def test_where_no_duplicate_can_arrive_nothing_is_remembered() -> None:
    desk = Desk()
    desk.decide(Hello("s", 2, remembers="nothing"))
    desk.decide(Hello("s", 1))
    desk.limit("a")
    desk.limit("r", 1, decay=1.0)

    def ask(lease_id: str, slots: tuple[tuple[str, int], ...], **more: bool) -> Acquire:
        return Acquire(lease_id, "s", 2, slots, 60 * SECOND, **more)  # type: ignore[arg-type]

    desk.decide(ask("l", (("a", 1),)), ask("s", (("r", 1),), spend=True), ask("big", (("a", 2),)))
    decision = desk.decide(Release("l", "s", 2), Release("other", "s", 2))
    assert not desk.book.leases
    assert [(stored.id, stored.keep) for stored in decision.changes] == [("l", False)]
    desk.decide(ask("l", (("a", 1),)))
    desk.decide(Revoke("l"))
    assert desk.state("l") == "ended revoked"


def test_one_try_takes_what_is_free_or_nothing(desk: Desk) -> None:
    assert isinstance(desk.ask("l", "a", wait=False), Held)
    assert desk.ask("m", "a", wait=False) == Refused("no_slot_free", {"names": ["a"]})
    assert not desk.book.queue.groups


def test_every_grant_has_a_rising_token(desk: Desk) -> None:
    desk.limit("a", 9)
    first, second = desk.ask("l", "a"), desk.ask("m", "a")
    assert isinstance(first, Held)
    assert isinstance(second, Held)
    assert first.token == desk.now
    assert second.token == desk.now + 1
    desk.now -= 10 * SECOND  # the store's clock stepped back
    third = desk.ask("n", "a")
    assert isinstance(third, Held)
    assert third.token == second.token + 1
    assert third.at_us == second.at_us
    assert third.token < 1 << 53


# --- waiting


def test_first_come_first_served_and_no_barging(desk: Desk) -> None:
    desk.limit("a", 2)
    desk.ask("h", "a")
    desk.ask("big", "a", 2)
    assert isinstance(desk.ask("small", "a"), Waiting)
    assert code(desk.ask("try", "a", wait=False)) == "no_slot_free"
    told = desk.release("h").told
    assert [(t.id, desk.state(t.id)) for t in told] == [("big", "held")]
    assert [t.id for t in desk.release("big").told] == ["small"]


def test_higher_priority_goes_first(desk: Desk) -> None:
    desk.ask("h", "a")
    desk.ask("low", "a", priority=-1)
    desk.ask("one", "a")
    desk.ask("two", "a")
    desk.ask("high", "a", priority=5)
    order = []
    holder = "h"
    for _ in range(4):
        (told,) = desk.release(holder).told
        order.append(holder := told.id)
    assert order == ["high", "one", "two", "low"]


def test_one_that_lacks_one_limit_keeps_all_its_room_and_one_that_lacks_two_nothing(desk: Desk) -> None:
    desk.limit("a", 2)
    desk.limit("b", 2)
    desk.ask("ha", "a")
    desk.ask("w", {"a": 2, "b": 1})
    assert isinstance(desk.ask("x", "a"), Waiting)
    assert isinstance(desk.ask("y", "b", 2), Held)
    assert desk.state("x") == "held"  # now w lacks both


def test_a_decaying_limit_is_kept_before_its_room_has_come_back(desk: Desk) -> None:
    desk.limit("r", 2, decay=1.0)
    desk.ask("s", "r", 2, spend=True)
    desk.ask("two", "r", 2, spend=True)
    desk.after(1)
    assert isinstance(desk.ask("one", "r", spend=True), Waiting)
    desk.after(1)
    assert desk.state("two") == "ended spent"
    assert desk.state("one") == "waiting"


def test_a_waiter_without_a_connection_leaves_half_a_minute_after_its_last_question(desk: Desk) -> None:
    desk.ask("h", "a")
    desk.ask("w", "a", attended=False)
    desk.after(29)
    desk.ask("w", "a", attended=False)
    desk.after(29)
    assert desk.state("w") == "waiting"
    desk.after(1)
    assert desk.state("w") == "ended cancelled"


def test_a_grant_that_is_not_fetched_in_ten_seconds_passes_on(desk: Desk) -> None:
    for fetched in (False, True):
        desk.ask(f"h{fetched}", "a")
        desk.ask(f"w{fetched}", "a", attended=False)
        desk.release(f"h{fetched}")
        desk.after(9)
        if fetched:
            desk.ask(f"w{fetched}", "a", attended=False)
        desk.after(1)
        assert desk.state(f"w{fetched}") == ("held" if fetched else "ended cancelled")


def test_who_renews_a_grant_has_fetched_it(desk: Desk) -> None:
    desk.ask("h", "a")
    desk.ask("w", "a", attended=False)
    desk.release("h")
    desk.renew("w")
    desk.after(20)
    assert desk.state("w") == "held"


def test_a_waiter_asked_from_elsewhere_is_woken_there(desk: Desk) -> None:
    desk.ask("h", "a")
    desk.ask("w", "a", wake="here")
    desk.ask("w", "a", wake="there")
    assert desk.release("h").told[0].wake == "there"


# --- leases


def test_a_countdown_that_ends_frees_the_slots_for_the_next(desk: Desk) -> None:
    desk.ask("l", "a", seconds=60)
    desk.ask("w", "a")
    assert desk.book.next_due(desk.now).at_us == desk.now + 60 * SECOND
    assert not desk.book.is_tick_due(desk.now)
    desk.after(59.999999)
    assert desk.state("l") == "held"
    desk.after(0.000001)
    assert (desk.state("l"), desk.state("w")) == ("ended expired", "held")


def test_a_renewal_that_arrives_first_wins(desk: Desk) -> None:
    desk.ask("l", "a", seconds=60)
    desk.now += 90 * SECOND
    assert desk.book.is_tick_due(desk.now)
    outcome = desk.renew("l", seconds=120)
    assert isinstance(outcome, Held)
    assert outcome.expires_us == desk.now + 120 * SECOND
    desk.after(0)
    assert desk.state("l") == "held"


@pytest.mark.parametrize("seconds", [59.999999, 86_400.000001, 0, -1])
def test_a_lease_lasts_from_a_minute_to_a_day(desk: Desk, seconds: float) -> None:
    assert code(desk.ask("l", "a", seconds=seconds)) == "invalid_request"
    desk.ask("l", "a", seconds=60)
    assert code(desk.renew("l", seconds=seconds)) == "invalid_request"
    assert isinstance(desk.renew("l", seconds=86_400), Held)


def test_shorter_leases_may_be_allowed() -> None:
    desk = Desk(Settings(lease_duration_min_us=SECOND))
    desk.limit("a")
    assert isinstance(desk.ask("l", "a", seconds=1), Held)


def test_an_expired_lease_is_taken_again_by_its_late_renewal(desk: Desk) -> None:
    first = desk.ask("l", "a", seconds=60)
    desk.after(60)
    desk.after(60, Renew("l", "s", 1, 60 * SECOND))
    assert desk.state("l") == "held"
    assert isinstance(first, Held)
    assert desk.lease("l").token > first.token


@pytest.mark.parametrize(
    "reason", ["late", "taken", "awaited", "not asked", "released", "revoked", "revoked after", "gone"]
)
def test_a_lease_is_not_taken_again(desk: Desk, reason: str) -> None:
    """Not after a minute, without room, past a waiter, for strict callers, after release or revocation."""
    desk.limit("a", 2)
    desk.ask("l", "a", 2 if reason == "awaited" else 1, seconds=60)
    match reason:
        case "late":
            desk.after(60)
            desk.now += 60 * SECOND + 1
        case "taken":
            desk.after(60)
            desk.ask("m", "a", 2)
        case "awaited":
            desk.ask("h", "a", seconds=600)
            desk.after(60)
            desk.ask("w", "a", 2)
        case "not asked":
            desk.after(60)
        case "released":
            desk.after(60)
            assert desk.release("l").outcomes[0] == Ended("l", "released", desk.now, 1)
        case "revoked":
            desk.do(Revoke("l"))
        case "revoked after":  # whoever revoked it saw it held a moment before
            desk.after(60)
            assert desk.do(Revoke("l")) == Ended("l", "revoked", desk.now, 1)
        case _:
            desk.after(60)
            desk.do(DeleteLimit("a"))
    assert isinstance(desk.renew("l", retake=reason != "not asked"), Ended)
    assert not desk.state("l").startswith("held")


def test_a_lease_of_a_limit_that_is_inactive_now_is_taken_again_without_it(desk: Desk) -> None:
    desk.ask("l", "a", seconds=60)
    desk.after(60)
    desk.limit("a", active=False)
    outcome = desk.renew("l")
    assert isinstance(outcome, Held)
    assert not outcome.protected


def test_a_renewal_of_a_waiter_or_of_nothing_says_so(desk: Desk) -> None:
    desk.ask("h", "a")
    desk.ask("w", "a")
    assert desk.renew("w") == Waiting("w", 2)
    assert desk.renew("nothing") == Ended("nothing", "", -1, 0)


def test_a_release_is_repeated_without_harm(desk: Desk) -> None:
    desk.ask("l", "a")
    desk.ask("w", "a")
    desk.ask("x", "a")
    first = desk.release("l").outcomes
    assert desk.release("l").outcomes == first
    assert (desk.state("w"), desk.state("x")) == ("held", "waiting")
    assert desk.release("x").outcomes == [Ended("x", "cancelled", desk.now, 3)]


def test_nobody_releases_or_renews_the_lease_of_another(desk: Desk) -> None:
    desk.decide(Hello("t", 1))
    desk.ask("l", "a")
    assert code(desk.release("l", "t").outcomes[0]) == "not_authorized"
    assert code(desk.renew("l", "t")) == "not_authorized"


def test_an_operator_revokes_any_lease_and_its_client_is_told(desk: Desk) -> None:
    desk.decide(Hello("s", 1, wake="port"))
    desk.ask("l", "a")
    desk.ask("w", "a", wake="mine")
    decision = desk.decide(Revoke("w"), Revoke("l"))
    assert [(told.id, told.wake) for told in decision.told] == [("w", "mine"), ("l", "port")]
    assert desk.do(Revoke("l")) == Ended("l", "revoked", desk.now, 1)
    assert code(desk.do(Revoke("nothing"))) == "lease_not_found"


# --- sessions


def test_commands_of_older_epochs_and_unknown_sessions_are_refused(desk: Desk) -> None:
    desk.ask("l", "a")
    assert desk.do(Hello("s", 2)) == Done("s")
    assert code(desk.do(Hello("s", 1))) == "stale_session"
    for late in (
        Release("l", "s", 1),
        Renew("l", "s", 1, 60 * SECOND),
        Acquire("m", "s", 1, (), 60 * SECOND),
    ):
        assert code(desk.do(late)) == "stale_session"
    for early in (Release("l", "s", 3), Release("m", "t", 1), Acquire("m", "t", 1, (), 60 * SECOND)):
        assert code(desk.do(early)) == "unknown_session"
    desk.do(Away("s", 1, certain=True))
    assert desk.state("l") == "held"
    assert desk.do(Away("nobody", 1, certain=True)) == Done("nobody")


def test_a_dead_process_leaves_at_once_and_its_slots_pass_on(desk: Desk) -> None:
    desk.decide(Hello("t", 1))
    desk.ask("l", "a")
    desk.ask("w", "a")
    desk.ask("x", "a", session="t")
    decision = desk.decide(Away("s", 1, certain=True))
    assert [told.id for told in decision.told] == ["l", "w", "x"]
    assert (desk.state("l"), desk.state("x")) == ("ended lost_holder", "held")
    assert "s" not in desk.book.sessions


def test_after_an_uncertain_loss_waiters_leave_and_holders_wait_for_their_countdown(desk: Desk) -> None:
    desk.ask("l", "a")
    desk.ask("w", "a")
    desk.decide(Away("s", 1, certain=False, grace_us=10 * SECOND))
    assert desk.book.next_due(desk.now).at_us == desk.now + 10 * SECOND
    desk.after(10)
    assert (desk.state("l"), desk.state("w")) == ("held", "ended cancelled")
    desk.after(290)
    assert desk.state("l") == "ended expired"
    assert not desk.book.sessions


def test_who_comes_back_within_the_grace_keeps_everything(desk: Desk) -> None:
    desk.ask("l", "a")
    desk.ask("w", "a")
    desk.decide(Away("s", 1, certain=True, grace_us=10 * SECOND))
    desk.after(9)
    desk.decide(Hello("s", 2))
    desk.after(10)
    assert (desk.state("l"), desk.state("w")) == ("held", "waiting")


def test_of_two_notices_of_one_kind_the_earlier_counts_and_certainty_goes_before(desk: Desk) -> None:
    desk.ask("l", "a")
    for grace, certain in (
        (20, False),
        (10, False),
        (15, False),
        (12, True),
        (5, True),
        (7, True),
        (1, False),
    ):
        desk.decide(Away("s", 1, certain=certain, grace_us=grace * SECOND))
    desk.after(4.9)
    assert desk.state("l") == "held"
    desk.after(0.1)
    assert desk.state("l") == "ended lost_holder"


def test_only_the_server_that_a_client_greeted_last_is_certain_that_it_is_gone(desk: Desk) -> None:
    """Its other connection may be to a server that is stopped, and so cannot say that it is here."""
    desk.do(Hello("s", 1, wake="one"))
    desk.do(Hello("s", 1, wake="other"))
    desk.ask("l", "a")
    desk.do(Away("s", 1, certain=True, grace_us=10 * SECOND, seen_from="one"))
    desk.after(11)
    assert desk.state("l") == "held"
    desk.do(Away("s", 1, certain=True, grace_us=10 * SECOND, seen_from="other"))
    desk.after(11)
    assert desk.state("l") == "ended lost_holder"


def test_a_process_without_leases_is_forgotten_when_it_is_gone(desk: Desk) -> None:
    desk.decide(Away("s", 1, certain=False))
    assert not desk.book.sessions


def test_a_lease_lost_with_its_process_is_taken_again_when_that_was_wrong(desk: Desk) -> None:
    desk.ask("l", "a")
    desk.decide(Away("s", 1, certain=True))
    assert code(desk.renew("l")) == "unknown_session"
    desk.decide(Hello("s", 2))
    assert isinstance(desk.do(Renew("l", "s", 2, 60 * SECOND)), Held)


def test_a_tick_within_the_recovery_grace_ends_nothing(desk: Desk) -> None:
    desk.ask("l", "a", seconds=60)
    desk.after(90, Tick(expire=False))
    assert desk.state("l") == "held"


def test_what_one_decision_forgets_is_bounded(desk: Desk) -> None:
    desk.limit("a", 9)
    for number in range(70):
        desk.ask(f"l{number}", "a")
        desk.release(f"l{number}")
    desk.after(61)
    assert len(desk.book.leases) == 70 - 63  # and the request that made the limit
    desk.after(0)
    assert not desk.book.leases


def test_what_has_ended_does_not_pile_up_however_much_is_asked_in_one_decision() -> None:
    book = Book()
    book.confirm(book.decide([Hello("s", 1)], T0).head)
    for second in (0, 61):
        releases = [Release(f"{second}-{number}", "s", 1) for number in range(200)]
        book.confirm(book.decide(releases, T0 + second * SECOND).head)
    assert len(book.leases) == 200


def test_a_session_of_one_key_is_never_spoken_for_with_another(desk: Desk) -> None:
    assert desk.do(Hello("k", 1, key="one")) == Done("k", created=True)
    for key in ("", "another"):
        refused = desk.do(Hello("k", 2, key=key))
        assert isinstance(refused, Refused)
        assert refused.code == "not_authorized"
    assert desk.do(Hello("k", 2, key="one")) == Done("k")


# --- releasing a part


def test_a_lease_releases_a_part_of_its_slots_once_for_each_request(desk: Desk) -> None:
    a = desk.limit("a", 5)
    desk.ask("l", "a", 5)
    desk.ask("w", "a", 3)
    command = ReleaseSlots("one", "l", "s", 1, ((a, 2),))
    for _ in range(2):
        outcome = desk.do(command)
        assert isinstance(outcome, Held)
        assert (desk.lease("l").slots, desk.state("w")) == (((a, 3),), "waiting")
    assert isinstance(desk.do(replace(command, request_id="two", slots=((a, 1),))), Held)
    assert (desk.lease("l").slots, desk.state("w")) == (((a, 2),), "held")
    assert isinstance(desk.do(replace(command, request_id="three")), Ended)
    assert isinstance(desk.do(replace(command, request_id="three")), Ended)
    assert (desk.state("l"), desk.book.names["a"].held) == ("ended released", 3)


def test_a_part_that_a_lease_does_not_hold_is_refused_and_changes_nothing(desk: Desk) -> None:
    a, b = desk.limit("a", 5), desk.limit("b", 5)
    desk.ask("l", "a", 2)
    for command in (
        ReleaseSlots("1", "l", "s", 1, ((a, 3),)),
        ReleaseSlots("2", "l", "s", 1, ((a, 1), (b, 1))),
        ReleaseSlots("3", "unknown", "s", 1, ((a, 1),)),
    ):
        assert code(desk.do(command)) == "lease_not_found"
    assert desk.lease("l").slots == ((a, 2),)
    desk.release("l")
    assert code(desk.do(ReleaseSlots("4", "l", "s", 1, ((a, 2),)))) == "lease_not_found"


def test_only_its_session_releases_a_part_of_a_lease(desk: Desk) -> None:
    a = desk.limit("a", 5)
    desk.ask("l", "a", 2)
    assert code(desk.do(ReleaseSlots("1", "l", "t", 1, ((a, 1),)))) == "not_authorized"
    assert code(desk.do(ReleaseSlots("1", "l", "s", 0, ((a, 1),)))) == "stale_session"
    assert desk.lease("l").slots == ((a, 2),)
