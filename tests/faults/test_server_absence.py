"""The server is away for twice a lease, its clock runs ahead, it drains, its file changes hands: nobody pays for it."""

import random
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.neighbours.owner import socket_path
from ebbgate.testing import history as h
from ebbgate.testing.recorder import clock_us
from tests.client.remote.support import pass_time
from tests.faults.server_process import ServerProcess
from tests.faults.server_report import Report, quantiles
from tests.faults.server_shifted import ahead_file
from tests.faults.server_siege import ServerSiege, siege_of_server
from tests.faults.server_worker import KEPT, PULSE, Habits
from tests.faults.siege import SECOND
from tests.faults.test_server_siege import SECONDS, judge, see_that_clients_come_back_soon, seed_of

IS_FULL = SECONDS >= 30
WORKERS = 8 if IS_FULL else 4
ROUNDS = max(int(SECONDS / 15), 1)
LEASE_SECONDS = 2.0
RECOVERY_SECONDS = 1.5
FLAGS = (
    "--away-grace", "4", "--recovery-grace", str(RECOVERY_SECONDS), "--lease-duration-min", "0.5",
)  # fmt: skip
PATIENT: tuple[float | None, ...] = (None, None, 25.0)
HABITS = Habits(
    durations=(LEASE_SECONDS, 2.0), kept_seconds=LEASE_SECONDS, kept_for_seconds=20.0, timeouts=PATIENT
)
HOUR_US = 3_600 * SECOND


def load(seconds: float) -> None:
    """Let the clients work for a while."""
    pass_time(seconds)


def see_that_nobody_was_expired(laid: ServerSiege) -> None:
    """Ask the server itself, which remembers what has ended."""
    with Client(laid.server.url) as client:
        whys = {lease.why for lease in client.list_leases(state="ended")}
    assert not whys & {"expired", "lost_holder"}, whys


def lost(report: Report) -> set[str]:
    """Return why leases were lost."""
    return {event.why for event in report.events if isinstance(event, h.LossNoticed)}


def deadlines(report: Report, limit: str) -> dict[str, list[tuple[int, int]]]:
    """Return the deadlines of all leases of a limit: for each (since when, until when) its client counted on it."""
    of_limit = {event.lease for event in report.events if isinstance(event, h.Asked) and limit in event.slots}
    found: dict[str, list[tuple[int, int]]] = {lease: [] for lease in of_limit}
    for event in report.events:
        if isinstance(event, h.Granted | h.Renewed) and event.lease in of_limit:
            found[event.lease].append((event.when_us, event.deadline_us))
    return found


def see_that_clients_stopped_counting_in_time(report: Report) -> None:
    """Those who held when the server went, and longer than their lease, knew that it was lost."""
    ends = {
        event.lease: (event.when_us, event.why if isinstance(event, h.LossNoticed) else "")
        for event in reversed(report.events)
        if isinstance(event, h.LossNoticed | h.ReleaseCalled)
    }
    known = 0
    for trouble in report.troubles:
        for lease, counts in deadlines(report, KEPT).items():
            last = [until_us for since_us, until_us in counts if since_us < trouble.from_us]
            ended_us, why = ends.get(lease, (1 << 62, ""))
            if not last or ended_us < trouble.from_us or last[-1] > trouble.ready_us:
                continue
            known += 1
            assert ended_us < last[-1] + SECOND, f"{lease} was counted on for too long"
            assert why in {"deadline", ""}, why
    assert known, "somebody held when the server went"


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 240)
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_server_that_is_away_for_twice_a_lease_expires_nobody(folder: Path, how: str) -> None:
    with siege_of_server(
        folder, seed_of(how), workers=WORKERS, habits=HABITS, proxied=False, flags=FLAGS
    ) as laid:
        laid.begin(operated=False)
        for _ in range(ROUNDS):
            load(1.0)
            if how == "killed":
                laid.kill_server(2 * LEASE_SECONDS)
            else:
                laid.stop_server(2 * LEASE_SECONDS)
            load(0.5)
            see_that_nobody_was_expired(laid)
            load(RECOVERY_SECONDS + 0.5)
            see_that_nobody_was_expired(laid)
        report = laid.finish()
    print(report)
    judge(report)
    assert lost(report) == {"deadline"}
    see_that_clients_stopped_counting_in_time(report)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 240)
def test_a_clock_that_is_an_hour_ahead_expires_nobody(folder: Path) -> None:
    habits = Habits(durations=(10.0, 60.0), kept_seconds=60.0, kept_for_seconds=20.0, timeouts=PATIENT)
    module = "tests.faults.server_shifted"
    with siege_of_server(
        folder, seed_of("clock"), workers=WORKERS, habits=habits, proxied=False, module=module, flags=FLAGS
    ) as laid:
        laid.begin(operated=False)
        stepped: list[int] = []
        for number in range(2 * ROUNDS):
            load(1.0)
            ahead = ahead_file(laid.server.path)
            laid.recorder.write(h.ClockStepped(when_us=clock_us(), by_us=HOUR_US))
            new = ahead.with_name("ahead.new")
            new.write_text(str((number + 1) * HOUR_US))
            if number % 2:
                laid.server.kill()
                new.rename(ahead)
                stepped.append(laid.server.start())
            else:
                new.rename(ahead)  # while it runs
                stepped.append(clock_us())
            load(RECOVERY_SECONDS + 0.5)
            see_that_nobody_was_expired(laid)
        report = laid.finish()
    print(report)
    judge(report)
    assert not lost(report)
    renewals = [event.when_us - when_us for when_us in stepped for event in first_renewals(report, when_us)]
    print(f"clock: all leases were renewed after each step, {quantiles(renewals)}")


def first_renewals(report: Report, when_us: int) -> list[h.Renewed]:
    """Return when each lease that was held at an instant, with most of its time left, was renewed next."""
    held: set[str] = set()
    for event in report.events:
        if event.when_us > when_us:
            break
        if isinstance(event, h.Granted) and event.deadline_us > event.when_us + 20 * SECOND:
            held.add(event.lease)
        if isinstance(event, h.ReleaseCalled):
            held.discard(event.lease)
    found: dict[str, h.Renewed] = {}
    for event in report.events:
        if event.when_us > when_us and event.when_us < when_us + 3 * SECOND:
            if isinstance(event, h.ReleaseCalled) and event.lease not in found:
                held.discard(event.lease)
            if isinstance(event, h.Renewed):
                found.setdefault(event.lease, event)
    assert held <= set(found), f"{held - set(found)} were not renewed within 3 s"
    return [found[lease] for lease in held]


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 240)
def test_a_server_that_drains_under_load_disturbs_no_caller(folder: Path) -> None:
    habits = Habits(durations=(5.0, 20.0), kept_seconds=20.0, timeouts=PATIENT)
    with siege_of_server(
        folder, seed_of("drain"), workers=WORKERS, habits=habits, proxied=False, flags=FLAGS
    ) as laid:
        laid.begin(operated=False)
        for _ in range(2 * ROUNDS):
            load(1.0)
            laid.drain_server()
        load(1.0)
        see_that_nobody_was_expired(laid)
        report = laid.finish()
    print(report)
    judge(report)
    assert not lost(report)
    assert not [
        event for event in report.events if isinstance(event, h.NotGranted) and event.why == "unavailable"
    ]
    assert report.drained_us[-1] < 10 * SECOND
    see_that_clients_come_back_soon(report)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 240)
def test_a_file_changes_hands_with_all_that_is_held(folder: Path) -> None:
    # Longer than the server is away: its other clients cannot renew what is granted to them meanwhile by the file's.
    habits = Habits(durations=(30.0, 60.0), kept_seconds=60.0, timeouts=PATIENT)
    embedded = range(WORKERS // 2)
    seed = seed_of("owner")
    chance = random.Random(seed)
    gone: list[int] = []
    with siege_of_server(
        folder, seed, workers=WORKERS, habits=habits, proxied=False, embedded=embedded, flags=FLAGS
    ) as laid:
        laid.begin(operated=False)
        for _ in range(ROUNDS):
            load(1.0)
            assert led_to(laid.server) >= len(embedded), "who names the file is led to its owner"
            gone.append(clock_us())
            laid.kill_server(1.0 + chance.random())
            load(1.0)
            for place in laid.places[: WORKERS // 2]:  # who comes now is led to the server
                assert place.child is not None
                place.child.ends()
                laid.start(place)
        load(1.0)
        see_that_nobody_was_expired(laid)
        report = laid.finish()
    print(report)
    judge(report)
    assert not lost(report)
    served = back_on_the_file(report, gone, [f"w{number}." for number in embedded])
    print(f"owner: back on the file {quantiles(served)}")
    assert max(served) < 2 * SECOND


def led_to(server: ServerProcess) -> int:
    """Return how many connections there are to the socket beside the file."""
    path = str(socket_path(server.path))
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return sum(line.endswith(path) and line.split()[5] == "03" for line in lines)


def back_on_the_file(report: Report, gone: list[int], prefixes: list[str]) -> list[int]:
    """Return how long after each death of the server each process of the file was served."""
    pulses = {event.lease for event in report.events if isinstance(event, h.Asked) and PULSE in event.slots}
    found: list[int] = []
    for when_us in gone:
        for prefix in prefixes:
            served = [
                event.when_us
                for event in report.events
                if isinstance(event, h.Granted) and event.lease in pulses and event.client.startswith(prefix)
            ]
            assert any(instant < when_us for instant in served)
            found.append(min(instant for instant in served if instant > when_us + 20_000) - when_us)
    return found
