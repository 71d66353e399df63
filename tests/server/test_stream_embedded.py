"""Embedded processes on the file of a server: one limit is one limit, from whichever side."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import msgspec
import pytest

from ebbgate.core.model import SECOND
from ebbgate.wire.questions import ReadLimit
from ebbgate.wire.shapes import LimitInfo
from ebbgate.wire.stream import AnswerItem, HeldItem, RefusedItem, WaitingItem
from tests.server.conftest import Launch, Talk
from tests.server.streaming import ROOT, Talker, wait_until

EMBEDDED = """
import sys
from ebbgate.sync import concurrency
for line in sys.stdin:
    with concurrency("db", timeout_seconds=30):
        print("in", flush=True)
        sys.stdin.readline()
    print("out", flush=True)
"""


def _waiting(talker: Talker) -> int:
    answer = talker.question(ReadLimit("db"))
    assert isinstance(answer, AnswerItem)
    return msgspec.json.decode(answer.body, type=LimitInfo).waiting


class Embedded:
    """A process that holds a slot through the file."""

    def __init__(self, url: str) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", EMBEDDED],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"EBBGATE_URL": url, "PYTHONPATH": str(ROOT / "src"), "EBBGATE_LEASE_DURATION": "60"},
        )  # fmt: skip

    def go(self) -> None:
        """Have it take or leave its slot."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def says(self, what: str) -> None:
        """Hear that it has."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == what + "\n"


@pytest.fixture
def embed(store_url: str) -> Iterator[Callable[[], Embedded]]:
    """Return what starts processes on the file."""
    started: list[Embedded] = []

    def start() -> Embedded:
        started.append(Embedded(store_url))
        return started[-1]

    yield start
    for embedded in started:
        with embedded.process:
            embedded.process.kill()


def test_a_limit_used_through_the_file_and_through_the_server_is_one_limit(
    launch: Launch, talk: Talk, embed: Callable[[], Embedded]
) -> None:
    talker = talk(launch().port, "s")
    talker.limit("db", 2)
    one, two = embed(), embed()
    one.go()
    one.says("in")
    held = talker.held()
    refused = talker.acquire(wait=False)
    assert isinstance(refused, RefusedItem)
    two.go()
    wait_until(lambda: _waiting(talker) == 1)
    assert isinstance(talker.acquire(), WaitingItem)
    talker.release(held.id)
    two.says("in")
    one.go()
    one.says("out")
    talker.push(HeldItem)


def test_slots_pass_between_the_server_and_a_process_at_once(
    launch: Launch, talk: Talk, embed: Callable[[], Embedded]
) -> None:
    talker = talk(launch().port, "s")
    talker.limit("db", 1)
    embedded = embed()
    late: list[int] = []
    for _ in range(10):
        embedded.go()
        embedded.says("in")
        waits = talker.acquire()
        assert isinstance(waits, WaitingItem)
        before_us = talker.store_us
        embedded.go()
        granted = talker.push(HeldItem)
        embedded.says("out")
        late.append(granted.at_us - before_us)
        embedded.go()  # it waits
        wait_until(lambda: _waiting(talker) == 1)
        talker.release(granted.id)
        embedded.says("in")
        embedded.go()
        embedded.says("out")
    print("slowest to the server:", max(late), "us")
    assert sorted(late)[5] < SECOND // 5, late


def test_the_death_of_a_process_frees_its_slot_for_who_waits_at_the_server(
    launch: Launch, talk: Talk, embed: Callable[[], Embedded]
) -> None:
    talker = talk(launch().port, "s")
    talker.limit("db", 1)
    embedded = embed()
    embedded.go()
    embedded.says("in")
    assert isinstance(talker.acquire(), WaitingItem)
    embedded.process.kill()
    talker.push(HeldItem)


def test_leases_of_the_server_and_of_processes_survive_each_others_end(
    launch: Launch, talk: Talk, embed: Callable[[], Embedded]
) -> None:
    server = launch()
    talker = talk(server.port, "s")
    talker.limit("db", 2)
    held = talker.held()
    embedded = embed()
    embedded.go()
    embedded.says("in")
    server.kill()
    embedded.go()
    embedded.says("out")  # with no server at all
    again = talk(launch(recovery_grace_seconds=30).port, "s", 2)
    assert isinstance(again.renew(held.id), HeldItem)
    embedded.go()
    embedded.says("in")
    assert isinstance(again.acquire(wait=False), RefusedItem)
