"""What the processes of `multiprocessing` run: it must be importable."""

import threading
import time

from ebbgate.sync import concurrency


def hold_briefly(_: int) -> tuple[float, float]:
    """Hold one slot for some milliseconds and return from when to when."""
    with concurrency("db"):
        begun = time.monotonic()
        threading.Event().wait(0.005)
        return begun, time.monotonic()
