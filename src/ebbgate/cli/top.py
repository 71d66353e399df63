"""`ebbgate top`: a live view in the terminal of limits, holders and waiters, with keys to change them."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from cyclopts import Parameter

from ebbgate.cli.options import Output
from ebbgate.cli.printing import print_json, say
from ebbgate.cli.reading import existing_client
from ebbgate.cli.top_source import TICK_SECONDS, Source
from ebbgate.cli.top_state import SORTS, Sort, State
from ebbgate.wire.shapes import LeaseInfo, LimitInfo, StatusInfo

if TYPE_CHECKING:
    from ebbgate.cli.top_view import Glyphs

_COUNT_SECONDS: Final = 0.5  # how long grants are counted for a single frame
_LINES_MIN: Final = 4


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What `top -o json` prints."""

    status: StatusInfo
    limits: list[LimitInfo]
    leases: list[LeaseInfo] | None = None  # of the limit that was named: holders, then waiters


def top(
    name: Annotated[
        str | None, Parameter(help="Name or id of a limit: show who holds its slots and who waits.")
    ] = None,
    /,
    *,
    prefix: Annotated[str, Parameter(help="Only limits whose name begins so.")] = "",
    sort: Annotated[Sort, Parameter(help="How the limits are ordered; s changes it.")] = "name",
    once: Annotated[bool, Parameter(help="Print one frame and end; always so without a terminal.")] = False,
    output: Output = "table",
) -> None:
    """Watch limits, holders and waiters live; press ? for the keys."""
    assert sort in SORTS, "cyclopts lets nothing else through"
    client = existing_client()
    limit = client.read_limit(name) if name is not None else None
    source = Source(client, prefix, limit.id if limit else None)
    reading = source.read()  # here, where what goes wrong is told properly
    if output == "json":
        assert reading.status is not None, "it was read"
        focus = reading.focus
        leases = [*focus.holders, *focus.waiters] if focus else None
        limits = [focus.limit] if focus else list(reading.limits)
        print_json(Snapshot(status=reading.status, limits=limits, leases=leases))
        return
    state = State(sort=sort, selected=limit.id if limit else "", is_open=limit is not None)
    if client.url == "memory://":
        say("no limits yet; create one: ebbgate limit create NAME --limit 5")
        return
    is_live = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if once or not is_live:
        time.sleep(_COUNT_SECONDS)
        source.read()
        _print(source, state, client.url)
    else:
        _watch(source, state, client.url)


def _print(source: Source, state: State, where: str) -> None:
    from rich.console import Console

    from ebbgate.cli.printing import is_styled
    from ebbgate.cli.top_view import View

    console = Console(highlight=False, force_terminal=is_styled(), soft_wrap=True)
    width = console.width if sys.stdout.isatty() else 120
    for line in View(where, _glyphs()).once(state, source.reading, width):
        line.rstrip()
        console.print(line, soft_wrap=True)


def _watch(source: Source, state: State, where: str) -> None:
    """Draw, and do what keys are for, until it is over; the terminal is as before then."""
    from rich.console import Console, Group
    from rich.live import Live

    from ebbgate.cli.top_keys import Keys
    from ebbgate.cli.top_view import View

    console = Console(highlight=False)
    view = View(where, _glyphs())

    def draw() -> Group:
        lines = view.frame(state, source.reading, console.width, max(console.height, _LINES_MIN))
        source.look_at(state.selected if state.is_open else None)
        return Group(*lines)

    with Keys() as keys, _ends() as stopped:
        live = Live(draw(), console=console, screen=True, auto_refresh=False)
        try:
            live.start(refresh=True)
            source.start(keys.wake)
            while not state.is_over:
                try:
                    pressed = keys.read(TICK_SECONDS)
                except (EOFError, OSError):
                    return  # the terminal is gone
                for key in pressed:
                    act = state.press(key, source.reading)
                    if act is not None:
                        source.act(act)
                if source.told:
                    state.told, source.told = source.told, ""
                if stopped():
                    live.stop()
                    keys.give_back()
                    os.kill(os.getpid(), signal.SIGSTOP)
                    keys.take()
                    live.start()
                live.update(draw(), refresh=True)
        except KeyboardInterrupt:
            pass
        finally:
            live.stop()
            source.stop()


def _glyphs() -> "Glyphs":
    from ebbgate.cli.top_view import ASCII, UTF8

    return UTF8 if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else ASCII


@contextmanager
def _ends() -> Iterator[Callable[[], bool]]:
    """Let whoever ends or stops this process have the terminal set back; return what tells whether it is stopped."""
    is_stopped = False

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    def stop(_number: int, _frame: object) -> None:
        nonlocal is_stopped
        is_stopped = True

    def stopped() -> bool:
        nonlocal is_stopped
        was, is_stopped = is_stopped, False
        return was

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
