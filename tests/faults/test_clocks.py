"""The wall clock steps an hour, forth and back: the store's clock does not follow, and no promise breaks."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebbgate import Client, errors
from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.core.book import Book
from ebbgate.core.model import Settings
from ebbgate.stores.sqlite import SqliteStore
from tests.faults.world import Machine
from tests.interface.helpers import wait_until
from tests.processes.conftest import Program

HOUR_US = 3_600_000_000
SECOND_US = 1_000_000
STEPS = [HOUR_US, -HOUR_US]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def opens(folder: Path, machine: Machine) -> Iterator[Callable[[], Client]]:
    """Return what opens a client with a session of its own, as another process of the same machine does."""
    gates: list[EmbeddedGate] = []

    def opened() -> Client:
        path = folder / "limits.db"
        # Two gates of one process must not share a presence file: each would end the other's marks.
        store = SqliteStore(path, clocks=machine.clocks)
        gate = EmbeddedGate(store, None, Book(Settings(lease_duration_min_us=SECOND_US)))
        gates.append(gate)
        client = Client(f"sqlite:///{path}")
        client._gate = gate
        return client

    yield opened
    for gate in gates:
        gate.close()


@pytest.mark.parametrize("step_us", STEPS)
def test_nobody_is_let_in_too_many_or_ended_by_a_step(
    opens: Callable[[], Client], machine: Machine, step_us: int
) -> None:
    here, there = opens(), opens()
    here.create_limit("db", 1)
    with here.concurrency("db", lease_duration=60) as first:
        before = there.read_lease(first.id)
        machine.wall_us += step_us
        for client in (here, there):
            with pytest.raises(errors.AcquireTimeout):
                client.concurrency("db", timeout_seconds=0).__enter__()
        later = opens()  # a process that starts after the step
        with pytest.raises(errors.AcquireTimeout):
            later.concurrency("db", timeout_seconds=0).__enter__()
        assert later.read_lease(first.id).expires == before.expires
        machine.passes(59 * SECOND_US)
        with pytest.raises(errors.AcquireTimeout):
            there.concurrency("db", timeout_seconds=0).__enter__()
        machine.passes(2 * SECOND_US)  # not renewed for a minute of the store's clock
        with there.concurrency("db", timeout_seconds=0) as second:
            assert second.fencing_token > first.fencing_token


@pytest.mark.parametrize("step_us", STEPS)
def test_a_rate_is_kept_across_a_step(opens: Callable[[], Client], machine: Machine, step_us: int) -> None:
    here, there = opens(), opens()
    here.create_limit("api", 5, slot_decay_per_second=1)
    spent = 0
    for second in range(10):
        if second % 3 == 1:
            machine.wall_us += step_us * (1 if second % 2 else -1)
        for client in (here, there):
            with contextlib.suppress(errors.AcquireTimeout):
                while True:
                    client.rate_limit("api", timeout_seconds=0)
                    spent += 1
        machine.passes(SECOND_US)
    assert spent == 5 + 9


@pytest.mark.slow
@pytest.mark.parametrize("step_us", STEPS)
def test_a_process_whose_wall_clock_steps_renews_in_time(folder: Path, step_us: int) -> None:
    """Real processes: the wall clock of one of them steps while it holds a lease of three seconds for longer."""
    url = f"sqlite:///{folder}/limits.db"
    program = Program(
        f"""
        from ebbgate.stores import sqlite_clock
        real = time.time_ns
        stepped = 0
        time.time_ns = lambda: real() + stepped
        lost = []
        with concurrency("db", lease_duration=3.0, strict=True) as lease:
            say(token=lease.fencing_token)
            until = time.monotonic() + 3.5
            while time.monotonic() < until:
                stepped = {step_us * 1000} if int(time.monotonic() * 4) % 2 else 0
                time.sleep(0.01)
                lost.append(lease.lost)
        say(lost=any(lost))
        """,
        url,
    )
    try:
        with Client(url) as client:
            client.create_limit("db", 1)
            token = program.hear()["token"]
            assert isinstance(token, int)
            with client.concurrency("db", timeout_seconds=30) as lease:
                assert lease.fencing_token > token
                assert lease.waited_seconds > 1.5, "it was let in while the other one held"
            assert program.hear()["lost"] is False
            wait_until(lambda: client.read_limit("db").held_slots == 0)
            assert program.ends() == 0
    finally:
        program.clean_up()
