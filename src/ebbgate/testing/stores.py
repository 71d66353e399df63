"""What tests of stores are made of: rows that are easily told apart, and other threads and processes."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Protocol, TypeVar

from ebbgate.core.model import Head
from ebbgate.stores.base import Conflict, EmbeddedStore, Row, Snapshot, Store, Version

T = TypeVar("T")

PATIENCE_S: Final = 30.0
"""How long another thread or process may take before a test gives up on it."""

Rows = dict[tuple[str, str], bytes]


class Place(Protocol):
    """Where one namespace is kept during one test."""

    @property
    def kept(self) -> int:
        """How many commits `changes_since` knows at least; twice as many and 512 more it never knows."""

    def open(self) -> Store:
        """Open the namespace, as one more process would."""


class EmbeddedPlace(Place, Protocol):
    """The same for a store of this machine."""

    def open(self) -> EmbeddedStore:
        """Open the namespace, as one more process would."""


def tag() -> str:
    """Return what no commit was ever called."""
    return os.urandom(8).hex()


def row(record_id: str, value: object = None, *, kind: str = "lease") -> Row:
    """Return a row to keep, whose body holds `value`."""
    return Row(kind, record_id, json.dumps({"id": record_id, "value": value}).encode())


def gone(record_id: str, value: object = None, *, kind: str = "lease") -> Row:
    """Return a row's removal; unless `value` is None, with its last state."""
    return Row(kind, record_id, None if value is None else row(record_id, value).body, keep=False)


def head(number: int) -> Head:
    """Return a head that no other number has."""
    return Head(1_700_000_000_000_000 + number, number * 2, number * 3)


def applied(rows: Iterable[Row], to: Rows | None = None) -> Rows:
    """Return what is there once `rows` were written one after the other."""
    there = dict(to or {})
    for kind, record_id, body, keep in rows:
        if keep:
            assert body is not None
            there[kind, record_id] = body
        else:
            there.pop((kind, record_id), None)
    return there


def value_of(snapshot: Snapshot, record_id: str) -> int:
    """Return the number in the body of a lease, 0 if there is none."""
    body = applied(snapshot.rows).get(("lease", record_id))
    return int(json.loads(body)["value"]) if body else 0


@contextmanager
def refused(kind: type[Exception]) -> Iterator[None]:
    """Expect that the block raises `kind`."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected, nothing was raised")


def count_up(store: Store, record_id: str, times: int) -> list[Version]:
    """Add 1 to the number in a lease, `times` times, against everybody else; return the versions made."""
    made: list[Version] = []
    while len(made) < times:
        now = store.load()
        changed = row(record_id, value_of(now, record_id) + 1)
        with suppress(Conflict):
            made.append(store.commit(now.version, tag(), head(now.version.number + 1), [changed]))
    return made


def in_threads(count: int, work: Callable[[], T]) -> list[T]:
    """Do `work` in `count` threads at once; return what each returned."""
    done: list[T] = []
    raised: list[BaseException] = []

    def one() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - carried to the test, whatever it is
            raised.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    if raised:
        raise raised[0]
    assert len(done) == count, f"not done within {PATIENCE_S:g} s"
    return done


def in_processes(count: int, work: Callable[..., None], *arguments: object) -> list[Any]:
    """Call `work(first argument, answers, other arguments)` in `count` processes; return what each sent."""
    started = [process(work, *arguments) for _ in range(count)]
    entered = [one.__enter__() for one in started]
    try:
        return [_received(answers) for _child, answers in entered]
    finally:
        for one in started:
            one.__exit__(None, None, None)


def _received(answers: Connection) -> object:
    assert answers.poll(PATIENCE_S), f"no answer within {PATIENCE_S:g} s"
    return answers.recv()


@contextmanager
def process(
    work: Callable[..., None], place: object, *arguments: object
) -> Iterator[tuple[SpawnProcess, Connection]]:
    """Run `work(place, answers, *arguments)` in a fresh process; kill it at the end of the block."""
    spawn = multiprocessing.get_context("spawn")
    answers, there = spawn.Pipe(duplex=False)
    child = spawn.Process(target=work, args=(place, there, *arguments), daemon=True)
    child.start()
    there.close()
    try:
        yield child, answers
    finally:
        with suppress(AttributeError):
            child.kill()
        child.join(PATIENCE_S)
        child.close()
        answers.close()
