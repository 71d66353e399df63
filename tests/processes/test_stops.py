"""A process that is stopped loses its lease when the countdown ends, and knows it when it goes on."""

import signal
from typing import cast

import pytest

from ebbgate import Client
from tests.processes.conftest import Start

pytestmark = pytest.mark.slow

HOLDER = """
import warnings
warnings.simplefilter("ignore")
try:
    with concurrency("db", lease_duration=1.0, strict=STRICT) as lease:
        token = lease.fencing_token
        say(token=token)
        hear()
        say(lost=lease.lost)
        deadline = time.monotonic() + 20
        while lease.fencing_token == token and AGAIN and time.monotonic() < deadline:
            time.sleep(0.01)
        say(token=lease.fencing_token, lost=lease.lost)
    say(end="left")
except errors.LeaseLost as error:
    say(end=error.code)
"""


def holder(strict: bool, again: bool) -> str:
    """Return a program that holds a lease of one second."""
    return HOLDER.replace("STRICT", str(strict)).replace("AGAIN", str(again))


def test_a_stopped_holder_loses_its_slot_to_the_next_and_knows_it_at_once(
    client: Client, start: Start
) -> None:
    """Even if it looks before its renewer could."""
    client.create_limit("db", 1)
    stopped = start(holder(strict=True, again=False))
    token = cast("int", stopped.hear()["token"])
    stopped.signal(signal.SIGSTOP)
    with client.concurrency("db", timeout_seconds=30) as lease:
        assert lease.fencing_token > token
        stopped.signal(signal.SIGCONT)
        stopped.say()
        assert stopped.hear()["lost"] is True
        assert stopped.hear()["lost"] is True
        assert stopped.hear()["end"] == "lease_lost"
        assert not lease.lost
        assert client.read_limit("db").held_slots == 1


def test_a_stopped_holder_whose_slot_nobody_wanted_goes_on(client: Client, start: Start) -> None:
    """Its renewal arrives before anybody expired it, or takes the slot again; it holds it in the end."""
    client.create_limit("db", 1)
    stopped = start(holder(strict=False, again=False))
    stopped.hear()
    stopped.signal(signal.SIGSTOP)
    waiter = start(
        'say()\ntry:\n  with concurrency("db", timeout_seconds=1.5): pass\nexcept Exception: pass\nsay()'
    )
    waiter.hear()
    waiter.hear()  # the countdown is over
    stopped.signal(signal.SIGCONT)
    stopped.say()
    assert stopped.hear()["lost"] is True, "by its own clock the countdown is over"
    stopped.hear()
    assert stopped.hear()["end"] == "left"


def test_a_lease_taken_again_has_a_new_fencing_token_and_stays_lost(client: Client, start: Start) -> None:
    """Whoever protects a resource can tell the two apart."""
    client.create_limit("db", 1)
    stopped = start(holder(strict=False, again=True))
    token = cast("int", stopped.hear()["token"])
    stopped.signal(signal.SIGSTOP)
    with client.concurrency("db", timeout_seconds=30):
        pass
    stopped.signal(signal.SIGCONT)
    stopped.say()
    assert stopped.hear()["lost"] is True
    said = stopped.hear()
    assert cast("int", said["token"]) > token
    assert said["lost"] is True
    assert stopped.hear()["end"] == "left"
    assert client.read_limit("db").held_slots == 0
