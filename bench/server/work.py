"""100 pieces of work of 10 ms each through 5 slots of a server; see `bench.work`."""

from collections.abc import Iterator

from bench.report import Line, Options
from bench.server.serving import through_server
from bench.work import FOUR_PROCESSES, measured


def run(options: Options) -> Iterator[Line]:
    """Measure four processes, threads and tasks."""
    yield from measured(options, through_server(), FOUR_PROCESSES)
