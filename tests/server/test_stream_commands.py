"""What the commands of a stream do, and who may give them: real sockets, a real file."""

import sqlite3
import uuid

import msgspec

from ebbgate.wire.questions import ListLeases, ReadLimit
from ebbgate.wire.shapes import LeaseInfo, LimitInfo
from ebbgate.wire.stream import (
    AnswerItem,
    ByeItem,
    DoneItem,
    EndedItem,
    FailedItem,
    HeldItem,
    HelloItem,
    PutItem,
    RefusedItem,
    ReleaseItem,
    RenewItem,
    WaitingItem,
)
from tests.server.conftest import Launch, Serve, Talk
from tests.server.streaming import LEASE_US, Talker, wait_until


def committed_leases(url: str) -> dict[str, str]:
    """Return the states of the leases in the file, read by nobody's leave."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        rows = connection.execute("SELECT body FROM record WHERE kind = 'lease'").fetchall()
    finally:
        connection.close()
    return {lease["id"]: lease["state"] for lease in (msgspec.json.decode(body) for (body,) in rows)}


def test_a_slot_goes_to_one_and_then_to_those_who_wait_in_the_order_of_asking(
    serve: Serve, talk: Talk
) -> None:
    server = serve()
    first = talk(server.port, "first")
    first.limit("db", 1)
    held = first.held()
    waiters = [talk(server.port, f"waiter-{number}") for number in range(4)]
    leases = []
    for waiter in waiters:
        item = waiter.acquire()
        assert isinstance(item, WaitingItem)
        leases.append(item.id)
    assert isinstance(first.release(held.id), EndedItem)
    token = held.token
    for waiter, lease in zip(waiters, leases, strict=True):
        pushed = waiter.push(HeldItem)
        assert (pushed.number, pushed.id) == (0, lease)
        assert pushed.token > token
        token = pushed.token
        waiter.release(lease)


def test_a_grant_is_answered_only_when_it_is_in_the_file(launch: Launch, talk: Talk, store_url: str) -> None:
    talker = talk(launch().port, "s")
    talker.limit("db", 10)
    for _ in range(10):
        lease = talker.held().id
        assert committed_leases(store_url)[lease] == "held"


def test_what_stands_in_one_message_is_carried_out_in_its_order(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    put = PutItem(talker.next(), "r", "create", "db", "", None, 1)
    one, two = talker.acquire_item(), talker.acquire_item(wait=False)
    give_back = ReleaseItem(talker.next(), one.id, "s")
    three = talker.acquire_item(wait=False)
    answers = talker.ask(put, one, two, give_back, three)
    assert [type(answer) for answer in answers] == [DoneItem, HeldItem, RefusedItem, EndedItem, HeldItem]


def test_a_question_sees_what_was_said_before_it_in_the_same_message(serve: Serve, talk: Talk) -> None:
    from ebbgate.wire.stream import AskItem

    talker = talk(serve().port, "s")
    put = PutItem(talker.next(), "r", "create", "db", "", None, 3)
    acquire, question = talker.acquire_item(), AskItem(talker.next(), ReadLimit("db"))
    answer = talker.ask(put, acquire, question)[2]
    assert isinstance(answer, AnswerItem)
    info = msgspec.json.decode(answer.body, type=LimitInfo)
    assert (info.limit, info.active_slots) == (3, 1)


def test_a_bye_comes_after_what_was_said_before_it(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit()
    acquire, bye = talker.acquire_item(), ByeItem(talker.next(), "s")
    answers = talker.ask(acquire, bye)
    assert [type(answer) for answer in answers] == [HeldItem, DoneItem]
    assert isinstance(talk(server.port, "other").acquire(wait=False), HeldItem)


def test_an_acquisition_asked_twice_is_one(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    talker.limit("db", 1)
    held = talker.held()
    again = talker.held(lease_id=held.id)
    assert (again.id, again.token, again.arrival) == (held.id, held.token, held.arrival)


def test_a_spend_asked_twice_takes_one_slot(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    talker.limit("api", 1, slot_decay_per_second=1e-6)
    spent = talker.held("api", spend=True)
    assert talker.held("api", spent.id, spend=True).token == spent.token
    assert isinstance(talker.acquire("api", spend=True, wait=False), RefusedItem)


def test_more_than_one_turn_of_commands_is_answered_whole_and_in_order(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    talker.limit("db", 4000)
    items = [talker.acquire_item() for _ in range(4000)]
    answers = talker.ask(*items)
    assert [answer.id for answer in answers if isinstance(answer, HeldItem)] == [item.id for item in items]
    arrivals = [answer.arrival for answer in answers if isinstance(answer, HeldItem)]
    assert arrivals == sorted(arrivals)


def test_a_loss_is_told_to_the_renewer_and_to_who_holds(serve: Serve, talk: Talk) -> None:
    server = serve()
    holder = talk(server.port, "s")
    renewer = talk(server.port, "s", role="renewer")
    holder.limit()
    lease = holder.held().id
    operator = talk(server.port, "operator")
    assert isinstance(operator.revoke(lease), EndedItem)
    for line in (holder, renewer):
        lost = line.push(EndedItem)
        assert (lost.number, lost.id, lost.why) == (0, lease, "revoked")


def test_a_grant_is_told_to_who_waits_and_not_to_the_renewer(serve: Serve, talk: Talk) -> None:
    server = serve()
    holder, waiter = talk(server.port, "holder"), talk(server.port, "s")
    renewer = talk(server.port, "s", role="renewer")
    holder.limit()
    held = holder.held()
    assert isinstance(waiter.acquire(), WaitingItem)
    holder.release(held.id)
    lease = waiter.push(HeldItem).id
    assert isinstance(renewer.renew(lease), HeldItem)  # whatever was pushed before has arrived by now
    assert renewer.pushed == []


def test_a_renewer_renews_for_several_sessions_over_one_connection(serve: Serve, talk: Talk) -> None:
    server = serve()
    holders = [talk(server.port, f"s{number}") for number in range(3)]
    holders[0].limit("db", 3)
    leases = [holder.held(duration_us=LEASE_US) for holder in holders]
    renewer = talk(server.port)
    for number in range(3):
        assert isinstance(renewer.hello(f"s{number}", 1, role="renewer"), DoneItem)
    renewals = [
        RenewItem(renewer.next(), lease.id, holder.session, 2 * LEASE_US)
        for lease, holder in zip(leases, holders, strict=True)
    ]
    for lease, answer in zip(leases, renewer.ask(*renewals), strict=True):
        assert isinstance(answer, HeldItem)
        assert answer.expires_us > lease.expires_us
        assert answer.token == lease.token


def test_a_renewers_connection_acquires_nothing(serve: Serve, talk: Talk) -> None:
    renewer = talk(serve().port, "s", role="renewer")
    refused = renewer.acquire()
    assert isinstance(refused, FailedItem)
    assert (refused.code, refused.transient) == ("invalid_request", False)


def test_a_renewers_greeting_leaves_the_holder_as_he_said_he_is(serve: Serve, talk: Talk) -> None:
    server = serve()
    talk(server.port, "s")
    renewer = talk(server.port)
    assert isinstance(renewer.ask(HelloItem(renewer.next(), 1, "s", 1, "renewer"))[0], DoneItem)
    session = server.within(lambda core: core.decider.book.sessions["s"])
    assert (session.host, session.pid, session.labels) == ("here", 4711, {"of": "a test"})


def test_with_its_bye_a_session_gives_back_what_it_holds_and_leaves_the_queue(
    serve: Serve, talk: Talk
) -> None:
    server = serve()
    leaver, other, third = talk(server.port, "leaver"), talk(server.port, "other"), talk(server.port, "third")
    leaver.limit()
    leaver.limit("full", 1)
    other.held("full")
    leaver.held()
    leaver.acquire("full")
    other.acquire()
    third.acquire("full")
    assert isinstance(leaver.bye(), DoneItem)
    other.push(HeldItem)
    assert server.within(lambda core: "leaver" not in core.decider.book.sessions)
    assert server.within(lambda core: core.decider.book.names["full"].waiting) == 1


def test_after_its_bye_a_connection_says_nothing_more(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    talker.bye()
    talker.send(talker.acquire_item())
    assert talker.closes().code == 4401


def test_limits_are_made_changed_shown_and_deleted_over_the_stream(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    made = talker.limit("db", 2, description="the database")
    assert isinstance(made, DoneItem)
    assert made.created
    changed = talker.ask(PutItem(talker.next(), "r2", "update", "db", "", "base", 5))[0]
    assert isinstance(changed, DoneItem)
    assert (changed.id, changed.created) == (made.id, False)
    shown = talker.question(ReadLimit("base"))
    assert isinstance(shown, AnswerItem)
    assert msgspec.json.decode(shown.body, type=LimitInfo).limit == 5
    talker.held("base")
    leases = talker.question(ListLeases("base"))
    assert isinstance(leases, AnswerItem)
    assert len(msgspec.json.decode(leases.body, type=list[LeaseInfo])) == 1
    refused = talker.delete("base")
    assert isinstance(refused, RefusedItem)
    assert refused.code == "limit_in_use"
    assert isinstance(talker.delete("base", force=True), DoneItem)
    missing = talker.question(ReadLimit("base"))
    assert isinstance(missing, RefusedItem)
    assert missing.code == "limit_not_found"


def test_a_create_sent_twice_creates_once(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    request, limit = str(uuid.uuid4()), str(uuid.uuid4())
    for _ in range(2):
        answer = talker.ask(PutItem(talker.next(), request, "create", "db", limit, None, 1))[0]
        assert isinstance(answer, DoneItem)
        assert answer.id == limit


def test_no_limit_is_made_under_the_id_of_another(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    made = talker.limit("db", 1)
    assert isinstance(made, DoneItem)
    again = talker.ask(PutItem(talker.next(), "other", "create", "api", made.id, None, 1))[0]
    assert isinstance(again, FailedItem)
    assert again.code == "invalid_request"
    bad = talker.ask(PutItem(talker.next(), "third", "create", "api", "no uuid", None, 1))[0]
    assert isinstance(bad, FailedItem)


# --- sessions and their epochs


def test_who_comes_back_with_a_higher_epoch_sends_everything_again_and_keeps_everything(
    serve: Serve, talk: Talk
) -> None:
    server = serve()
    other = talk(server.port, "other")
    other.limit("db", 2)
    taken = other.held()
    old = talk(server.port, "s")
    held, waiting = old.held(), old.acquire_item()
    assert isinstance(old.ask(waiting)[0], WaitingItem)
    new = talk(server.port, "s", 2)
    assert old.closes().code == 4409
    again = new.held(lease_id=held.id)
    assert again.token == held.token
    still = new.acquire(lease_id=waiting.id)
    assert isinstance(still, WaitingItem)
    assert still.arrival == held.arrival + 1
    other.release(taken.id)
    assert new.push(HeldItem).id == waiting.id


def test_what_an_older_connection_says_behind_a_newer_one_is_not_carried_out(
    serve: Serve, talk: Talk
) -> None:
    server = serve()
    old = talk(server.port, "s")
    old.limit()
    held = old.held()
    new = talk(server.port, "s", 2)
    old.send(ReleaseItem(99, held.id, "s"))
    closed = old.closes()
    assert closed.code == 4409
    assert not any(isinstance(item, EndedItem) for item in old.pushed)
    assert isinstance(new.renew(held.id), HeldItem)


def test_behind_a_greeting_with_an_older_epoch_nothing_is_carried_out(serve: Serve, talk: Talk) -> None:
    server = serve()
    new = talk(server.port, "s", 5)
    new.limit()
    held = new.held()
    old = talk(server.port)
    old.send(old.hello_item("s", 4), ReleaseItem(old.next(), held.id, "s"), old.acquire_item())
    closed = old.closes()
    assert closed.code == 4401
    refused = old.pushed.pop()
    assert isinstance(refused, RefusedItem)
    assert refused.code == "stale_session"
    assert old.pushed == []
    assert isinstance(new.renew(held.id), HeldItem)


def test_a_session_belongs_to_the_key_it_came_with(serve: Serve, talk: Talk) -> None:
    server = serve()
    owner = talk(server.port, "s", key="one")
    owner.limit()
    held = owner.held()
    thief = talk(server.port, key="two")
    thief.send(thief.hello_item("s", 9), ReleaseItem(thief.next(), held.id, "s"))
    assert thief.closes().code == 4401
    refused = thief.pushed.pop()
    assert isinstance(refused, RefusedItem)
    assert refused.code == "not_authorized"
    assert isinstance(owner.renew(held.id), HeldItem)
    again = talk(server.port, "s", 2, key="one")
    assert isinstance(again.greeting, DoneItem)


def test_nobody_renews_or_releases_the_lease_of_another_session(serve: Serve, talk: Talk) -> None:
    server = serve()
    owner, thief = talk(server.port, "owner"), talk(server.port, "thief")
    owner.limit()
    held = owner.held()
    for answer in (thief.release(held.id), thief.renew(held.id)):
        assert isinstance(answer, RefusedItem)
        assert answer.code == "not_authorized"
    for answer in (thief.release(held.id, "owner"), thief.renew(held.id, "owner")):
        assert isinstance(answer, FailedItem)
        assert answer.code == "invalid_request"
    assert isinstance(owner.renew(held.id), HeldItem)


def test_a_stream_never_speaks_for_those_who_come_over_rest(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port)
    for session in ("rest", "rest-ci"):
        refused = talker.ask(talker.hello_item(session, 1))[0]
        assert isinstance(refused, FailedItem)
        assert refused.code == "invalid_request"


def test_a_connection_greets_once_for_itself(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    second = talker.ask(talker.hello_item("s", 2))[0]
    assert isinstance(second, FailedItem)
    talker.limit()
    assert isinstance(talker.acquire(), HeldItem)


def test_the_renewer_that_greets_while_the_other_connection_breaks_keeps_the_session(
    serve: Serve, talk: Talk
) -> None:
    server = serve(away_grace_seconds=0.05)
    main = talk(server.port, "s")
    main.limit()
    held = main.held()
    for epoch in range(1, 12):
        renewer = talk(server.port)
        renewer.send(renewer.hello_item("s", epoch, role="renewer"))
        main.vanish()
        renewer.answers(renewer.number)
        assert isinstance(renewer.renew(held.id, "s"), HeldItem)
        wait_until(lambda: server.within(lambda core: core.decider.book.sessions["s"].away_us) < 0)
        main = talk(server.port, "s", epoch + 1)
        renewer.close()
    assert isinstance(main.renew(held.id), HeldItem)


def test_thousands_wait_over_one_connection_and_each_gets_in_in_turn(serve: Serve, talk: Talk) -> None:
    server = serve()
    holder = talk(server.port, "holder")
    holder.limit("db", 1)
    held = holder.held()
    waiter: Talker = talk(server.port, "waiter")
    items = [waiter.acquire_item() for _ in range(3000)]
    answers = waiter.ask(*items)
    assert all(isinstance(answer, WaitingItem) for answer in answers)
    holder.limit("db", 3001)
    for item in items:
        assert waiter.push(HeldItem).id == item.id
    holder.release(held.id)
