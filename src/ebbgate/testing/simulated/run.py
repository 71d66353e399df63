"""One run: a world, its faults, the drain at its end, and the judgement of its history."""

import logging
import traceback
from dataclasses import dataclass, field
from typing import Final

from ebbgate.core.model import SECOND, Lease, Limit
from ebbgate.stores.base import Row
from ebbgate.stores.codec import decode
from ebbgate.testing import history as h
from ebbgate.testing.checker import check
from ebbgate.testing.simulated.client import Steps
from ebbgate.testing.simulated.faults import Faults
from ebbgate.testing.simulated.kernel import STARTED_US, Sleep
from ebbgate.testing.simulated.operator import Known
from ebbgate.testing.simulated.plan import Plan
from ebbgate.testing.simulated.world import World

DRAIN_US: Final = 6 * 3_600 * SECOND
"""So long may it take until everything is given back."""

OPEN: Final = 20
"""Slots of every limit in the end, so that whoever waits gets in."""


@dataclass(slots=True)
class Result:
    """What a run came to."""

    seed: int
    steps: int
    virtual_us: int
    history: list[h.AnyEvent]
    faults: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)  # what was promised and not kept
    shown: list[str] = field(default_factory=list)  # the last steps before the failure


class Run:
    """A world that is run to its end."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        """Set the world up."""
        self.world = World(seed, plan)
        self.faults = Faults(self.world)
        self.faults.begin()

    def run(self, steps: int) -> Result:
        """Let `steps` happen, give everything back, and judge."""
        world = self.world
        failures: list[str] = []
        quiet = logging.getLogger("ebbgate")
        level = quiet.level
        quiet.setLevel(logging.CRITICAL)
        try:
            while world.kernel.steps < steps and self._step():
                pass
            stepped_us = world.kernel.now_us
            self._drain()
        except Exception as error:  # noqa: BLE001 - whatever fails is what the run is for
            failures.append("".join(traceback.format_exception(error)))
            stepped_us = world.kernel.now_us
        else:
            failures += [str(violation) for violation in check(world.history)]
        finally:
            quiet.setLevel(level)
        shown = world.kernel.shown() if failures else []
        self._bury()
        return Result(
            world.seed,
            world.kernel.steps,
            stepped_us - STARTED_US,
            world.history,
            world.access.faults,
            failures,
            shown,
        )

    def _step(self) -> bool:
        world = self.world
        if not world.kernel.step():
            return False
        if world.access.crashed:
            self.faults.bury_crashed()
        world.check_books()
        return True

    def _drain(self) -> None:
        """Let everybody finish, heal everything, and see that nothing is left."""
        world = self.world
        world.draining = True
        self.faults.end_all()
        world.draining = True
        world.operator.gate.process.start(self._reopen())
        until_us = world.kernel.now_us + DRAIN_US
        while self._left() and world.kernel.now_us < until_us and self._step():
            pass
        held, waiting = self._listed()
        world.record(
            h.Listed(when_us=world.kernel.now_us, held=held, waiting=tuple(sorted(waiting)), final=True)
        )

    def _reopen(self) -> Steps[None]:
        """Open every limit again, also those that somebody closes only now."""
        world = self.world
        while True:
            for stored in decode([row for row in world.access.store.rows.values() if row.kind == "limit"]):
                limit = stored.record
                if isinstance(limit, Limit) and (limit.limit < OPEN or not limit.active):
                    known = Known(limit.id, limit.name, limit.limit, limit.slot_decay_per_second)
                    yield from world.operator.update(known, limit=OPEN, active=True)
            yield Sleep(10 * SECOND)

    def _leases(self) -> list[Lease]:
        rows = [row for row in self.world.access.store.rows.values() if row.kind == "lease"]
        return [stored.record for stored in decode(rows) if isinstance(stored.record, Lease)]

    def _left(self) -> bool:
        return any(b'"state":"ended"' not in (row.body or b"") for row in self._lease_rows())

    def _lease_rows(self) -> list[Row]:
        return [row for row in self.world.access.store.rows.values() if row.kind == "lease"]

    def _listed(self) -> tuple[dict[str, dict[str, int]], list[str]]:
        held = {lease.id: dict(lease.asked) for lease in self._leases() if lease.state == "held"}
        return held, [lease.id for lease in self._leases() if lease.state == "waiting"]

    def _bury(self) -> None:
        world = self.world
        for owner in [
            *world.dead,
            *world.servers.values(),
            *world.embedded.values(),
            *world.remotes.values(),
            *world.rests.values(),
        ]:
            owner.process.bury()
