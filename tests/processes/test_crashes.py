"""Processes die, stop and fork: nothing is lost, nothing leaks, nobody is blocked."""

import itertools
import signal
import time
from typing import cast

import pytest

from ebbgate import Client
from tests.interface.helpers import quick, wait_for_waiters, wait_until
from tests.processes.conftest import Start

HOLD = """
with concurrency("db") as lease:
    say(token=lease.fencing_token)
    hear()
say(left=True)
"""

WAIT = """
say(asking=True)
with concurrency("db") as lease:
    say(token=lease.fencing_token)
    hear()
"""


def test_a_killed_holder_is_noticed_within_a_second(client: Client, start: Start) -> None:
    """The waiter gets the dead one's slot, long before the countdown."""
    client.create_limit("db", 1)
    quick(lambda: noticed_after(client, start), 1.0)


def noticed_after(client: Client, start: Start) -> float:
    """Return how many seconds after a kill the next one is in."""
    holder = start(HOLD)
    token = cast("int", holder.hear()["token"])
    waiter = start(WAIT)
    waiter.hear()
    wait_for_waiters(client, "db", 1)
    killed = time.monotonic()
    holder.signal(signal.SIGKILL)
    said = waiter.hear()
    assert cast("int", said["token"]) > token
    return cast("float", said["at"]) - killed


def test_a_zombie_counts_as_dead(client: Client, start: Start) -> None:
    """Nobody has waited for it, and yet the kernel has let go of its lock."""
    client.create_limit("db", 1)
    parent = start(
        """
        import subprocess
        code = 'import os\\nfrom ebbgate.sync import concurrency\\nwith concurrency("db"): os.kill(os.getpid(), 9)'
        child = subprocess.Popen([sys.executable, "-c", code])
        while not os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            time.sleep(0.01)
        say(zombie=child.pid)
        hear()
        child.wait()
        """
    )
    parent.hear()
    waiter = start(WAIT)
    asked = cast("float", waiter.hear()["at"])
    assert cast("float", waiter.hear()["at"]) - asked < 10, "long before the countdown of 300 s"
    parent.say()
    assert parent.ends() == 0


def test_a_killed_waiter_keeps_nobody_behind_it_waiting(client: Client, start: Start) -> None:
    """The slot goes to the next who lives."""
    client.create_limit("db", 1)
    holder = start(HOLD)
    holder.hear()
    doomed = start(WAIT)
    doomed.hear()
    wait_for_waiters(client, "db", 1)
    second = start(WAIT)
    second.hear()
    wait_for_waiters(client, "db", 2)
    doomed.signal(signal.SIGKILL)
    wait_for_waiters(client, "db", 1)
    holder.say()
    left = cast("float", holder.hear()["at"])
    assert cast("float", second.hear()["at"]) - left < 10, "a grant to a dead one would last for 300 s"


@pytest.mark.slow
def test_a_slot_is_handed_over_by_push_long_before_any_poll(client: Client, start: Start) -> None:
    """The median of many hand-overs between processes is a matter of a millisecond."""
    client.create_limit("db", 1)
    code = """
    for _ in range(40):
        with concurrency("db"):
            begun = time.monotonic()
            time.sleep(0.003)
            ended = time.monotonic()
        say(begun=begun, ended=ended)
    """
    programs = [start(code) for _ in range(3)]
    turns = sorted(
        (cast("float", said["begun"]), cast("float", said["ended"]))
        for program in programs
        for said in (program.hear() for _ in range(40))
    )
    gaps = sorted(later[0] - earlier[1] for earlier, later in itertools.pairwise(turns))
    assert gaps[0] >= 0, "two were inside at once"
    assert gaps[len(gaps) // 2] < 0.02, "a poll takes 50 ms"
    for program in programs:
        assert program.ends() == 0


def test_a_stopped_process_that_sits_on_the_lock_file_stops_nobody(client: Client, start: Start) -> None:
    """The others go on without their turn."""
    client.create_limit("db", 5)
    stopped = start(
        """
        gate = gate_for(os.environ["EBBGATE_URL"])
        with concurrency("db"):
            pass
        assert gate.store.try_lock()
        say(locked=True)
        hear()
        """
    )
    stopped.hear()
    stopped.signal(signal.SIGSTOP)
    begun = time.monotonic()
    for _ in range(3):
        with client.concurrency("db", timeout_seconds=5):
            pass
    assert time.monotonic() - begun < 12, "each alone would wait for 5 s"
    stopped.signal(signal.SIGCONT)


def test_a_daemon_thread_keeps_its_slot_until_the_process_has_ended(client: Client, start: Start) -> None:
    """It may run until then."""
    client.create_limit("db", 1)
    program = start(
        """
        entered = threading.Event()
        def work():
            with concurrency("db"):
                entered.set()
                time.sleep(60)
        threading.Thread(target=work, daemon=True).start()
        entered.wait()
        say(inside=True)
        """
    )
    program.hear()
    assert program.ends() == 0
    assert client.read_limit("db").held_slots == 0
    ended = client.list_leases("db", "ended")[0]
    assert ended.why == "lost_holder"
    assert ended.holder.pid == program.process.pid, "history names a process that is gone"


def test_ctrl_c_while_waiting_leaves_the_queue(client: Client, start: Start) -> None:
    """And ends the program as ever."""
    client.create_limit("db", 1)
    with client.concurrency("db"):
        program = start(WAIT)
        program.hear()
        wait_for_waiters(client, "db", 1)
        program.process.stderr = None
        program.signal(signal.SIGINT)
        assert program.ends() == -signal.SIGINT
        wait_for_waiters(client, "db", 0)


def test_a_forked_child_owns_nothing_and_starts_anew(client: Client, start: Start) -> None:
    """It leaves its copy of the block without releasing the parent's slot, and takes slots of its own."""
    client.create_limit("db", 1)
    program = start(
        """
        with concurrency("db") as lease:
            child = os.fork()
            if child == 0:
                try:
                    with concurrency("db", timeout_seconds=0.1, suppress_warnings=True):
                        os._exit(1)
                except errors.AcquireTimeout:
                    pass
            else:
                assert os.waitpid(child, 0)[1] == 0
                say(held=Client().read_limit("db").held_slots, lost=lease.lost)
        if child == 0:
            os._exit(0)
        with concurrency("db", timeout_seconds=5):
            say(again=True)
        """
    )
    assert program.hear() | {"at": 0} == {"at": 0, "held": 1, "lost": False}
    program.hear()
    assert program.ends() == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_way_of_multiprocessing_shares_the_limit(client: Client, start: Start, method: str) -> None:
    """Started after the parent has used it already."""
    client.create_limit("db", 2)
    program = start(
        f"""
        import multiprocessing
        from tests.processes.work import hold_briefly
        if __name__ == "__main__":
            with concurrency("db"):
                pass
            context = multiprocessing.get_context({method!r})
            with context.Pool(4) as pool:
                spans = pool.map(hold_briefly, range(12))
            say(spans=spans)
        """
    )
    spans = cast("list[list[float]]", program.hear()["spans"])
    assert len(spans) == 12
    for begun, _ in spans:
        assert sum(1 for other in spans if other[0] <= begun < other[1]) <= 2
    assert program.ends() == 0
    wait_until(lambda: client.read_limit("db").held_slots == 0)


def test_four_processes_through_five_slots_never_exceed_them(client: Client, start: Start) -> None:
    """By what the processes themselves saw."""
    client.create_limit("db", 5)
    code = """
    from concurrent.futures import ThreadPoolExecutor
    def work(_):
        with concurrency("db"):
            begun = time.monotonic()
            time.sleep(0.002)
            return begun, time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        say(spans=list(pool.map(work, range(50))))
    """
    programs = [start(code) for _ in range(4)]
    spans = [span for program in programs for span in cast("list[list[float]]", program.hear()["spans"])]
    edges = sorted([(begun, 1) for begun, _ in spans] + [(ended, -1) for _, ended in spans])
    inside = most = 0
    for _, change in edges:
        inside += change
        most = max(most, inside)
    assert most == 5


@pytest.mark.slow
def test_no_thread_sleeps_through_its_turn(client: Client, start: Start) -> None:
    """Threads of several processes take turns at listening; there is always one that does."""
    client.create_limit("db", 2)
    code = """
    from concurrent.futures import ThreadPoolExecutor
    stood_still = 0
    def tick():
        global stood_still
        while True:
            begun = time.monotonic()
            time.sleep(0.01)
            late = time.monotonic() - begun - 0.01
            stood_still += late if late > 0.05 else 0
    def work(_):
        asked = time.monotonic()
        with concurrency("db"):
            return time.monotonic() - asked
    threading.Thread(target=tick, daemon=True).start()
    longest = 0
    for _ in range(10):
        with ThreadPoolExecutor(6) as pool:
            longest = max(longest, *pool.map(work, range(40)))
    say(longest=longest, stood_still=stood_still)
    """
    said = [program.hear() for program in [start(code) for _ in range(3)]]
    busy = sum(
        cast("float", each["stood_still"]) for each in said
    )  # it is the machine that was late, not they
    assert max(cast("float", each["longest"]) for each in said) < 0.9 + busy
