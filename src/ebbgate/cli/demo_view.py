"""How `ebbgate demo` is shown: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ebbgate.cli.demo_crew import Crew, Worker
from ebbgate.cli.demo_proof import SECOND_NS, Finding

LINE_EVERY_SECONDS: Final = 2.0
TOLD_MAX: Final = 3


class View(Protocol):
    """What the demo tells while it runs."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""

    def tell(self, text: str) -> None:
        """Tell what has just happened."""

    def show(self, crew: Crew) -> None:
        """Show how things stand; called often."""


def summary(crew: Crew, limit: int) -> str:
    """Return in one line how things stand."""
    used = sum(worker.entered.slots for worker in crew.holders if worker.entered)
    waiting = sum(1 for worker in crew.holders if worker.asked and not worker.entered)
    calls = sum(len(worker.calls_ns) for worker in crew.callers)
    return f"workshop: {used} of {limit} slots in use, {waiting} waiting; api: {calls} calls"


class Lines:
    """Plain lines, for logs and for readers that are no terminal."""

    def __init__(self, console: Console, limit: int) -> None:
        """Write to `console`."""
        self._console = console
        self._limit = limit
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        """Begin the count of seconds."""
        self._started = self._shown = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """End; there is nothing to clean up."""

    def tell(self, text: str) -> None:
        """Write one line."""
        seconds = time.monotonic() - self._started
        self._console.print(f"{seconds:5.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def show(self, crew: Crew) -> None:
        """Write how things stand, every other second."""
        if time.monotonic() - self._shown >= LINE_EVERY_SECONDS:
            self._shown += LINE_EVERY_SECONDS
            self.tell(summary(crew, self._limit))


class LiveTable:
    """A table that moves: who is inside, who waits, how fast the calls go."""

    def __init__(self, console: Console, limit: int, rate: float, seconds: float) -> None:
        """Draw on `console`, a terminal."""
        self._limit = limit
        self._rate = rate
        self._seconds = seconds
        self._started = time.monotonic()
        self._told: list[tuple[float, str]] = []
        self._block = "■" if (console.encoding or "").lower().startswith("utf") else "#"
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._started = time.monotonic()
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the table as it is last; what is proven is printed below."""
        self._live.__exit__(kind, error, traceback)

    def tell(self, text: str) -> None:
        """Add a line below the table."""
        self._told = [*self._told, (time.monotonic() - self._started, text)][-TOLD_MAX:]

    def show(self, crew: Crew) -> None:
        """Draw how things stand."""
        self._live.update(self._drawn(crew), refresh=True)

    def _drawn(self, crew: Crew) -> RenderableType:
        now_ns = time.monotonic_ns()
        told = [Text(f"{at:5.1f} s  {text}", style="bold") for at, text in self._told]
        return Group(Text(), self._limits(crew, now_ns), Text(), self._workers(crew, now_ns), Text(), *told)

    def _limits(self, crew: Crew, now_ns: int) -> RenderableType:
        used = sum(worker.entered.slots for worker in crew.holders if worker.entered)
        waiting = sum(1 for worker in crew.holders if worker.asked and not worker.entered)
        recent = sum(1 for at_ns in crew.calls_ns() if at_ns > now_ns - SECOND_NS)
        seconds = min(time.monotonic() - self._started, self._seconds)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            "workshop",
            self._bar(used, self._limit, "green"),
            f"{used} of {self._limit} slots in use, {waiting} waiting",
        )
        grid.add_row(
            "api",
            self._bar(recent, round(self._rate), "cyan"),
            f"{recent} calls in the last second, limit {self._rate:g} a second",
        )
        grid.add_row(
            "time",
            self._bar(round(10 * seconds / self._seconds), 10, "white"),
            f"{seconds:.0f} of {self._seconds:g} s",
        )
        return grid

    def _bar(self, number: int, of: int, style: str) -> Text:
        return Text.assemble(
            (self._block * number, style), (self._block * max(of - number, 0), "bright_black")
        )

    def _workers(self, crew: Crew, now_ns: int) -> RenderableType:
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
        table.add_column("worker")
        table.add_column("process", justify="right")
        table.add_column("now", min_width=20)
        table.add_column("so far", justify="right")
        for worker in crew.holders:
            doing = self._doing(worker, now_ns)
            table.add_row(str(worker.number), str(worker.process.pid), doing, f"{len(worker.visits)} visits")
        for worker in crew.callers:
            doing = Text("   done", style="dim") if crew.gone() else Text("   calls the api", style="cyan")
            table.add_row(str(worker.number), str(worker.process.pid), doing, f"{len(worker.calls_ns)} calls")
        return table

    def _doing(self, worker: Worker, now_ns: int) -> Text:
        if worker.killed:
            return Text("   killed inside", style="bold red")
        if worker.entered is not None:
            what = "stays inside" if worker.entered.stays else "inside"
            return Text(f"{self._block * worker.entered.slots:<2} {what}", style="green")
        if worker.asked is not None:
            slots, seconds = worker.asked.slots, (now_ns - worker.asked.at_ns) / SECOND_NS
            return Text(f"   waits for {slots}, {seconds:.1f} s", style="yellow")
        return Text("   done", style="dim")


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print what is proven, one line each."""
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        verdict = ("proven    ", "bold green") if finding.proven else ("NOT PROVEN", "bold red")
        console.print(Text.assemble(verdict, f"  {finding.what:<{width}}  {finding.seen}"), soft_wrap=True)
