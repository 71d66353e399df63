"""The worlds in which bugs are looked for: those of `make simulate`, and some in which a rare thing is common."""

from collections.abc import Callable
from typing import Final

import msgspec

from ebbgate.client.terms import Terms
from ebbgate.core.model import SECOND
from ebbgate.testing import history as h
from ebbgate.testing.simulated.client import Steps
from ebbgate.testing.simulated.kernel import Sleep
from ebbgate.testing.simulated.plan import plan_of
from ebbgate.testing.simulated.run import Run
from ebbgate.testing.simulated.world import RATE

NEVER_US: Final = 1_000_000 * SECOND


def usual(seed: int) -> Run:
    """The world that `make simulate` runs for this seed."""
    return Run(seed)


def remote(seed: int) -> Run:
    """Clients of servers, over wires that lose and double."""
    return _of(
        seed, shape="servers", embedded=0, servers=2, remotes=5, rests=3, message_doubled=0.1, message_lost=0.02,
        loses_tail=False,
    )  # fmt: skip


def reconnecting(seed: int) -> Run:
    """Streams break all the time, and what was said over them arrives late."""
    return _of(
        seed, shape="servers", embedded=0, servers=3, remotes=5, channels=2, rests=0, message_lost=0.5,
        message_late=0.05, faults_every_us=3 * SECOND, loses_tail=False, clock_steps=False,
    )  # fmt: skip


def resetting(seed: int) -> Run:
    """Connections over which nothing is said break, while leases are held for long; nothing else goes wrong."""
    run = _of(
        seed, shape="servers", embedded=0, servers=1, remotes=5, channels=2, rests=0, callers=1, long_holds=0.5,
        loses_tail=False, clock_steps=False, faults_every_us=3 * SECOND, lost_request=0.0, lost_answer=0.0, crash=0.0,
        message_lost=0.0, message_late=0.0, message_doubled=0.0,
    )  # fmt: skip
    run.faults._kinds = [(1, run.faults._reset)]
    return run


def stepping(seed: int) -> Run:
    """The time that servers use steps, as it does when another server is ahead; nothing else goes wrong."""
    run = _of(
        seed, shape="servers", embedded=0, servers=1, remotes=4, rests=0, long_holds=0.3, clock_steps=True, drift=0.0,
        loses_tail=False, faults_every_us=10 * SECOND, lost_request=0.0, lost_answer=0.0, crash=0.0, message_lost=0.0,
        message_late=0.0, message_doubled=0.0,
    )  # fmt: skip
    run.faults._kinds = [(1, run.faults._step_clock)]
    run.world.access._far = False  # no server disciplines the store's clock
    return run


def timing(seed: int) -> Run:
    """The store's clock steps while servers run, stop, die and start."""
    run = _of(
        seed, shape="servers", embedded=0, servers=3, remotes=3, rests=1, clock_steps=True, loses_tail=False,
        faults_every_us=4 * SECOND,
    )  # fmt: skip
    faults = run.faults
    faults._kinds = [(4, faults._step_clock), (1, faults._kill), (1, faults._stop), (1, faults._drain)]
    return run


def renewing(seed: int) -> Run:
    """Many leases are held for so long that they must be renewed."""
    return _of(seed, long_holds=0.5, think_us=5 * SECOND)


def losing(seed: int) -> Run:
    """The store loses its tail, and answers get lost."""
    return _of(seed, clock_steps=False, loses_tail=True, faults_every_us=2 * SECOND, lost_answer=0.02)


def calm(seed: int, **changes: object) -> Run:
    """Processes on one machine, and nothing goes wrong."""
    calm: dict[str, object] = {
        "shape": "machine", "embedded": 3, "servers": 0, "remotes": 0, "callers": 2, "faults_every_us": NEVER_US,
        "lost_request": 0.0, "lost_answer": 0.0, "crash": 0.0, "hint_lost": 0.0, "hour_holds": 0.0,
        "long_holds": 0.0, "clock_steps": False, "loses_tail": False,
    }  # fmt: skip
    return _of(seed, **(calm | changes))


def killing(seed: int) -> Run:
    """Processes are killed, and nothing else goes wrong; what they had must be free within a minute."""
    run = calm(seed, embedded=5, faults_every_us=5 * SECOND, callers=3, tenants=1, hold_us=5 * SECOND)
    run.faults._kinds = [(1, run.faults._kill)]
    world = run.world
    assert isinstance(world.history[0], h.Setting)
    world.history[0] = msgspec.structs.replace(world.history[0], returned_us=60 * SECOND)

    def show() -> None:
        held, waiting = run._listed()
        world.record(h.Listed(when_us=world.kernel.now_us, held=held, waiting=tuple(sorted(waiting))))
        world.kernel.after(5 * SECOND, show)

    world.kernel.after(5 * SECOND, show)
    return run


def stalling(seed: int) -> Run:
    """Processes are stopped for longer than their leases last, and renew them too late."""
    run = calm(seed, embedded=5, faults_every_us=10 * SECOND, long_holds=0.6)
    faults, kernel = run.faults, run.world.kernel
    faults._kinds = [(1, faults._stop)]
    faults._length_us = lambda: kernel.between(50 * SECOND, 110 * SECOND)  # type: ignore[method-assign]
    return run


def parting(seed: int) -> Run:
    """Clients are cut off from their servers, go to others and come back, while they wait for long."""
    run = _of(
        seed, shape="servers", embedded=0, servers=3, remotes=5, tenants=1, hold_us=10 * SECOND, callers=3,
        faults_every_us=4 * SECOND, loses_tail=False, clock_steps=False,
    )  # fmt: skip
    faults, kernel = run.faults, run.world.kernel
    faults._kinds = [(1, faults._cut)]
    faults._length_us = lambda: kernel.between(22 * SECOND, 60 * SECOND)  # type: ignore[method-assign]
    return run


def editing(seed: int) -> Run:
    """The rate of a limit in use is changed every few seconds, and nothing goes wrong."""
    run = calm(seed, tenants=1, think_us=SECOND // 5)
    operator, kernel = run.world.operator, run.world.kernel

    def edit() -> Steps[None]:
        while not run.world.draining:
            yield Sleep(kernel.between(SECOND // 2, 8 * SECOND))
            for known in operator.limits.values():
                if known.decay:
                    yield from operator.update(known, decay=kernel.random.choice((0.25, 0.5, 1.0)))

    operator.gate.process.start(edit())
    return run


def unanswered(seed: int) -> Run:
    """Many answers of the store get lost, and nothing else goes wrong."""
    return calm(seed, embedded=5, lost_answer=0.1, tenants=1, think_us=SECOND // 5)


def spending(seed: int) -> Run:
    """One limit of 700 slots per second is spent all the time by more than it can serve."""
    run = calm(seed, embedded=2, callers=20, think_us=1_000)
    world = run.world
    world._terms = lambda: Terms(((RATE, 1),), True, None, duration_us=60 * SECOND)  # type: ignore[method-assign]

    def quicken() -> Steps[None]:
        operator = world.operator
        while RATE not in operator.names():
            yield Sleep(SECOND // 100)
        (rate,) = [known for known in operator.limits.values() if known.name == RATE]
        yield from operator.update(rate, decay=700.0)

    world.operator.gate.process.start(quicken())
    return run


def _of(seed: int, **changes: object) -> Run:
    """Return the world of a seed, with some of its plan changed."""
    return Run(seed, plan_of(seed)._replace(**changes))  # type: ignore[arg-type]  # fields of a plan


_ALL: Final = (
    usual, remote, reconnecting, resetting, stepping, timing, renewing, losing, calm, killing, stalling, parting,
    unanswered, editing, spending,
)  # fmt: skip
WORLDS: Final[dict[str, Callable[[int], Run]]] = {world.__name__: world for world in _ALL}
