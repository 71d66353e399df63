"""A server in a process of its own, as the command line starts it."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from bench.background import HOST, answers, background, free_port
from bench.crew import Place, store, with_byte_code

PROGRAM = Path(sys.executable).with_name("ebbgate")

Durability = Literal["full", "normal"]


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    port: int
    pid: int
    ready_s: float  # from the start of its process until it was ready

    @property
    def url(self) -> str:
        """What its clients say."""
        return f"ebbgate://{HOST}:{self.port}"


@contextmanager
def serving(kept: str, durability: Durability = "full", port: int = 0) -> Iterator[Server]:
    """Run a server on a store until the block ends; `port` 0: any that is free."""
    port = port or free_port()
    command = [str(PROGRAM), "serve", "--store", kept, "--port", str(port)]
    command += ["--durability", durability]
    begun = time.monotonic()
    with background(command, partial(answers, port, "/readyz"), environment=with_byte_code()) as process:
        yield Server(port, process.pid, time.monotonic() - begun)


@contextmanager
def served(durability: Durability = "full", **limits: int | tuple[int, float]) -> Iterator[Server]:
    """Run a server on a new file with these limits; see `bench.crew.store`."""
    with store(**limits) as kept, serving(kept, durability) as server:
        yield server


def through_server(durability: Durability = "full") -> Place:
    """Return a place behind a server."""

    @contextmanager
    def place(**limits: int | tuple[int, float]) -> Iterator[str]:
        with served(durability, **limits) as server:
            yield server.url

    return place
