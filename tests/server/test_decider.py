"""The one who decides, when its store does not do what it is told."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebbgate.core.commands import Outcome
from ebbgate.errors import EbbgateError, StoreUnavailable
from ebbgate.stores import codec
from ebbgate.wire.questions import ReadLimit
from ebbgate.wire.stream import DoneItem, EndedItem, FailedItem, HeldItem, WaitingItem
from tests.server.conftest import Serve, Talk
from tests.server.streaming import Core, StreamServer, wait_until


class Faulty:
    """A store that fails when it is told to: before a commit, or after it, so that its answer is lost."""

    def __init__(self, store: Any) -> None:  # noqa: ANN401 - whatever the decider has
        """Pass everything on."""
        self._store = store
        self.fails: set[str] = set()
        self.commits = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - every method of a store
        """Return a method of the store, or one that fails."""
        method = getattr(self._store, name)
        if name not in {"commit", "find", "changes_since", "load"}:
            return method

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
            if name in self.fails:
                raise StoreUnavailable(f"the disk is gone ({name})")
            done = method(*arguments, **named)
            if name == "commit" and "answer" in self.fails:
                raise StoreUnavailable("the answer is lost")
            return done

        return call


def break_store(server: StreamServer, *fails: str) -> None:
    """Have these methods fail; none: all is well again."""

    def work(core: Core) -> None:
        if not isinstance(core.decider.store, Faulty):
            core.decider.store = Faulty(core.decider.store)
        core.decider.store.fails = set(fails)

    server.within(work)


def is_ready(server: StreamServer) -> bool:
    """Tell whether the server says that it can grant."""
    return server.within(lambda core: core.decider.why_not_ready) is None


def test_while_the_store_fails_nothing_is_granted_and_then_it_goes_on_by_itself(
    serve: Serve, talk: Talk
) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1)
    break_store(server, "commit", "find")
    failed = talker.acquire()
    assert isinstance(failed, FailedItem)
    assert (failed.code, failed.transient) == ("store_unavailable", True)
    assert not is_ready(server)
    asked = talker.question(ReadLimit("db"))
    assert isinstance(asked, FailedItem)
    assert isinstance(talk(server.port).ask(talker.hello_item("t", 1))[0], FailedItem)
    break_store(server)
    wait_until(lambda: is_ready(server))
    assert isinstance(talker.acquire(), HeldItem)


@pytest.mark.parametrize("name", ["x.db", "x.db-wal"])
def test_nothing_is_granted_into_a_file_that_was_removed_or_replaced(
    serve: Serve, talk: Talk, store_url: str, name: str
) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 2)
    held = talker.held()
    file = Path(store_url.removeprefix("sqlite:///")).with_name(name)
    aside = file.with_name("aside")
    file.rename(aside)
    wait_until(lambda: not is_ready(server))
    shutil.copy(aside, file)  # what stands there now is another file
    failed = talker.acquire()
    assert isinstance(failed, FailedItem)
    assert (failed.code, failed.transient) == ("store_unavailable", True)
    assert "removed or replaced" in failed.message
    assert isinstance(talker.question(ReadLimit("db")), FailedItem)
    assert not is_ready(server)
    aside.rename(file)
    wait_until(lambda: is_ready(server))
    assert isinstance(talker.renew(held.id), HeldItem)
    assert isinstance(talker.acquire(), HeldItem)


def test_a_commit_whose_answer_is_lost_is_found_again_and_granted_once(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1)
    break_store(server, "answer")
    held = talker.held()  # `find` tells that it took place
    break_store(server)
    assert isinstance(talker.acquire(), WaitingItem)
    assert talker.held(lease_id=held.id).token == held.token


def test_when_nobody_can_tell_what_became_of_a_commit_it_is_settled_later(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1)
    item = talker.acquire_item()
    break_store(server, "answer", "find")
    assert isinstance(talker.ask(item)[0], FailedItem)
    break_store(server)
    pushed = talker.push(HeldItem)  # nobody had to ask again
    assert pushed.id == item.id
    again = talker.ask(item)[0]
    assert isinstance(again, HeldItem)
    assert again.token == pushed.token
    assert isinstance(talker.acquire(), WaitingItem)


def test_a_question_never_sees_what_may_not_have_been_committed(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1)
    item = talker.acquire_item()
    break_store(server, "commit", "find")
    assert isinstance(talker.ask(item)[0], FailedItem)
    break_store(server)
    wait_until(lambda: is_ready(server))
    assert server.within(lambda core: core.decider.engine.is_settled)
    assert server.within(lambda core: core.decider.book.names["db"].held) == 0
    assert isinstance(talker.ask(item)[0], HeldItem)


def test_that_a_client_is_away_is_said_until_the_store_takes_it(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=0.05)
    goer, other = talk(server.port, "goer"), talk(server.port, "other")
    goer.limit("db", 1)
    goer.held()
    assert isinstance(other.acquire(), WaitingItem)
    break_store(server, "commit", "find", "changes_since")
    goer.vanish()
    wait_until(lambda: not is_ready(server))
    break_store(server)
    other.push(HeldItem)


def test_a_command_that_cannot_be_written_is_refused_alone(
    serve: Serve, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 10)
    poisonous = talker.acquire_item(lease_id="poison")
    innocent = [talker.acquire_item() for _ in range(3)]

    def poison(core: Core) -> None:
        def encode(changes: Any) -> Any:  # noqa: ANN401 - as the real one
            if any(stored.id == "poison" for stored in changes):
                raise OverflowError("no JSON has this")
            return codec.encode(changes)

        monkeypatch.setattr("ebbgate.engine.engine.encode", encode)

    server.within(poison)
    answers = talker.ask(innocent[0], poisonous, *innocent[1:])
    assert [type(answer).__name__ for answer in answers] == [
        "HeldItem",
        "RefusedItem",
        "HeldItem",
        "HeldItem",
    ]
    assert isinstance(talker.acquire(), HeldItem)


def test_a_defect_of_a_decision_is_not_the_end_of_the_server(
    serve: Serve, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1)
    held = talker.held()

    def work(core: Core) -> None:
        commit: Callable[..., Any] = core.decider.store.commit
        left = [1]

        def broken(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the real one
            if left.pop() if left else 0:
                raise ZeroDivisionError
            return commit(*arguments, **named)

        monkeypatch.setattr(core.decider.store, "commit", broken)

    server.within(work)
    talker.send(talker.acquire_item())
    assert talker.closes().code == 1012  # everything is loaded anew, and everybody connects anew
    assert any(isinstance(item, FailedItem) and item.transient for item in talker.pushed)
    wait_until(lambda: is_ready(server))
    back = talk(server.port, "s", 2)
    assert isinstance(back.greeting, DoneItem)
    assert back.held(lease_id=held.id).token == held.token


def test_an_answer_that_cannot_be_passed_on_keeps_nobody_else_from_his(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1)

    def submit(core: Core) -> None:
        def fail(_: object) -> None:
            raise ZeroDivisionError

        core.decider.submit((), fail)

    server.within(submit)
    assert isinstance(talker.acquire(), HeldItem)


def test_who_asks_a_server_that_has_stopped_is_told(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1)
    server.stop()
    answers: list[object] = []

    def answered(outcome: "list[Outcome] | EbbgateError") -> None:
        answers.append(outcome)

    server.core.decider.submit((), answered)  # type: ignore[arg-type]
    assert isinstance(answers[0], StoreUnavailable)


def test_an_idle_server_does_next_to_nothing(serve: Serve, talk: Talk) -> None:
    server = serve(recovery_grace_seconds=0.05)
    talker = talk(server.port, "s")
    talker.limit("db", 1)
    held = talker.held()
    assert isinstance(talker.acquire(), WaitingItem)
    turns = server.within(lambda core: core.decider.turn)
    with pytest.raises(TimeoutError):
        talker.receive(1.0)
    assert server.within(lambda core: core.decider.turn) - turns <= 6
    assert isinstance(talker.release(held.id), EndedItem)
