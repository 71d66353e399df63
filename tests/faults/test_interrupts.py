"""A signal handler raises in the middle of a call to the store (Ctrl-C in a notebook): the process goes on.

Known limit: where Python raises between two steps of taking or leaving a lock, nothing can help that process.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ebbgate import Client
from ebbgate.core.commands import Acquire, Held, Release
from ebbgate.core.model import SECOND
from ebbgate.wire.ids import new_id
from tests.embedded import embedded
from tests.interface.helpers import wait_until
from tests.interrupting import interrupted


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with Client(f"sqlite:///{folder}/store/limits.db") as client:
        client.create_limit("db", 1)
        yield client


def interrupted_once(client: Client, method: str, *, before: bool) -> Callable[[], bool]:
    """Have the next call of a method of the store interrupted; return what tells whether it was."""
    store: Any = embedded(client).store
    real = getattr(store, method)
    done: list[bool] = []

    def interrupted(*arguments: object, **named: object) -> object:
        if done:
            return real(*arguments, **named)
        done.append(True)
        if not before:
            real(*arguments, **named)
        raise KeyboardInterrupt

    setattr(store, method, interrupted)
    return lambda: bool(done)


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_commit_leaves_nothing_taken_and_the_gate_well(client: Client, before: bool) -> None:
    with client.concurrency("db") as first:
        pass
    happened = interrupted_once(client, "commit", before=before)
    with pytest.raises(KeyboardInterrupt):
        client.concurrency("db").__enter__()
    assert happened()
    assert client.read_limit("db").held_slots == 0
    with client.concurrency("db", timeout_seconds=1) as second:
        assert second.fencing_token > first.fencing_token


def test_an_interrupted_look_at_what_others_did_leaves_the_gate_well(client: Client) -> None:
    block = client.concurrency("db")
    block.__enter__()
    happened = interrupted_once(client, "changes_since", before=False)
    store: Any = embedded(client).store
    store.moved = lambda _version: True
    with pytest.raises(KeyboardInterrupt):
        client.read_limit("db")
    del store.moved
    assert happened()
    block.__exit__(None, None, None)
    assert client.read_limit("db").held_slots == 0


def test_whoever_was_taken_along_by_an_interrupted_thread_asks_again(client: Client) -> None:
    store: Any = embedded(client).store
    real = store.commit
    committing, go_on = threading.Event(), threading.Event()

    def slow(*arguments: object, **named: object) -> object:
        committing.set()
        go_on.wait(10)
        return real(*arguments, **named)

    got_in: list[int] = []

    def enter() -> None:
        with client.concurrency("db", timeout_seconds=5) as lease:
            got_in.append(lease.fencing_token)

    store.commit = slow
    threads = [threading.Thread(target=enter) for _ in range(3)]
    threads[0].start()
    assert committing.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(embedded(client)._jobs) == 2)
    store.commit = real
    interrupted_once(client, "commit", before=True)
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        go_on.set()
        for thread in threads:
            thread.join(10)
    finally:
        threading.excepthook = hook
    assert len(got_in) >= 2, "at most one was kept out: the interrupted one, unless it was leaving already"
    wait_until(lambda: client.read_limit("db").held_slots == 0)


def test_a_thread_that_waits_gets_in_wherever_the_release_of_another_is_interrupted(client: Client) -> None:
    gate = embedded(client)

    def enter() -> None:
        with client.concurrency("db", timeout_seconds=10) as lease:
            tokens.append(lease.fencing_token)

    for line in itertools.count(0, 47):
        held, tokens = Acquire(new_id(), gate.session, 1, (("db", 1),), 60 * SECOND), list[int]()
        release = Release(held.id, held.session, held.epoch)
        assert isinstance(gate.call([held])[0], Held)
        waits = threading.Thread(target=enter)
        waits.start()
        wait_until(lambda: client.read_limit("db").waiting == 1)
        happened = interrupted(
            line,
            lambda: gate.call([release]),  # noqa: B023 - at once
            "core", "engine", "client/embedded/plan.py",
        )  # fmt: skip
        gate.call([release])
        waits.join(5)
        assert tokens, f"interrupted at line {line}"
        if not happened:
            break
