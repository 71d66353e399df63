"""`rate_limit` through a server; see `bench.rate`."""

from collections.abc import Iterator

from bench.rate import measured
from bench.report import Line, Options
from bench.server.serving import through_server


def run(options: Options) -> Iterator[Line]:
    """Measure what the file is measured by."""
    yield from measured(options, through_server())
