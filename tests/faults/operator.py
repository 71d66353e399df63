"""The operator of the fault test: resizes, toggles, revokes, and looks, until it is told to stop by SIGTERM.

    python -m tests.faults.operator URL HISTORY NAME SEED BURIED

Which leases of dead processes were passed on, and when, it writes to the file BURIED.
"""

import contextlib
import json
import random
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from ebbgate import Client, errors
from ebbgate.client.connect import gate_for
from ebbgate.core.book import Book
from ebbgate.core.model import Settings
from ebbgate.testing import history as h
from ebbgate.testing.recorder import clock_us, recording
from tests.embedded import embedded
from tests.faults.worker import SHORTEST_US

LIMITS: dict[str, tuple[int, float]] = {
    "plain": (3, 0.0), "left": (2, 0.0), "right": (2, 0.0), "wide": (5, 0.0), "moody": (2, 0.0), "rate": (10, 40.0),
}  # fmt: skip


class Operator:
    """Changes limits and leases, each change written down before and after."""

    def __init__(
        self,
        client: Client,
        recorder: h.Recorder,
        name: str,
        limits: Mapping[str, tuple[int, float]] = LIMITS,
    ) -> None:
        self.client, self.write, self.name = client, recorder.write, name
        self.limits = limits
        self.buried: dict[str, int] = {}

    def change(self, called: Callable[[str, int], h.ChangeCalled], does: Callable[[], object]) -> None:
        request = str(uuid.uuid4())
        self.write(called(request, clock_us()))
        does()
        self.write(h.ChangeDone(when_us=clock_us(), client=self.name, request=request, done=True))

    def create(self, limit: str) -> None:
        slots, decay = self.limits[limit]
        self.change(
            lambda request, when_us: h.ChangeCalled(
                when_us=when_us, client=self.name, request=request, which=limit, verb="create", name=limit,
                limit=slots, decay=decay, active=True,
            ),
            lambda: self.client.create_limit(limit, slots, slot_decay_per_second=decay),
        )  # fmt: skip

    def update(self, which: str, *, limit: int | None = None, active: bool | None = None) -> None:
        self.change(
            lambda request, when_us: h.ChangeCalled(
                when_us=when_us, client=self.name, request=request, which=which, verb="update", limit=limit,
                active=active,
            ),
            lambda: self.client.update_limit(which, limit=limit, active=active),
        )  # fmt: skip

    def revoke(self, chance: random.Random) -> None:
        leases = self.client.list_leases()
        if leases:
            lease = chance.choice(leases).id
            self.write(h.RevokeCalled(when_us=clock_us(), client=self.name, lease=lease))
            with contextlib.suppress(errors.LeaseNotFound):
                self.client.revoke_lease(lease)

    def look(self) -> None:
        """Note which leases of dead processes were passed on, by the clock of the history."""
        gate = embedded(self.client)

        def question(book: Book, _now_us: int) -> None:
            for lease in book.leases.values():
                if lease.why == "lost_holder":
                    self.buried.setdefault(lease.id, gate.local_instant(lease.ended_us))

        gate.read(question)


def main(url: str, history: str, name: str, seed: str, buried: str) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    chance = random.Random(f"{seed} operator")
    with recording(Path(history), name) as recorder:
        gate_for(url, settings=Settings(lease_duration_min_us=SHORTEST_US))
        client = Client(url)
        operator = Operator(client, recorder, name)
        for limit in LIMITS:
            operator.create(limit)
        print("ready", flush=True)
        while not stopping.wait(chance.uniform(0.05, 0.3)):
            with contextlib.suppress(errors.StoreUnavailable):
                match chance.randrange(5):
                    case 0:
                        operator.update("moody", limit=chance.randint(0, 4))
                    case 1:
                        operator.update("moody", active=chance.random() < 0.7)
                    case 2:
                        operator.update("wide", limit=chance.randint(4, 6))
                    case 3:
                        operator.revoke(chance)
                    case _:
                        operator.look()
        operator.update("moody", limit=2, active=True)
        operator.look()
        client.close()
    Path(buried).write_text(json.dumps(operator.buried), encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
