"""`ebbgate demo`: real processes contend for two limits of a server, and what happened is proven.

One of them is killed on the way, and so is the server.

The workers note by themselves when they were where; the store is not asked what it believes. Everything lives
in a folder of its own, which goes away with the processes, also on Ctrl-C.

Known limit: on a machine that is far too busy, calls that should come at the full rate come late, and the
demo says so.
"""

import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from ebbgate import Client
from ebbgate.cli.demo_crew import Crew, Role
from ebbgate.cli.demo_proof import (
    Down,
    Finding,
    at_the_rate,
    in_order,
    never_too_many,
    nothing_left,
    passed_on,
    survives,
)
from ebbgate.cli.demo_server import Server
from ebbgate.cli.demo_view import Lines, LiveTable, View, show_findings
from ebbgate.cli.demo_worker import API, WORKSHOP
from ebbgate.cli.options import Output
from ebbgate.cli.printing import print_json
from ebbgate.errors import InvalidRequest

SLOTS: Final = 4
HOLDERS: Final = 6
BURST: Final = 5
RATE: Final = 10.0
CALLERS: Final = 3

STAY_SECONDS: Final = 60.0
"""How long the pages can be looked at when all is proven; `--seconds` is for who wants more."""

SECONDS_MIN: Final = 3.0
SECONDS_MAX: Final = 600.0
_SERVER_SECONDS_MIN: Final = 8.0  # in less the server is left alone: it takes a while to come back
_SERVER_KILLED: Final = 0.3  # of the time before the end
_READY_SECONDS: Final = 30.0
_END_SECONDS: Final = 15.0
_DRAW_SECONDS: Final = 0.1
_LINGER_NS: Final = 300_000_000  # inside before it is killed, so that everybody sees it there
_TEMPDIR_MAX: Final = 50
_HOLDS: Final[list[Role]] = ["hold"]
_CALLS: Final[list[Role]] = ["call"]
_ROLES: Final = _HOLDS * HOLDERS + _CALLS * CALLERS
_INTERRUPTED: Final = 130


def demo(*, seconds: float = 14.0, plain: bool = False, output: Output = "table") -> None:
    """Watch real processes contend for two limits of a server; one is killed, and what happened is proven.

    The first line tells where its pages are. On a terminal they stay for a minute after that, until Enter.

    Parameters
    ----------
    seconds
        How long they contend, 3 to 600.
    plain
        Plain lines instead of a table that moves; always so without a terminal.
    output
        json: what was proven, for programs.
    """
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise InvalidRequest(f"seconds must be from {SECONDS_MIN:g} to {SECONDS_MAX:g}, got {seconds:g}")
    console = Console(highlight=False, stderr=output == "json")
    view: View = LiveTable(console, SLOTS, RATE, seconds)
    if plain or not console.is_terminal:
        view = Lines(console, SLOTS)
    try:
        with _signals_as_exits(), _temporary_store() as folder, _begun(folder) as (server, client):
            _introduce(console, server)
            findings, complaints = _run(folder, server, client, view, seconds)
            if output == "json":
                print_json([finding._asdict() for finding in findings])
            else:
                console.print()
                show_findings(console, findings)
                if console.is_terminal and sys.stdin.isatty():
                    _stay(console, server, folder)
    except KeyboardInterrupt:
        console.print("stopped; nothing is left behind")
        raise SystemExit(_INTERRUPTED) from None
    if not all(finding.proven for finding in findings):
        if complaints:
            print(complaints, file=sys.stderr)
        raise SystemExit(1)


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """Let whoever ends this process politely have it clean up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _temporary_store() -> Iterator[Path]:
    """Make a folder for the store and remove it whatever happens; a second Ctrl-C does not keep it."""
    # Sockets lie beside the file, and their names must not be long.
    place = "/tmp" if len(tempfile.gettempdir()) > _TEMPDIR_MAX and os.access("/tmp", os.W_OK) else None  # noqa: S108
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with tempfile.TemporaryDirectory(prefix="ebbgate-", dir=place, ignore_cleanup_errors=True) as folder:
            try:
                yield Path(folder)
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGINT, interrupt)


@contextmanager
def _begun(folder: Path) -> Iterator[tuple[Server, Client]]:
    """Start the server, with the limits that are contended for."""
    with Server(f"sqlite:///{folder}/demo.db") as server, Client(server.url) as client:
        client.create_limit(WORKSHOP, SLOTS, description=f"{HOLDERS} processes want in, some two at a time.")
        client.create_limit(
            API, BURST, slot_decay_per_second=RATE, description="As many calls as a vendor allows."
        )
        yield server, client


def _introduce(console: Console, server: Server) -> None:
    console.print(
        f"Look at it in a browser: [bold]{server.pages}[/bold]\n\n"
        f"{HOLDERS} processes want the {SLOTS} slots of the limit '{WORKSHOP}', some two at a time.\n"
        f"{CALLERS} processes call an '{API}': {BURST} calls at once, then {RATE:g} a second.\n"
        "One is killed while it holds slots, and later the server. In the end we see what each of them noted.",
        soft_wrap=True,
    )


def _run(
    folder: Path, server: Server, client: Client, view: View, seconds: float
) -> tuple[list[Finding], str]:
    """Let the workers contend; return what is found, and what they complained of."""
    with Crew(_ROLES, server.url, folder) as crew:
        with view:
            view.tell(f"a server (process {server.pid}) serves {server.url}")
            down = _contend(crew, server, view, seconds)
        workshop = client.read_limit(WORKSHOP)
        return _findings(crew, down, workshop.held_slots, workshop.waiting), crew.complaints()


def _stay(console: Console, server: Server, folder: Path) -> None:
    """Have them go on for a while, for who wants to look at the pages; Enter ends it."""
    console.print(
        f"\nThe processes go on for {STAY_SECONDS:g} s: look at {server.pages}, or press Enter to end it.",
        soft_wrap=True,
    )
    with Crew(_ROLES, server.url, folder) as crew:
        _listen_until(crew, _READY_SECONDS, lambda: all(worker.ready for worker in crew.workers))
        crew.say("go")
        _listen_until(crew, STAY_SECONDS, lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
        crew.say("stop")
        _listen_until(crew, _END_SECONDS, crew.gone)


def _findings(crew: Crew, down: Down | None, held: int, waiting: int) -> list[Finding]:
    visits, calls_ns = crew.visits(), crew.calls_ns()
    return [
        never_too_many(visits, SLOTS),
        passed_on(visits, SLOTS),
        in_order(visits, down),
        *([] if down is None else [survives(visits, down)]),
        *at_the_rate(calls_ns, BURST, RATE, CALLERS, down),
        nothing_left(held, waiting, crew.ended_badly()),
    ]


def _contend(crew: Crew, server: Server, view: View, seconds: float) -> Down | None:
    """Start all at once, have one killed on the way, then the server, and stop them when the time is over."""
    _listen_until(crew, _READY_SECONDS, lambda: all(worker.ready for worker in crew.workers))
    crew.say("go")
    tragedy = _Tragedy(crew, view, time.monotonic() + 0.4 * seconds)
    until = time.monotonic() + seconds
    kill_at = until - _SERVER_KILLED * seconds if seconds >= _SERVER_SECONDS_MIN else until
    down: Down | None = None
    while time.monotonic() < until and not crew.gone():
        crew.listen(_DRAW_SECONDS)
        tragedy.go_on()
        if down is None and time.monotonic() > kill_at:
            view.tell(f"the server (process {server.pid}) is killed (SIGKILL) and started again")
            view.show(crew)
            killed_ns = time.monotonic_ns()
            server.kill_and_start()
            down = Down(killed_ns, time.monotonic_ns())
            view.tell(f"the server is back (process {server.pid})")
        view.show(crew)
    crew.say("stop")
    _listen_until(crew, _END_SECONDS, crew.gone)
    view.show(crew)
    return down


def _listen_until(crew: Crew, seconds: float, reached: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not reached() and not crew.gone() and time.monotonic() < until:
        crew.listen(_DRAW_SECONDS)


class _Tragedy:
    """One worker is told to stay inside with two slots, and is killed there; its slots pass on."""

    def __init__(self, crew: Crew, view: View, begins_at: float) -> None:
        """Let it begin at `begins_at` of the monotonic clock."""
        self._crew = crew
        self._view = view
        self._begins_at = begins_at
        self._victim = crew.holders[len(crew.holders) // 2]
        self._acts = iter((self._told_to_stay, self._killed, self._passed_on))
        self._act: Callable[[], bool] | None = next(self._acts)

    def go_on(self) -> None:
        """Do what comes next if it is time; called often."""
        if self._act is not None and self._act():
            self._act = next(self._acts, None)

    def _told_to_stay(self) -> bool:
        if time.monotonic() < self._begins_at:
            return False
        self._victim.say("stay")
        return True

    def _killed(self) -> bool:
        inside = self._victim.entered
        if inside is None or not inside.stays or time.monotonic_ns() < inside.at_ns + _LINGER_NS:
            return False
        self._victim.kill()
        self._view.tell(
            f"worker {self._victim.number} is killed (SIGKILL) while it holds {inside.slots} slots"
        )
        return True

    def _passed_on(self) -> bool:
        finding = passed_on(self._crew.visits(), SLOTS)
        if finding.proven:
            self._view.tell(finding.seen)
        return finding.proven
