"""How `ebbgate top` looks: one line of text after the other, as many and as wide as the terminal has room for."""

from collections.abc import Callable, Sequence
from datetime import datetime
from textwrap import wrap
from typing import Final, NamedTuple, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ebbgate.cli.printing import SHORT, slots_of
from ebbgate.cli.top_source import LEASES_MAX, Reading
from ebbgate.cli.top_state import State, saturation
from ebbgate.wire.shapes import LeaseInfo, LimitInfo
from ebbgate.wire.words import clean, duration, rate

Row = TypeVar("Row")

NAME_MIN: Final = 12
BAR: Final = 12

HELP: Final = (
    ("up down j k", "mark a limit or a lease; also page up and down, home, end"),
    ("enter", "show who holds and who waits; escape goes back"),
    ("s", "sort by name, saturation, waiting"),
    ("/", "show only names with what you type; escape shows all"),
    ("e", "enable or disable the limit"),
    ("+ -", "give it another number of slots"),
    ("c", "let nobody in for a while (cool-down)"),
    ("x", "revoke the marked lease; its slots pass on"),
    ("q", "leave"),
)


class Glyphs(NamedTuple):
    """What bars are made of."""

    held: str
    spent: str
    free: str
    mark: str


UTF8: Final = Glyphs("█", "▒", "·", "▸")
ASCII: Final = Glyphs("#", "=", ".", ">")


class Column(NamedTuple):
    """One column; the more important ones are shown where there is little room."""

    title: str
    width: int
    rank: int  # 0 is always there
    is_right: bool
    cell: Callable[[LimitInfo], str | Text]


class View:
    """Draws a reading as a state has it."""

    def __init__(self, where: str, glyphs: Glyphs = UTF8) -> None:
        """Draw what is read from `where`."""
        self._where = clean(where)
        self._glyphs = glyphs

    def frame(self, state: State, reading: Reading, width: int, height: int) -> list[Text]:
        """Return the lines of a full screen."""
        head = self._head(state, reading, width)
        foot = self._foot(state, reading, width)
        room = max(height - len(head) - len(foot), 0)
        if state.is_helping:
            body = _help()[:room]
        elif state.is_open:
            body = self._limit(state, reading, width, room)
        else:
            state.page = max(room - 1, 1)
            body = self._limits(state, reading, width, room)
        body += [Text()] * (room - len(body))
        return [_cut(line, width) for line in [*head, *body, *foot][:height]]

    def once(self, state: State, reading: Reading, width: int) -> list[Text]:
        """Return all there is to say, however long."""
        body = (
            self._limit(state, reading, width, 1 << 30)
            if state.is_open
            else self._limits(state, reading, width, 1 << 30)
        )
        return [_cut(line, width) for line in [*self._head(state, reading, width), *body]]

    # --- above and below

    def _head(self, state: State, reading: Reading, width: int) -> list[Text]:
        title = Text.assemble(("ebbgate top", "bold"), "  ", self._where)
        status = reading.status
        if status is None:
            return [title, Text("connecting")]
        clock = reading.now().astimezone().strftime("%H:%M:%S")
        title = Text.assemble(set_cell_text(title, width - 9), " ", clock) if width >= 40 else title
        limits, leases = _counted(status.limits, "limit"), _counted(status.held, "lease")
        clients = _counted(status.sessions, "client")
        summary = Text(f"{limits}, {leases} held, {status.waiting} waiting, {clients}")
        if not state.is_open:
            summary.append(f"; by {state.sort}", "dim")
            if state.filter:
                summary.append(f"; only /{state.filter}", "dim")
        return [title, summary, Text()]

    def _foot(self, state: State, reading: Reading, width: int) -> list[Text]:
        if state.prompt is not None:
            prompt = state.prompt
            asked = (
                Text.assemble((f"{prompt.question} [y/N] ", "bold"), ("_", "blink"))
                if prompt.typed is None
                else Text.assemble(
                    (f"{prompt.question}: {prompt.typed}", "bold"), ("_", "blink"), "  (enter does it)"
                )
            )
            return [asked]
        if state.is_filtering:
            return [Text.assemble((f"/{state.filter}", "bold"), ("_", "blink"))]
        if reading.error:
            return _wrapped(f"since {duration(_age(reading))}: {clean(reading.error)}", width, "red")
        if state.told:
            return _wrapped(clean(state.told), width, "bold")
        keys = "q quit  ? help  esc back  e on/off  +/- slots  c cool-down  x revoke"
        if not state.is_open:
            keys = "q quit  ? help  enter leases  s sort  / filter  e on/off  +/- slots  c cool-down"
        return [Text(keys, "dim")]

    # --- the limits

    def _limits(self, state: State, reading: Reading, width: int, room: int) -> list[Text]:
        rows = state.rows(reading)
        if not reading.limits:
            return [Text("no limits yet; create one: ebbgate limit create NAME --limit 5")]
        if not rows:
            return [Text(f"no limit's name contains {state.filter!r}; esc shows all")]
        columns = _fitting(self._columns(reading), width)
        name_width = max(width - 2 - sum(column.width + 1 for column in columns), 1)
        lines = [_joined("  " + _fit("NAME", name_width), [(c, c.title) for c in columns], "bold")]
        at = next((place for place, limit in enumerate(rows) if limit.id == state.selected), 0)
        for limit in _around(rows, at, room - 1):
            is_marked = limit.id == state.selected and room < 1 << 30
            mark = f"{self._glyphs.mark} " if is_marked else "  "
            cells = [(column, column.cell(limit)) for column in columns]
            style = "reverse" if is_marked else "" if limit.active else "dim"
            lines.append(_joined(mark + _fit(clean(limit.name), name_width), cells, style))
        return lines

    def _columns(self, reading: Reading) -> tuple[Column, ...]:
        now = reading.now()
        per_second = reading.per_second
        return (
            Column("SLOTS", BAR, 2, False, lambda limit: self._bar(limit, BAR)),
            Column("USED", 9, 0, True, lambda limit: f"{short(limit.active_slots)}/{short(limit.limit)}"),
            Column(
                "SPENT",
                5,
                6,
                True,
                lambda limit: short(-(-limit.spent_slots // 1)) if limit.spent_slots else "-",
            ),
            Column("FREE", 5, 5, True, lambda limit: short(max(limit.limit - limit.active_slots, 0))),
            Column("WAIT", 5, 0, True, lambda limit: short(limit.waiting) if limit.waiting else "-"),
            Column("OLDEST", 8, 4, True, lambda limit: _since(limit.waiting_since, now)),
            Column("GRANTS/S", 8, 3, True, lambda limit: _pace(per_second.get(limit.id))),
            Column("STATE", 9, 1, False, lambda limit: _state(limit, now)),
        )

    def _bar(self, limit: LimitInfo, cells: int) -> Text:
        """Draw what is held, spent and free of a limit."""
        glyphs = self._glyphs
        of = max(limit.limit, limit.active_slots, 1)
        used = limit.active_slots
        filled = cells if used >= of else min(-(-used * cells // of), cells - 1)
        held = min(-(-limit.held_slots * cells // of), filled) if limit.held_slots else 0
        full = saturation(limit)
        colour = "red" if full >= 1 else "yellow" if full >= 0.5 else "green"
        return Text.assemble(
            (glyphs.held * held, colour),
            (glyphs.spent * (filled - held), "cyan" if full < 1 else "red"),
            (glyphs.free * (cells - filled), "dim"),
        )

    # --- one limit

    def _limit(self, state: State, reading: Reading, width: int, room: int) -> list[Text]:
        limit = state.limit(reading)
        if limit is None:
            return [Text("this limit is gone; esc goes back")]
        lines = self._about(limit, reading, width)
        leases = state.leases(reading)
        focus = reading.focus
        if focus is None or focus.limit.id != limit.id:
            return [*lines, Text("reading", "dim")]
        if not leases:
            return [*lines, Text("nobody holds or waits for a slot")]
        room -= len(lines)
        listed: list[tuple[str, Text]] = []
        now = reading.now()
        if focus.holders:
            listed.append(("", Text(f"HOLDERS{_more(focus.holders)}", "bold")))
            listed += [(lease.id, _holder(lease, limit, now)) for lease in focus.holders]
        if focus.waiters:
            title = f"WAITERS, the next one first{_more(focus.waiters, limit.waiting)}"
            listed.append(("", Text(title, "bold")))
            listed += [(lease.id, _waiter(lease, limit, now)) for lease in focus.waiters]
        at = next((place for place, (lease_id, _) in enumerate(listed) if lease_id == state.lease), 0)
        state.page = max(room - 2, 1)
        for lease_id, line in _around(listed, at, room):
            is_marked = lease_id == state.lease and room < 1 << 29
            mark = f"{self._glyphs.mark} " if is_marked else "  " if lease_id else ""
            lines.append(Text.assemble(mark, line, style="reverse" if is_marked else ""))
        return lines

    def _about(self, limit: LimitInfo, reading: Reading, width: int) -> list[Text]:
        pace = reading.per_second.get(limit.id)
        free = max(limit.limit - limit.active_slots, 0)
        spent = f", {limit.spent_slots:.3g} spent" if limit.spent_slots else ""
        facts = [
            f"{slots_of(limit.limit)}: {limit.held_slots} held{spent}, {free} free",
            f"{limit.waiting} waiting",
        ]
        if limit.slot_decay_per_second:
            facts.append(f"{rate(limit.slot_decay_per_second, limit.limit)} come back")
        if pace is not None:
            facts.append(f"{_pace(pace)} grants/s")
        lines = [
            Text.assemble((clean(limit.name), "bold"), f"  {clean(limit.description)}"),
            Text("; ".join(facts)),
        ]
        state = _state(limit, reading.now())
        if state.plain:
            why = f": {clean(limit.cool_down_why)}" if limit.cool_down_until and limit.cool_down_why else ""
            lines.append(Text.assemble(state, why))
        return [*lines, self._bar(limit, min(width, 60)), Text()]


def _holder(lease: LeaseInfo, limit: LimitInfo, now: datetime) -> Text:
    left = (lease.expires - now).total_seconds() if lease.expires else 0.0
    parts = [
        _fit(lease.id[-SHORT:], SHORT), _slots(lease, limit.name),
        f"for {_fit(_since(lease.granted, now), 8)}", f"{_fit(duration(left) + ' left', 14)}", _who(lease),
    ]  # fmt: skip
    return Text(" ".join(parts))


def _waiter(lease: LeaseInfo, limit: LimitInfo, now: datetime) -> Text:
    lacks, blockers = lease.lacks or [], lease.blocked_by or []
    why = (
        "its turn comes"
        if not lacks
        else "waits"
        if lacks == [limit.name]
        else f"lacks {', '.join(map(clean, lacks))}"
    )
    if blockers:
        more = f" +{len(blockers) - 1}" if len(blockers) > 1 else ""
        why += f" for {blockers[0][-SHORT:]}{more}"
    if lease.estimate_seconds is not None:
        why += f", about {duration(lease.estimate_seconds + 0.999)} more"
    parts = [
        _fit(f"{lease.position}.", 4), _fit(lease.id[-SHORT:], SHORT), _slots(lease, limit.name),
        f"for {_fit(_since(lease.asked, now), 8)}", f"{why}; {_who(lease)}",
    ]  # fmt: skip
    return Text(" ".join(parts))


def _slots(lease: LeaseInfo, name: str) -> str:
    return f"×{sum(entry.slots for entry in lease.limits if entry.name == name):<3}"


def _who(lease: LeaseInfo) -> str:
    holder = lease.holder
    where = f"{clean(holder.host)}:{holder.pid}" if holder.pid else "-"
    labels = " ".join(f"{clean(name)}={clean(value)}" for name, value in holder.labels.items())
    return f"{where} {labels}".strip() + (" (away)" if holder.away_since else "")


def _more(leases: Sequence[LeaseInfo], total: int | None = None) -> str:
    if len(leases) < LEASES_MAX:
        return f" ({len(leases)})"
    return f" (the first {LEASES_MAX}{f' of {total}' if total else ''})"


def _state(limit: LimitInfo, now: datetime) -> Text:
    if not limit.active:
        return Text("disabled", "dim")
    if limit.cool_down_until is not None:
        left = duration((limit.cool_down_until - now).total_seconds() + 0.999).partition(" ")[0]
        return Text(f"cools {left.replace('min', 'm')}", "yellow")
    return Text("", "") if limit.limit else Text("closed", "red")


def _help() -> list[Text]:
    return [Text.assemble((f"  {keys:<14}", "bold"), what) for keys, what in HELP]


# --- how values are written in few cells


def short(number: float) -> str:
    """Return a number in five characters.

    >>> short(12), short(99_999), short(123_456), short(1_000_000_000)
    ('12', '99999', '123k', '1.0G')
    """
    if number < 100_000:
        return str(int(number))
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if number < 999.5 * size:
            return f"{number / size:.0f}{unit}" if number >= 9.95 * size else f"{number / size:.1f}{unit}"
    return "lots"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _pace(per_second: float | None) -> str:
    if per_second is None:
        return ""
    return "-" if not per_second else f"{per_second:.1f}" if per_second < 100 else short(per_second)


def _since(then: datetime | None, now: datetime) -> str:
    if then is None:
        return "-"
    text = duration((now - then).total_seconds())
    return text.replace("min", "m") if " " in text else text


def _age(reading: Reading) -> float:
    return (reading.now() - reading.status.now).total_seconds() if reading.status else 0.0


# --- fitting it in


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that there is room for beside a name."""
    kept = list(columns)
    while len(kept) > 1 and 2 + NAME_MIN + sum(column.width + 1 for column in kept) > width:
        kept.remove(max(kept, key=lambda column: column.rank))
    return kept


def _joined(name: str, cells: Sequence[tuple[Column, str | Text]], style: str) -> Text:
    line = Text(name)
    for column, cell in cells:
        text = cell if isinstance(cell, Text) else Text(cell)
        gap = " " * max(column.width - text.cell_len, 0)
        line.append(" ")
        line.append_text(
            Text.assemble(gap, text) if column.is_right else Text.assemble(_cut(text, column.width), gap)
        )
    line.stylize(style)
    return line


def _around(rows: Sequence[Row], at: int, room: int) -> Sequence[Row]:
    """Return as many rows as there is room for, with the one at `at` among them."""
    if room <= 0:
        return []
    first = min(max(at - room // 2, 0), max(len(rows) - room, 0))
    return rows[first : first + room]


def _fit(text: str, width: int) -> str:
    """Return text in so many cells, cut or filled."""
    if cell_len(text) > width > 1:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def _wrapped(text: str, width: int, style: str) -> list[Text]:
    """Return a sentence in as few lines as it takes: what to do next stands at its end."""
    return [Text(line, style) for line in wrap(text, max(width, 20))]


def _cut(line: Text, width: int) -> Text:
    line = line.copy()
    line.truncate(width, overflow="crop")
    line.no_wrap = True
    return line


def set_cell_text(line: Text, width: int) -> Text:
    """Return a line of so many cells, cut or filled."""
    line = line.copy()
    line.truncate(width, overflow="crop", pad=True)
    return line
