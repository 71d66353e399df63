"""What `ebbgate top` looks at, and what each key does. No terminal and no store: keys in, acts out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from ebbgate.cli.printing import SHORT, slots_of
from ebbgate.cli.top_source import Act, Reading
from ebbgate.client.client import Client
from ebbgate.wire.shapes import LeaseInfo, LimitInfo
from ebbgate.wire.words import clean

Sort = Literal["name", "saturation", "waiting"]
SORTS: Final[tuple[Sort, ...]] = ("name", "saturation", "waiting")
COOL_SECONDS: Final = "30"  # proposed

_NUMBER_MAX: Final = 10  # digits

_Order = Callable[[LimitInfo], tuple[float, float, str]]
_ORDERS: Final[dict[Sort, _Order]] = {
    "name": lambda limit: (0, 0, limit.name),
    "saturation": lambda limit: (-saturation(limit), -limit.waiting, limit.name),
    "waiting": lambda limit: (-limit.waiting, -saturation(limit), limit.name),
}


def saturation(limit: LimitInfo) -> float:
    """Return how full a limit is: 1.0 has no slot left, and a closed one is fuller than any."""
    if not limit.active:
        return 0.0
    return limit.active_slots / limit.limit if limit.limit else 1e9


class Prompt(NamedTuple):
    """What is asked in the last line."""

    question: str
    then: Callable[[str], Act | None]  # from what was typed; None: that is nothing
    typed: str | None = None  # None: it is answered by y or n
    fresh: bool = True  # the first digit replaces what was proposed


@dataclass
class State:
    """What is looked at."""

    sort: Sort = "name"
    filter: str = ""
    is_filtering: bool = False
    selected: str = ""  # the id of a limit
    is_open: bool = False  # its leases are shown
    lease: str = ""  # the id of the lease that is marked
    prompt: Prompt | None = None
    is_helping: bool = False
    is_over: bool = False
    told: str = ""
    page: int = 10  # lines of a page
    _order: tuple[object, ...] = ()
    _rows: list[LimitInfo] = field(default_factory=list)

    def rows(self, reading: Reading) -> list[LimitInfo]:
        """Return the limits that are listed, in order."""
        order = (reading.number, self.sort, self.filter)
        if order != self._order:
            wanted = self.filter.casefold()
            found = [limit for limit in reading.limits if wanted in limit.name.casefold()]
            self._rows = found if self.sort == "name" else sorted(found, key=_ORDERS[self.sort])
            self._order = order
        if self._rows and not any(limit.id == self.selected for limit in self._rows) and not self.is_open:
            self.selected = self._rows[0].id
        return self._rows

    def limit(self, reading: Reading) -> LimitInfo | None:
        """Return the limit that is marked."""
        focus = reading.focus
        if focus is not None and focus.limit.id == self.selected:
            return focus.limit
        return next((limit for limit in self.rows(reading) if limit.id == self.selected), None)

    def leases(self, reading: Reading) -> list[LeaseInfo]:
        """Return the leases that are listed."""
        if reading.focus is None or reading.focus.limit.id != self.selected:
            return []
        leases = [*reading.focus.holders, *reading.focus.waiters]
        if leases and self.lease not in {lease.id for lease in leases}:
            self.lease = leases[0].id
        return leases

    # --- keys

    def press(self, key: str, reading: Reading) -> Act | None:
        """Do what a key is for; return what is to be changed in the store."""
        self.told = ""
        if self.prompt is not None:
            return self._answer(self.prompt, key)
        if self.is_helping:
            self.is_helping = False
        elif self.is_filtering:
            self._type_filter(key)
        elif key == "q":
            self.is_over = True
        elif key == "?":
            self.is_helping = True
        elif not self._move(key, reading):
            self._change(key, reading)
        return None

    def _type_filter(self, key: str) -> None:
        if key == "enter":
            self.is_filtering = False
        elif key == "escape":
            self.is_filtering, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1:
            self.filter += key

    def _move(self, key: str, reading: Reading) -> bool:
        """Move the mark, or change what is listed; tell whether that is what the key is for."""
        if key == "enter" and not self.is_open:
            self.is_open = bool(self.selected)
            self.lease = ""
        elif key in {"escape", "left", "backspace"}:
            self.filter = self.filter if self.is_open else ""
            self.is_open = False
        elif key == "right":
            self.is_open = bool(self.selected)
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        elif key == "/":
            self.is_open, self.is_filtering, self.filter = False, True, ""
        else:
            steps = {
                "up": -1, "k": -1, "down": 1, "j": 1, "page up": -self.page, "page down": self.page,
                "home": -(1 << 30), "g": -(1 << 30), "end": 1 << 30, "G": 1 << 30,
            }.get(key)  # fmt: skip
            if steps is None:
                return False
            if self.is_open:
                self.lease = _moved([lease.id for lease in self.leases(reading)], self.lease, steps)
            else:
                self.selected = _moved([limit.id for limit in self.rows(reading)], self.selected, steps)
        return True

    def _change(self, key: str, reading: Reading) -> None:
        """Ask what a change needs to be asked."""
        limit = self.limit(reading)
        if limit is None:
            return
        name = clean(limit.name)
        if key == "e":
            what = "disable" if limit.active else "enable"
            effect = "everybody is let in" if limit.active else "it is enforced again"
            self.prompt = Prompt(f"{what} {name!r}: {effect}?", lambda _: _toggle(limit))
        elif key in {"+", "-", "="}:
            proposed = max(limit.limit + (-1 if key == "-" else 1), 0)
            question = f"slots of {name!r}, {limit.limit} now"
            self.prompt = Prompt(question, lambda typed: _resize(limit, typed), str(proposed))
        elif key == "c":
            question = f"seconds in which nobody gets in at {name!r}, 0 ends it"
            self.prompt = Prompt(question, lambda typed: _cool(limit, typed), COOL_SECONDS)
        elif key == "x" and self.is_open:
            lease = next((lease for lease in self.leases(reading) if lease.id == self.lease), None)
            if lease is not None:
                where = f"{clean(lease.holder.host)}:{lease.holder.pid}" if lease.holder.pid else "somebody"
                question = f"revoke lease {lease.id[-SHORT:]} ({lease.state}) of {where}?"
                self.prompt = Prompt(question, lambda _: _revoke(lease))
        elif key == "x":
            self.told = "a lease is revoked where it is listed: press enter first"

    def _answer(self, prompt: Prompt, key: str) -> Act | None:
        """Take a key as a part of an answer; return what is to be changed when it is complete."""
        typed = prompt.typed
        if typed is None:
            self.prompt = None
            return prompt.then("") if key in {"y", "Y"} else None
        if key == "enter":
            self.prompt = None
            return prompt.then(typed)
        if key == "escape":
            self.prompt = None
        elif key == "backspace":
            self.prompt = prompt._replace(typed=typed[:-1], fresh=False)
        elif key.isascii() and key.isdigit():
            self.prompt = prompt._replace(
                typed=key if prompt.fresh else (typed + key)[:_NUMBER_MAX], fresh=False
            )
        elif key in {"+", "="} and typed:
            self.prompt = prompt._replace(typed=str(int(typed) + 1), fresh=True)
        elif key == "-" and typed:
            self.prompt = prompt._replace(typed=str(max(int(typed) - 1, 0)), fresh=True)
        return None


def _moved(ids: list[str], marked: str, steps: int) -> str:
    if not ids:
        return ""
    place = ids.index(marked) if marked in ids else 0
    return ids[min(max(place + steps, 0), len(ids) - 1)]


def _toggle(limit: LimitInfo) -> Act:
    def act(client: Client) -> str:
        changed = client.update_limit(limit.id, active=not limit.active)
        return f"{'enabled' if changed.active else 'disabled'} {clean(changed.name)!r}"

    return act


def _resize(limit: LimitInfo, typed: str) -> Act | None:
    if not typed:
        return None

    def act(client: Client) -> str:
        changed = client.update_limit(limit.id, limit=int(typed))
        return f"{clean(changed.name)!r} has {slots_of(changed.limit)} now"

    return act


def _cool(limit: LimitInfo, typed: str) -> Act | None:
    if not typed:
        return None

    def act(client: Client) -> str:
        client.cool_down(limit.id, int(typed), "asked for in ebbgate top")
        return f"{clean(limit.name)!r} " + ("cools down" if int(typed) else "lets people in")

    return act


def _revoke(lease: LeaseInfo) -> Act:
    def act(client: Client) -> str:
        client.revoke_lease(lease.id)
        return f"revoked lease {lease.id[-SHORT:]}"

    return act
