"""One worker process of `ebbgate demo`: it uses two limits as any program does, and notes when it was where.

It is told what to do by lines on its standard input ("go", "stay", "stop") and writes one event a line to its
standard output. When its parent goes away, so does it.
"""

import os
import random
import select
import sys
import threading
import time
from typing import Final, Literal

import msgspec

from ebbgate import Client
from ebbgate.sync import concurrency, rate_limit

WORKSHOP: Final = "workshop"
API: Final = "api"

_STDIN: Final = 0
_STDOUT: Final = 1


Kind = Literal["ready", "asked", "entered", "left", "called"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened to a worker, by the clock that all processes of a machine share."""

    kind: Kind
    at_ns: int
    slots: int = 0
    token: int = 0  # fencing token: rises with every grant
    arrival: int = 0  # rises with every question that reached the store
    stays: bool = False  # it will not leave


def tell(kind: Kind, slots: int = 0, token: int = 0, arrival: int = 0, *, stays: bool = False) -> None:
    """Write an event to the parent; ends this process when there is none any more."""
    event = Event(kind, time.monotonic_ns(), slots, token, arrival, stays)
    try:
        os.write(_STDOUT, msgspec.json.encode(event) + b"\n")
    except OSError:
        sys.exit(1)


def told(timeout_seconds: float | None = 0) -> str:
    """Return what the parent said last, "" if it said nothing; a parent that is gone says "stop"."""
    if not select.select([_STDIN], [], [], timeout_seconds)[0]:
        return ""
    lines = os.read(_STDIN, 1024).decode().split()
    return lines[-1] if lines else "stop"


def hold(chance: random.Random) -> None:
    """Visit the workshop again and again; told to stay, take two slots and never leave."""
    client = Client()
    while (word := told()) != "stop":
        stays = word == "stay"
        slots = 2 if stays else chance.choice((1, 1, 1, 2))
        tell("asked", slots)
        with concurrency(WORKSHOP, occupy=slots) as lease:
            arrival = client.read_lease(lease.id).arrival
            tell("entered", slots, lease.fencing_token, arrival, stays=stays)
            if stays:
                told(None)  # until it is killed, or its parent has gone
            else:
                time.sleep(chance.uniform(0.08, 0.25))
            tell("left")


def call() -> None:
    """Call the API as often as the rate limit lets it."""
    while told() != "stop":
        rate_limit(API)
        tell("called")


def end_with_parent() -> None:
    """End when the parent is gone, even while this process waits for a server that is gone too."""
    poll = select.poll()
    poll.register(_STDIN, select.POLLHUP)
    poll.poll()
    os._exit(0)


def main() -> None:
    """Get ready, wait for the start, then do what the first argument says."""
    role, seed = sys.argv[1], int(sys.argv[2])
    threading.Thread(target=end_with_parent, daemon=True).start()
    Client().list_limits()  # opens the store
    tell("ready")
    if told(None) != "stop":
        if role == "hold":
            hold(random.Random(seed))  # noqa: S311 - how long work takes is no secret
        else:
            call()


if __name__ == "__main__":
    main()
