"""What goes to the terminal: data to stdout, every other word to stderr.

`rich` is imported only when a table is really printed. Text that others wrote (names, labels, hosts) is shown
with its control characters escaped, so that it cannot play with the terminal.
"""

import io
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO, cast

from ebbgate.cli.exits import UsageError
from ebbgate.counting import counted
from ebbgate.wire.words import clean, duration

if TYPE_CHECKING:
    from rich.console import Console

SHORT: Final = 8
"""So many characters of a lease's id are shown, and enough to say which one is meant: the last, for ids begin with
the time."""

_BAR_CELLS: Final = 5
_FOLDED_MIN: Final = 8  # columns of the terminal that a folded column of a table gets at least


class Column(NamedTuple):
    """One column of a table."""

    title: str
    right: bool = False
    fold: bool = False  # may be broken into several lines where the terminal is narrow


def print_json(value: object) -> None:
    """Print a value of `ebbgate.wire`, or a list of them, on stdout."""
    sys.stdout.write(json_of(value, indent=2) + "\n")


def json_of(value: object, *, indent: int = 0) -> str:
    """Return a value as JSON, on one line or indented; characters that a terminal would obey are escaped."""
    import msgspec

    data = msgspec.json.encode(value)
    lines = (msgspec.json.format(data, indent=indent) if indent else data).decode().split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_json_escaped, line)) for line in lines)


def _json_escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def say(message: str) -> None:
    """Tell a person something, on stderr."""
    sys.stderr.write(message + "\n")


def quoted(name: str) -> str:
    """Return a name as a shell takes it."""
    import shlex

    return shlex.quote(clean(name))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, indent: int = 0) -> None:
    """Print rows under their titles, aligned, on stdout.

    Args:
        columns: from left to right.
        rows: cells may hold rich's markup around text that went through `escaped`.
        indent: spaces before each line.
    """
    from rich.padding import Padding
    from rich.table import Table

    rows = list(rows)
    console = _console()
    if indent + _width(columns, rows) > console.width:  # one field a line: no column is lost
        for row in rows:
            print_fields(zip((column.title for column in columns), row, strict=True))
            console.print()
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.fold,
            min_width=None if column.fold else len(column.title),
        )
    for row in rows:
        table.add_row(*row)
    console.print(Padding(table, (0, 0, 0, indent), expand=False))


def _width(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> int:
    """Return how many columns of a terminal a table needs at least."""
    from rich.text import Text

    widths = [len(column.title) for column in columns]
    for row in rows:
        for i, (cell, column) in enumerate(zip(row, columns, strict=True)):
            length = Text.from_markup(cell).cell_len
            widths[i] = max(widths[i], min(length, _FOLDED_MIN) if column.fold else length)
    return sum(widths) + 2 * (len(columns) - 1)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line, aligned, on stdout; empty values are left out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(name, value)
    _console().print(table)


def print_heading(text: str) -> None:
    """Print the heading of a part, on stdout."""
    _console().print(f"\n[bold]{escaped(text)}[/]")


def escaped(text: str) -> str:
    """Return text of a user as a cell of a table takes it."""
    from rich.markup import escape

    return escape(clean(text))


def _console() -> "Console":
    from rich.console import Console

    # Nothing is broken or cut where nobody looks: another program reads whole lines.
    width = None if sys.stdout.isatty() else 10_000
    return Console(
        file=cast("TextIO", _Lines()),
        width=width,
        highlight=False,
        emoji=False,
        soft_wrap=False,
        force_terminal=is_styled(),
    )


class _Lines(io.TextIOBase):
    """Stdout without the spaces that fill the last column of a table."""

    def write(self, text: str, /) -> int:
        """Write `text`, its lines stripped; rich hands over whole lines."""
        sys.stdout.write("\n".join(line.rstrip(" ") for line in text.split("\n")))
        return len(text)

    def flush(self) -> None:
        """Flush stdout."""
        sys.stdout.flush()

    def isatty(self) -> bool:
        """Tell whether stdout is a terminal."""
        return sys.stdout.isatty()

    def fileno(self) -> int:
        """Return the descriptor of stdout: rich asks it for the width."""
        return sys.stdout.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """Return the encoding of stdout: rich asks it which characters can be shown."""
        return sys.stdout.encoding


def is_styled() -> bool:
    """Tell whether stdout shows colours: it is a terminal, and nobody said no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# --- values as people read them


def since(then: datetime | None) -> str:
    """Return how long ago an instant was."""
    return "-" if then is None else duration((datetime.now(UTC) - then).total_seconds())


def until(then: datetime | None) -> str:
    """Return how far ahead an instant is."""
    if then is None:
        return "-"
    seconds = (then - datetime.now(UTC)).total_seconds()
    return duration(seconds) if seconds > 0 else "now"


def timestamp(then: datetime | None) -> str:
    """Return an instant as RFC 3339 in UTC, to the second."""
    return "" if then is None else then.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def slots_of(count: int, what: str = "slot") -> str:
    """Return a number and its noun."""
    return counted(count, what)


def fill(used: int, of: int) -> str:
    """Return how much is taken: n/N, coloured and with a bar where that can be seen."""
    text = f"{used}/{of}"
    if not is_styled():
        return text
    colour = "red" if used >= of else "yellow" if 2 * used >= of else "green"
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        return f"[{colour}]{text}[/]"
    cells = _BAR_CELLS if used >= of else min(-(-_BAR_CELLS * used // of), _BAR_CELLS - 1)
    bar = "▰" * cells + "▱" * (_BAR_CELLS - cells)
    return f"[{colour}]{bar}[/] {text}"


def confirmed(question: str) -> bool:
    """Ask a person.

    Raises:
        UsageError: there is no terminal to ask at.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} There is no terminal to ask at: pass --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
