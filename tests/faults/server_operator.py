"""The operator of the fault test of the server: resizes, toggles and revokes until it is told to stop by SIGTERM.

python -m tests.faults.server_operator URL HISTORY NAME SEED
"""

import contextlib
import random
import signal
import sys
import threading
from pathlib import Path

from ebbgate import Client, errors
from ebbgate.testing.recorder import recording
from tests.faults.operator import LIMITS, Operator
from tests.faults.server_worker import KEPT, PULSE

LIMITS_OF_SERVER = {**LIMITS, PULSE: (1_000, 0.0), KEPT: (12, 0.0)}


def main(url: str, history: str, name: str, seed: str) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    chance = random.Random(f"{seed} operator")
    with recording(Path(history), name) as recorder:
        client = Client(url)
        operator = Operator(client, recorder, name, LIMITS_OF_SERVER)
        for limit in LIMITS_OF_SERVER:
            operator.create(limit)
        print("ready", flush=True)
        while not stopping.wait(chance.uniform(0.05, 0.4)):
            with contextlib.suppress(errors.ServerUnavailable, errors.StoreUnavailable):
                match chance.randrange(4):
                    case 0:
                        operator.update("moody", limit=chance.randint(0, 4))
                    case 1:
                        operator.update("moody", active=chance.random() < 0.7)
                    case 2:
                        operator.update("wide", limit=chance.randint(4, 6))
                    case _:
                        operator.revoke(chance)
        operator.update("moody", limit=2, active=True)
        client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
