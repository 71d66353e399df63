"""`ebbgate top`: what it shows is so, what a key does happens, and the terminal is as before in the end."""

import os
import signal
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.text import Text

from ebbgate.cli.top import Snapshot
from ebbgate.cli.top_keys import keys_in
from ebbgate.cli.top_source import Focus, Rates, Reading
from ebbgate.cli.top_state import State
from ebbgate.cli.top_view import ASCII, View, short
from ebbgate.client.client import Client
from ebbgate.wire import HolderInfo, LeaseInfo, LimitInfo, SlotsInfo, StatusInfo
from tests.cli.support import Cli, Real, let_go, wait_until
from tests.cli.terminal import Terminal
from tests.serving import served

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def limit(name: str, slots: int = 5, **more: object) -> LimitInfo:
    fields = {
        "id": f"id of {name}", "name": name, "limit": slots, "slot_decay_per_second": 0.0, "active": True,
        "description": "", "active_slots": 0, "held_slots": 0, "spent_slots": 0.0, "waiting": 0, "created": NOW,
        "updated": NOW,
    }  # fmt: skip
    return LimitInfo(**{**fields, **more})  # type: ignore[arg-type]  # as the fields have them


def lease(lease_id: str, state: str, **more: object) -> LeaseInfo:
    fields = {
        "id": lease_id, "state": state, "kind": "hold", "limits": [SlotsInfo("db", 2)],
        "holder": HolderInfo(session="s", host="mars\x1b[2J", pid=7, labels={"job": "re\nport"}), "priority": 0,
        "arrival": 1, "asked": NOW, "granted": NOW, "expires": NOW,
    }  # fmt: skip
    return LeaseInfo(**{**fields, **more})  # type: ignore[arg-type]  # as the fields have them


def reading(*limits: LimitInfo, focus: Focus | None = None) -> Reading:
    status = StatusInfo(version="1", limits=len(limits), held=0, waiting=0, sessions=1, away=0, now=NOW)
    return Reading(tuple(limits), {}, status, focus, time.monotonic(), "", 1)


def plain(lines: list[Text]) -> list[str]:
    return [line.plain.rstrip() for line in lines]


def pressed(state: State, seen: Reading, keys: str) -> list[object]:
    return [act for key in keys_in(keys) if (act := state.press(key, seen)) is not None]


# --- keys


def test_what_a_terminal_sends_is_told_apart() -> None:
    assert keys_in("aé\x1b[A\x1bOB\x1b[5~\x1b[H\x1b[1;5C\x1b\r\x7f") == [
        "a", "é", "up", "down", "page up", "home", "escape", "enter", "backspace",
    ]  # fmt: skip
    assert keys_in("\x1b\x1b[B\x00") == ["escape", "down"]


def test_the_mark_moves_and_stays_with_its_limit_when_the_order_changes() -> None:
    seen = reading(limit("a"), limit("b", waiting=3), limit("c", active_slots=5))
    state = State()
    assert [row.name for row in state.rows(seen)] == ["a", "b", "c"]
    assert state.selected == "id of a"
    pressed(state, seen, "\x1b[Bj\x1b[B\x1b[B")
    assert state.selected == "id of c"
    pressed(state, seen, "s")
    assert [row.name for row in state.rows(seen)] == ["c", "b", "a"]
    pressed(state, seen, "s")
    assert [row.name for row in state.rows(seen)] == ["b", "c", "a"]
    assert state.selected == "id of c"
    pressed(state, seen, "g\x1b[A")
    assert state.selected == "id of b"


def test_typing_a_filter_takes_every_letter_and_escape_gives_all_back() -> None:
    seen = reading(limit("queue"), limit("database"))
    state = State()
    pressed(state, seen, "/Qx\x7f")
    assert [row.name for row in state.rows(seen)] == ["queue"]
    pressed(state, seen, "\r")
    assert not state.is_over
    pressed(state, seen, "\x1b")
    assert len(state.rows(seen)) == 2
    pressed(state, seen, "q")
    assert state.is_over


def test_nothing_is_changed_without_a_yes_or_enter() -> None:
    seen = reading(limit("db"))
    state = State()
    state.rows(seen)
    for keys in ("en", "e\x1b", "e\r", "+\x1b", "c\x1b", "+\x7f\r", "x"):
        assert pressed(state, seen, keys) == [], keys
    for keys in ("ey", "+\r", "-\r", "+12\r", "c5\r"):
        assert len(pressed(state, seen, keys)) == 1, keys


# --- what is seen


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 60), (20, 4), (1, 1)])
def test_a_frame_fits_its_terminal(width: int, height: int) -> None:
    many = [limit(f"limit-{number}-" + "数" * 50, number) for number in range(500)]
    focus = Focus(
        many[3],
        tuple(lease(str(i), "held") for i in range(200)),
        tuple(lease(str(-i), "waiting") for i in range(1, 99)),
    )
    for state in (
        State(),
        State(selected=many[3].id, is_open=True),
        State(is_helping=True),
        State(is_filtering=True),
    ):
        lines = View("ebbgate://here").frame(state, reading(*many, focus=focus), width, height)
        assert len(lines) == height
        assert max(line.cell_len for line in lines) <= width


def test_80_columns_show_all_that_matters_and_40_the_most_of_it() -> None:
    seen = reading(
        limit("api", 60, spent_slots=29.5, active_slots=30, slot_decay_per_second=1.0),
        limit("closed", 0),
        limit("db", 4, held_slots=4, active_slots=4, waiting=2, waiting_since=NOW - timedelta(minutes=1)),
        limit("off", active=False),
        limit("vendor", cool_down_until=NOW + timedelta(seconds=30)),
    )._replace(per_second={"id of api": 1.04})  # fmt: skip
    wide = plain(View("here", ASCII).frame(State(), seen, 80, 24))
    assert wide[3].split() == ["NAME", "SLOTS", "USED", "FREE", "WAIT", "OLDEST", "GRANTS/S", "STATE"]
    assert wide[4].split() == [">", "api", "======......", "30/60", "30", "-", "-", "1.0"]
    assert wide[5].split() == ["closed", "............", "0/0", "0", "-", "-", "closed"]
    assert wide[6].split()[:6] == ["db", "############", "4/4", "0", "2", "1min"]
    assert wide[7].split()[-1] == "disabled"
    assert wide[8].split()[-2:] == ["cools", "30s"]
    narrow = plain(View("here", ASCII).frame(State(), seen, 40, 12))
    assert narrow[3].split() == ["NAME", "USED", "WAIT", "STATE"]
    assert narrow[8].split() == ["vendor", "0/5", "-", "cools", "30s"]


def test_holders_and_waiters_are_shown_with_what_they_wait_for_and_cannot_play_with_the_terminal() -> None:
    db = limit("db", 2, held_slots=2, active_slots=2, waiting=1)
    waiter = lease(
        "w-22222222",
        "waiting",
        position=1,
        lacks=["db"],
        blocked_by=["h-11111111", "x"],
        estimate_seconds=4.2,
    )
    seen = reading(db, focus=Focus(db, (lease("h-11111111", "held"),), (waiter,)))
    shown = "\n".join(plain(View("here").frame(State(selected=db.id, is_open=True), seen, 120, 24)))
    assert "HOLDERS (1)" in shown
    assert "▸ 11111111 ×2   for 0s       0s left        mars\\x1b[2J:7 job=re\\nport" in shown
    assert "1.   22222222 ×2   for 0s       waits for 11111111 +1, about 5s more; mars" in shown


def test_five_characters_hold_any_number() -> None:
    assert [short(number) for number in (0, 7, 99_999, 100_000, 1_234_567, 10**9)] == [
        "0", "7", "99999", "100k", "1.2M", "1.0G",
    ]  # fmt: skip
    assert all(len(short(10**power)) <= 5 for power in range(13))


def test_grants_are_counted_over_a_second_or_two_also_when_the_count_begins_anew() -> None:
    rates = Rates()
    assert rates.update((limit("a", granted=100),), 10.0) == {}
    assert rates.update((limit("a", granted=105),), 10.5) == {"id of a": 10.0}
    assert rates.update((limit("a", granted=120),), 12.0) == {"id of a": 10.0}
    assert rates.update((limit("a", granted=121),), 12.5)["id of a"] == pytest.approx(21 / 2.5)
    assert rates.update((limit("a", granted=3),), 13.0) == {}
    assert rates.update((limit("a", granted=4),), 14.0) == {"id of a": 1.0}


# --- on a terminal, with real processes


@pytest.fixture(params=["file", "server"])
def gate(request: pytest.FixtureRequest, real: Real, tmp_path: Path) -> Iterator[Real]:
    """The command, on a file and through a server."""
    if request.param == "file":
        yield real
        return
    with served(f"sqlite:///{tmp_path / 'served.db'}", socket=False) as server:
        real.environment["EBBGATE_URL"] = real.url = server.url
        yield real


def row(screen: list[str], name: str) -> list[str]:
    return next((line.replace("▸", " ").split() for line in screen if f" {name} " in line), [])


def test_a_limit_is_watched_resized_disabled_cooled_and_a_lease_revoked(gate: Real) -> None:
    gate("limit", "create", "db", "--limit", "2")
    gate("limit", "create", "other", "--limit", "5")
    with gate.holding("--limit", "db", "--occupy", "2", "--label", "job=report") as holder:
        with gate.started("run", "--limit", "db", "--timeout", "60", "--", "echo", "in") as waiter:
            terminal = Terminal(gate, "top", lines=24)
            screen = terminal.until_screen(  # what is counted and what is listed may be of two moments
                lambda shown: (
                    row(shown, "db")[2:5] == ["2/2", "0", "1"]
                    and "2 limits, 1 lease held, 1 waiting" in shown[1]
                )
            )
            assert screen[0].startswith(f"ebbgate top  {gate.url[:40]}")
            terminal.type("\r")
            screen = terminal.until_screen(lambda shown: any("WAITERS" in line for line in shown))
            assert any("job=report" in line and "left" in line for line in screen)
            assert any(line.lstrip().startswith("1.") and "waits for" in line for line in screen)
            terminal.type("+3\r")
            terminal.until_screen(lambda shown: "'db' has 3 slots now" in shown[-1])
            assert waiter.wait(20) == 0, "it got in"
            terminal.type("x")
            terminal.until_screen(lambda shown: "revoke lease" in shown[-1])
            terminal.type("y")
            terminal.until_screen(lambda shown: "revoked lease" in shown[-1])
            terminal.until_screen(lambda shown: any("nobody holds or waits" in line for line in shown))
            terminal.type("\x1bey")
            terminal.until_screen(lambda shown: row(shown, "db")[-1:] == ["disabled"])
            terminal.type("ey")
            terminal.until_screen(lambda shown: "enabled 'db'" in shown[-1])
            terminal.type("c30\r")
            terminal.until_screen(lambda shown: row(shown, "db")[-2:-1] == ["cools"])
            terminal.type("q")
            assert terminal.end() == 0
        let_go(holder)
    with Client(gate.url) as client:
        db = client.read_limit("db")
        assert (db.limit, db.active, db.cool_down_until is not None) == (3, True, True)


def test_grants_per_second_are_those_of_all_processes(gate: Real) -> None:
    gate("limit", "create", "api", "--limit", "5", "--rate", "5/s")
    with gate.started("run", "--rate-limit", "api", "--", "true"):
        terminal = Terminal(gate, "top", lines=24)
        terminal.until_screen(lambda shown: row(shown, "api"))
        for _ in range(3):
            assert gate("run", "--rate-limit", "api", "--", "true").code == 0
        terminal.until_screen(
            lambda shown: (pace := row(shown, "api")[-1:]) and pace[0].replace(".", "").isdigit()
        )
        terminal.type("q")
        assert terminal.end() == 0


@pytest.mark.parametrize("how", ["q", "SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP"])
def test_the_terminal_is_as_before_however_it_ends(real: Real, how: str) -> None:
    real("limit", "create", "db", "--limit", "2")
    terminal = Terminal(real, "top", lines=24)
    before = terminal.before
    terminal.until_screen(lambda shown: row(shown, "db"))
    assert termios.tcgetattr(terminal.master) != before
    if how == "SIGTSTP":
        terminal.process.send_signal(signal.SIGTSTP)
        wait_until(lambda: termios.tcgetattr(terminal.master) == before, "it is set back while it is stopped")
        wait_until(
            lambda: (
                Path(f"/proc/{terminal.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
            )
        )
        terminal.process.send_signal(signal.SIGCONT)
        wait_until(lambda: termios.tcgetattr(terminal.master) != before, "it goes on")
    if how in {"q", "SIGTSTP"}:
        terminal.type("q")
    else:
        terminal.process.send_signal(getattr(signal, how))
    terminal.until("")
    assert termios.tcgetattr(terminal.master) == before
    left, cursor = terminal.shown.rfind("\x1b[?1049l"), terminal.shown.rfind("\x1b[?25h")
    assert left > terminal.shown.rfind("\x1b[?1049h"), "the screen is the one from before"
    assert cursor > terminal.shown.rfind("\x1b[?25l"), "the cursor is there again"
    assert terminal.end() == {"SIGTERM": 143, "SIGHUP": 129}.get(how, 0)


def test_a_store_that_falls_silent_is_told_and_keys_still_work(real: Real, tmp_path: Path) -> None:
    with served(f"sqlite:///{tmp_path / 'served.db'}", socket=False) as server:
        with Client(server.url) as client:
            client.create_limit("db", 2)
        real.environment["EBBGATE_URL"] = server.url
        real.environment["EBBGATE_CONNECT_TIMEOUT"] = "1"
        terminal = Terminal(real, "top", lines=24)
        terminal.until_screen(lambda shown: row(shown, "db"))
    terminal.until_screen(lambda shown: "start one: ebbgate serve" in " ".join(shown[-2:]))
    assert row(terminal.screen(), "db"), "what was known stays to be seen"
    terminal.type("?")
    terminal.until_screen(lambda shown: any("cool-down" in line for line in shown))
    terminal.type("qq")
    assert terminal.end() == 0


# --- without a terminal


def test_without_a_terminal_one_frame_is_printed(gate: Real) -> None:
    assert "no limits yet; create one: ebbgate limit create NAME --limit 5" in gate("top").out
    gate("limit", "create", "db", "--limit", "2")
    with gate.holding("--limit", "db"):
        shown = gate("top")
        assert (shown.code, shown.err) == (0, "")
        assert "\x1b" not in shown.out
        assert row(shown.out.splitlines(), "db")[2:4] == ["1/2", "-"]
        assert "HOLDERS (1)" in gate("top", "db", "--once").out
        snapshot = gate("top", "db", "-o", "json").parsed(Snapshot)
        assert [entry.name for entry in snapshot.limits] == ["db"]
        assert [entry.state for entry in snapshot.leases or []] == ["held"]
    assert gate("top", "-o", "json").parsed(Snapshot).leases is None
    assert gate("top", "nope").code == 3
    assert gate("top", "--sort", "colour").code == 2


def test_ten_thousand_limits_are_listed_and_found(cli: Cli, url: str) -> None:
    names = [f"tenant-{number:05}" for number in range(10_000)]
    state, seen = State(), reading(*[limit(name) for name in names])
    pressed(state, seen, "G")
    assert plain(View("here").frame(state, seen, 80, 24))[-2].split()[1] == "tenant-09999"
    pressed(state, seen, "/0123")
    assert len(state.rows(seen)) == 11
    assert os.environ["EBBGATE_URL"] == url
    assert cli("top --prefix tenant").code == 0
