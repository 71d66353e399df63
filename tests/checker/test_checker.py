"""The checker can fail: for every law there is a history that breaks it, and a like one that does not."""

from itertools import count
from pathlib import Path
from typing import Literal

import pytest

from ebbgate.testing import history as h
from ebbgate.testing.checker import check

S = 1_000_000


class Story:
    """Writes a history, one event after the other."""

    def __init__(self, *, limit: int = 1, decay: float = 0.0, starved_us: int = 3_600 * S) -> None:
        self.events: list[h.AnyEvent] = [h.Setting(when_us=0, starved_us=starved_us)]
        self._requests = count()
        self.change(0, 0, "create", name="db", limit=limit, decay=decay)

    def add(self, *events: h.AnyEvent) -> "Story":
        self.events += events
        return self

    def change(
        self,
        from_us: int,
        to_us: int | None,
        verb: Literal["create", "update", "delete"],
        *,
        which: str = "db",
        name: str = "",
        new_name: str | None = None,
        limit: int | None = None,
        decay: float | None = None,
        active: bool | None = None,
        done: bool = True,
    ) -> "Story":
        request = str(next(self._requests))
        called = h.ChangeCalled(
            when_us=from_us, request=request, which=which, verb=verb, name=name, new_name=new_name,
            limit=limit, decay=decay, active=active,
        )  # fmt: skip
        self.add(called)
        return self if to_us is None else self.add(h.ChangeDone(when_us=to_us, request=request, done=done))

    def ask(
        self,
        at: int,
        lease: str,
        slots: dict[str, int] | None = None,
        *,
        priority: int = 0,
        kind: h.Kind = "hold",
        client: str = "",
    ) -> "Story":
        wanted = slots or {"db": 1}
        return self.add(
            h.Asked(
                when_us=at, client=client or lease, lease=lease, slots=wanted, priority=priority, kind=kind
            )
        )

    def grant(
        self, at: int, lease: str, token: int, *, arrival: int = 0, deadline: int = 1000 * S, at_us: int = -1
    ) -> "Story":
        at_us = at if at_us < 0 else at_us
        return self.add(
            h.Granted(
                when_us=at,
                lease=lease,
                token=token,
                arrival=arrival or token,
                at_us=at_us,
                deadline_us=deadline,
            )
        )

    def hold(self, at: int, lease: str, token: int, *, deadline: int = 1000 * S) -> "Story":
        return self.ask(at, lease).grant(at + 1, lease, token, deadline=deadline)

    def release(self, at: int, lease: str) -> "Story":
        return self.add(h.ReleaseCalled(when_us=at, lease=lease))

    def laws(self) -> set[str]:
        return {violation.law for violation in check(sorted(self.events, key=lambda event: event.when_us))}


def test_one_slot_is_not_held_twice() -> None:
    assert Story().hold(10, "a", 1).hold(20, "b", 2).laws() == {"slots"}
    assert Story().hold(10, "a", 1).release(19, "a").hold(20, "b", 2).laws() == set()
    assert Story(limit=2).hold(10, "a", 1).hold(20, "b", 2).laws() == set()


def test_it_does_not_matter_whose_client_saw_its_grant_first() -> None:
    story = (
        Story().ask(10, "a").ask(11, "b").grant(20, "b", 2, arrival=2).grant(30, "a", 1, arrival=1, at_us=15)
    )
    assert story.laws() == {"slots"}


def test_a_lease_counts_until_its_clients_own_deadline() -> None:
    assert Story().hold(10, "a", 1, deadline=19).hold(20, "b", 2).laws() == set()
    assert Story().hold(10, "a", 1, deadline=30).hold(20, "b", 2).laws() == {"slots"}
    renewed = Story().hold(10, "a", 1, deadline=19)
    renewed.add(h.RenewSent(when_us=14, lease="a"), h.Renewed(when_us=15, lease="a", token=1, deadline_us=40))
    assert renewed.hold(20, "b", 2).laws() == {"slots"}


def test_a_renewal_that_came_after_the_deadline_brings_nothing_back() -> None:
    story = Story().hold(10, "a", 1, deadline=12)
    story.add(h.RenewSent(when_us=11, lease="a"), h.Renewed(when_us=15, lease="a", token=1, deadline_us=40))
    assert story.hold(20, "b", 2).laws() == set()


@pytest.mark.parametrize(
    "event",
    [
        h.Killed(when_us=15, client="a"),
        h.RevokeCalled(when_us=15, lease="a"),
        h.LossNoticed(when_us=15, client="a", lease="a", why="revoked"),
    ],
)
def test_who_is_dead_or_knows_its_loss_holds_nothing(event: h.AnyEvent) -> None:
    story = Story().hold(10, "a", 1).add(event).hold(20, "b", 2)
    assert story.laws() <= {"renewal"}


def test_a_stopped_process_still_holds() -> None:
    story = Story().hold(10, "a", 1).add(h.Stopped(when_us=15, client="a")).hold(20, "b", 2)
    assert story.laws() == {"slots"}


def test_lowering_evicts_nobody_but_lets_nobody_in() -> None:
    lowered = Story(limit=2).hold(10, "a", 1).hold(20, "b", 2).change(30, 31, "update", limit=1)
    assert lowered.laws() == set()
    assert lowered.release(40, "a").hold(50, "c", 3).laws() == {"slots"}


def test_while_a_change_is_under_way_either_may_be_in_force() -> None:
    assert Story().hold(10, "a", 1).change(15, 30, "update", limit=2).hold(20, "b", 2).laws() == set()
    assert Story().hold(10, "a", 1).change(15, None, "update", limit=2).hold(20, "b", 2).laws() == set()
    refused = Story().hold(10, "a", 1).change(15, 30, "update", limit=2, done=False).hold(20, "b", 2)
    assert refused.laws() == {"slots"}


def test_an_inactive_limit_holds_nobody_back_and_nobody_on_it() -> None:
    inactive = Story().change(5, 6, "update", active=False).hold(10, "a", 1).hold(20, "b", 2)
    assert inactive.laws() == set()
    assert inactive.change(30, 31, "update", active=True).hold(40, "c", 3).laws() == set()
    assert inactive.hold(50, "d", 4).laws() == {"slots"}


def test_a_renamed_limit_keeps_its_leases() -> None:
    story = Story().hold(10, "a", 1).change(12, 13, "update", new_name="pg")
    assert story.ask(20, "b", {"pg": 1}).grant(21, "b", 2).laws() == {"slots"}


def test_a_deleted_limit_holds_nobody() -> None:
    story = Story().hold(10, "a", 1).change(12, 13, "delete")
    story.change(14, 15, "create", which="new", name="db", limit=1)
    assert story.hold(20, "b", 2).laws() == set()
    assert story.hold(30, "c", 3).laws() == {"slots"}


def spends(decay: float, *at: int) -> Story:
    story = Story(limit=2, decay=decay)
    for place, instant in enumerate(at, start=1):
        story.ask(instant, f"s{place}", kind="spend").grant(instant, f"s{place}", place, deadline=-1)
    return story


def test_a_rate_is_not_exceeded_in_any_window() -> None:
    assert spends(1.0, S, S, 2 * S, 3 * S).laws() == set()
    assert spends(1.0, S, S, 2 * S - 100_000).laws() == set()  # the credit
    assert spends(1.0, S, S, 2 * S - 150_000).laws() == {"rate"}
    assert spends(1.0, S, S, 2 * S - 60_000, 3 * S - 120_000).laws() == {"rate"}  # it does not add up


def test_what_is_held_of_a_rate_cannot_be_spent() -> None:
    story = Story(limit=2, decay=1.0).hold(10, "a", 1)
    story.ask(20, "s", kind="spend").grant(21, "s", 2, deadline=-1)
    assert story.laws() == set()
    assert story.ask(30, "t", kind="spend").grant(31, "t", 3, deadline=-1).laws() == {"slots"}


def test_a_faster_rate_counts_only_once_it_may_be_in_force() -> None:
    assert spends(1.0, S, S, 2 * S - 500_000).laws() == {"rate"}
    story = spends(1.0, S, S, 2 * S - 500_000)
    assert story.change(S - 10, S - 5, "update", decay=2.0).laws() == set()


def test_a_grant_after_giving_up_is_given_back() -> None:
    story = Story().ask(10, "a").add(h.NotGranted(when_us=15, lease="a", why="timeout"))
    assert story.grant(20, "a", 1).laws() == {"returned"}
    assert story.release(21, "a").laws() == set()


def test_nobody_is_listed_long_after_giving_up() -> None:
    story = Story().hold(10, "a", 1).release(20, "a")
    story.add(h.Listed(when_us=100 * S, held={"a": {"db": 1}}))
    assert story.laws() == set()
    assert story.add(h.Listed(when_us=1000 * S, held={"a": {"db": 1}})).laws() == {"returned"}


def test_who_came_first_is_let_in_first() -> None:
    story = Story(limit=9).ask(10, "a").ask(11, "b")
    assert story.grant(20, "b", 1, arrival=2).grant(21, "a", 2, arrival=1).laws() == {"order"}


@pytest.mark.parametrize(("first", "second", "laws"), [(0, 1, set()), (1, 0, {"order"}), (1, 1, {"order"})])
def test_only_higher_priority_goes_first(first: int, second: int, laws: set[str]) -> None:
    story = Story(limit=9).ask(10, "a", priority=first).ask(11, "b", priority=second)
    assert story.grant(20, "b", 1, arrival=2).grant(21, "a", 2, arrival=1).laws() == laws


def test_only_a_waiter_for_several_limits_may_be_stepped_over() -> None:
    def story(first: dict[str, int], second: dict[str, int]) -> Story:
        story = Story(limit=9).change(0, 0, "create", which="api", name="api", limit=9)
        story.ask(10, "a", first).ask(11, "b", second)
        return story.grant(20, "b", 1, arrival=2).grant(21, "a", 2, arrival=1)

    both = {"db": 1, "api": 1}
    assert story(both, {"db": 1}).laws() == set()
    assert story(both, both).laws() == {"order"}
    assert story({"db": 1}, both).laws() == {"order"}
    assert story({"db": 1}, {"api": 1}).laws() == set()


def test_who_was_answered_before_another_asked_has_the_lower_number() -> None:
    story = Story(limit=9).ask(10, "a").add(h.Queued(when_us=11, lease="a", arrival=5)).ask(12, "b")
    assert story.grant(20, "b", 9, arrival=6).laws() == set()
    story = Story(limit=9).ask(10, "a").add(h.Queued(when_us=11, lease="a", arrival=5)).ask(12, "b")
    assert story.grant(20, "b", 9, arrival=4).laws() == {"arrival"}


def test_no_number_is_given_twice() -> None:
    story = Story(limit=9).ask(10, "a").ask(11, "b").grant(20, "a", 1, arrival=7).grant(21, "b", 2, arrival=7)
    assert story.laws() == {"arrival"}


def test_nobody_waits_beyond_the_bound() -> None:
    story = Story(starved_us=100 * S).hold(10, "a", 1).ask(20, "b").release(50 * S, "a")
    assert story.grant(99 * S, "b", 2).laws() == set()
    story = Story(starved_us=100 * S).hold(10, "a", 1).ask(20, "b").release(50 * S, "a")
    assert story.grant(120 * S, "b", 2).laws() == {"starved"}


@pytest.mark.parametrize("reason", ["closed", "urgent", "long", "trouble"])
def test_who_is_kept_out_by_something_else_than_its_turn_is_not_starved(reason: str) -> None:
    story = Story(starved_us=100 * S, limit=9).ask(20, "b")
    if reason == "closed":
        story.change(30, 31, "update", limit=0).change(110 * S, 110 * S, "update", limit=9)
    elif reason == "urgent":
        story.ask(30, "u", priority=1).grant(31, "u", 1, arrival=9)
    elif reason == "long":
        story.ask(1, "l").grant(2, "l", 1).release(400 * S, "l")
    else:
        story.add(h.TroubleBegan(when_us=30, client="b", what="cut off"))
    assert story.grant(120 * S, "b", 2, arrival=2).laws() == set()


def test_who_is_let_in_hears_of_it_soon() -> None:
    def story(at_us: int) -> Story:
        story = Story(limit=9).ask(10, "a").grant(20, "a", 1, at_us=20).ask(30, "b")
        return story.grant(60 * S, "b", 2, at_us=at_us)

    assert story(59 * S).laws() == set()
    assert story(20 * S).laws() == {"told"}
    assert story(20 * S).add(h.Stopped(when_us=21 * S, client="b")).laws() == set()
    assert story(20 * S).add(h.ClockStepped(when_us=21 * S, by_us=-40 * S)).laws() == set()


def test_nobody_is_taken_out_of_the_queue_who_is_there() -> None:
    story = Story().ask(10, "a").add(h.NotGranted(when_us=15, client="a", lease="a", why="removed"))
    assert story.laws() == {"removed"}
    assert story.add(h.RevokeCalled(when_us=12, lease="a")).laws() == set()


def test_the_store_ends_no_lease_before_its_clients_deadline() -> None:
    story = Story().hold(10, "a", 1, deadline=50)
    story.add(h.LossNoticed(when_us=40, client="a", lease="a", why="expired"))
    assert story.laws() == {"renewal"}
    story.add(h.RevokeCalled(when_us=39, lease="a"))
    assert story.laws() == set()


def test_who_can_renew_does() -> None:
    story = Story().hold(10, "a", 1, deadline=50)
    story.add(h.LossNoticed(when_us=50, client="a", lease="a", why="deadline"))
    assert story.laws() == {"renewal"}
    assert story.add(h.Stopped(when_us=30, client="a"), h.Continued(when_us=60, client="a")).laws() == set()


def test_no_token_is_given_twice() -> None:
    assert Story(limit=9).ask(10, "a").ask(11, "b").grant(20, "a", 5, arrival=1).grant(
        21, "b", 5, arrival=2, at_us=20
    ).laws() == {"token"}


def test_tokens_rise_in_the_order_of_grants() -> None:
    story = Story(limit=9).ask(10, "a").grant(20, "a", 5, arrival=1).ask(21, "b")
    assert "token" in story.grant(30, "b", 4, arrival=2).laws()
    story = Story(limit=9).ask(10, "a").ask(11, "b").grant(20, "a", 1, arrival=1, at_us=20)
    assert story.grant(21, "b", 2, arrival=2, at_us=19).laws() == {"token"}


def test_nothing_is_left_in_the_end() -> None:
    story = Story().hold(10, "a", 1).release(20, "a")
    assert story.add(h.Listed(when_us=30, held={}, final=True)).laws() == set()
    assert story.add(h.Listed(when_us=31, held={"a": {"db": 1}}, final=True)).laws() == {"zero"}
    assert Story().ask(10, "b").add(h.Listed(when_us=30, held={}, waiting=("b",), final=True)).laws() == {
        "zero"
    }


def test_what_a_store_lost_is_not_held_against_what_it_granted_later() -> None:
    story = Story().hold(10, "a", 1).add(h.StoreLost(when_us=15)).hold(20, "b", 2)
    assert story.laws() == set()
    assert story.hold(30, "c", 3).laws() == {"slots"}


def test_what_the_store_was_seen_to_know_after_its_loss_counts() -> None:
    story = Story().hold(10, "a", 1).add(h.StoreLost(when_us=15))
    story.add(
        h.RenewSent(when_us=16, lease="a"), h.Renewed(when_us=17, lease="a", token=1, deadline_us=99 * S)
    )
    assert story.hold(20, "b", 2).laws() == {"slots"}


def test_a_history_that_contradicts_itself_is_not_judged() -> None:
    with pytest.raises(ValueError, match="not in order"):
        check([h.Killed(when_us=5, client="a"), h.Killed(when_us=4, client="a")])
    with pytest.raises(ValueError, match="nobody asked"):
        check([h.ReleaseCalled(when_us=5, lease="a")])
    with pytest.raises(ValueError, match="twice"):
        Story().ask(1, "a").ask(2, "a").laws()


def test_a_history_survives_being_written_even_where_its_writer_was_killed(tmp_path: Path) -> None:
    story = Story().hold(10, "a", 1)
    path = tmp_path / "a.jsonl"
    recorder = h.Recorder(path, lambda: 0)
    for event in story.events:
        recorder.write(event)
    recorder.close()
    with path.open("ab") as file:
        file.write(h.line(h.Killed(when_us=99, client="a"))[:-5])
    assert h.read(path) == story.events
    assert h.merged([story.events[3:], story.events[:3]]) == sorted(
        story.events, key=lambda event: event.when_us
    )
