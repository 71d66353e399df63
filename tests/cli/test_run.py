"""`ebbgate run`: the slot is held exactly as long as the command runs, whatever happens to either."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from ebbgate.client.client import Client
from ebbgate.wire import LimitInfo
from tests.cli.support import COMMAND, Real, ended, is_running, let_go, line_of, wait_until

# A shell that has a child, and a grandchild which has left its process group; prints their ids.
TREE = "sleep 300 & echo $!; setsid sh -c 'echo $$; exec sleep 300' & wait"


@pytest.fixture
def db(real: Real) -> LimitInfo:
    with Client(real.url) as client:
        client.create_limit("other", 5)
        client.create_limit("api", 2, slot_decay_per_second="2/day")
        return client.create_limit("db", 1)


def held(real: Real, name: str = "db") -> int:
    with Client(real.url) as client:
        return client.read_limit(name).held_slots


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 255", 255)],
)
def test_the_exit_code_of_the_command_is_passed_on(real: Real, db: LimitInfo, script: str, code: int) -> None:
    assert real("run", "--limit", "db", "--", "sh", "-c", script) == (code, "", "")
    assert held(real) == 0


def test_the_command_gets_its_words_streams_and_environment_untouched(real: Real, db: LimitInfo) -> None:
    words = ["--limit", "x", "-o", "json", "$HOME", "a b", "", "--", "-h"]
    said = real("run", "-l", "db", "--", "printf", "[%s]", *words)
    assert said.out == "".join(f"[{word}]" for word in words)
    script = 'read in; printf "%s\\n" "got $in" $EBBGATE_FENCING_TOKEN $EBBGATE_LEASE_ID $MINE; echo err >&2'
    done = subprocess.run(
        [COMMAND, "run", "--limit", "db", "--", "sh", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        input="in\n",
        env={**real.environment, "MINE": "kept"},
    )
    got, token, lease_id, mine = done.stdout.splitlines()
    assert (got, mine, done.stderr) == ("got in", "kept", "err\n")
    assert int(token) > 1 << 50
    assert len(lease_id) == 36


def signal_sets(status: str) -> dict[str, int]:
    """Return the sets of signals in the lines of `/proc/PID/status`, without those that glibc uses for itself.

    `posix_spawn` of glibc has a child ignore signals 32 and 33, and Python 3.13 uses it in more cases.
    """
    internal = 1 << 31 | 1 << 32
    return {name: int(bits, 16) & ~internal for name, bits in map(str.split, status.splitlines())}


def test_the_command_starts_with_the_signals_of_a_shell(real: Real, db: LimitInfo) -> None:
    """Nothing blocked, nothing caught, SIGPIPE not ignored as Python has it."""
    command = ["grep", "^Sig[BIC]", "/proc/self/status"]
    direct = subprocess.run(command, capture_output=True, text=True, check=True)
    started = real("run", "--limit", "db", "--", *command)
    assert set(signal_sets(started.out)) == {"SigBlk:", "SigIgn:", "SigCgt:"}
    assert signal_sets(started.out) == signal_sets(direct.stdout)


def test_the_slot_is_held_while_the_command_runs_and_free_after(real: Real, db: LimitInfo) -> None:
    with real.holding("--limit", "db") as process:
        assert held(real) == 1
        busy = real("run", "--limit", "db", "--timeout", "0", "--", "true")
        assert (busy.code, busy.out) == (75, "")
        assert "see why: ebbgate limit inspect 'db'" in busy.err
        assert (
            '"code":"acquire_timeout"'
            in real("run", "-o", "json", "-l", "db", "--timeout", "0", "--", "true").err
        )
        start = monotonic()
        late = real("run", "--limit", "db", "--timeout", "0.3", "--", "true")
        assert (late.code, late.out) == (124, "")
        assert monotonic() - start >= 0.3
        assert let_go(process) == (0, "")
    assert held(real) == 0
    assert real("run", "--limit", "db", "--timeout", "0", "--", "true").code == 0


def test_several_runs_go_one_after_the_other(real: Real, db: LimitInfo, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"echo in >>{log}; read line; echo out >>{log}"
    with real.started("run", "-l", "db", "--", "sh", "-c", script) as first:
        wait_until(log.exists)
        with real.started("run", "-l", "db", "--", "sh", "-c", script) as second:
            with Client(real.url) as client:
                wait_until(lambda: client.read_limit("db").waiting == 1)
            assert log.read_text() == "in\n"
            assert let_go(first)[0] == 0
            assert let_go(second)[0] == 0
    assert log.read_text() == "in\nout\nin\nout\n"


def test_several_limits_are_taken_all_or_none(real: Real, db: LimitInfo) -> None:
    with real.holding("--limit", "db", "--limit", "other", "--occupy", "1"):
        assert (held(real), held(real, "other")) == (1, 1)
        assert real("run", "-l", "other", "-l", "db", "--timeout", "0", "--", "true").code == 75
        assert held(real, "other") == 1


def test_a_rate_limit_is_spent_before_the_command_starts(real: Real, db: LimitInfo) -> None:
    run = ("run", "--rate-limit", "api", "--limit", "db", "--timeout", "0", "--", "echo", "ran")
    assert real(*run) == (0, "ran\n", "")
    assert real("run", "--rate-limit", "api", "--", "true").code == 0
    refused = real(*run)
    assert (refused.code, refused.out) == (75, "")
    assert "'api'" in refused.err
    assert real(*run[:6], "0.2", *run[7:]).code == 124
    assert held(real) == 0, "what was held while the rate limit was asked is free again"
    assert real("run", "--rate-limit", "api", "--occupy", "3", "--", "true").code == 2


def test_a_limit_that_does_not_exist_fails_unless_told_to_run(real: Real, db: LimitInfo) -> None:
    for flags in (("--limit", "dbb"), ("--limit", "db", "--limit", "dbb"), ("--rate-limit", "dbb")):
        refused = real("run", *flags, "--", "echo", "ran")
        assert (refused.code, refused.out) == (3, "")
        assert "'dbb'" in refused.err
        assert "'db'" in refused.err.replace("'dbb'", ""), "the name that was probably meant"
        assert "--if-missing run" in refused.err
        assert len(refused.err.splitlines()) == 1
        ran = real("run", *flags, "--if-missing", "run", "--", "echo", "ran")
        assert (ran.code, ran.out) == (0, "ran\n")
        assert ran.err.startswith("ebbgate: warning: no limit is named 'dbb'")
        assert len(ran.err.splitlines()) == 1
    assert real("run", "-l", "db", "--strict", "--if-missing", "run", "--", "true").code == 2
    assert held(real) == 0


def test_a_command_that_cannot_be_run_takes_no_slot(real: Real, db: LimitInfo, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo hi\n")
    with real.holding("--limit", "db"):  # whoever asked for it would wait
        for command, code in (
            ("no-such-thing", 127),
            ("./no/such", 127),
            ("", 127),
            (str(plain), 126),
            ("/", 126),
        ):
            refused = real("run", "--limit", "db", "--", command)
            assert (refused.code, refused.out) == (code, ""), command
            assert refused.err.startswith("ebbgate: ")
    plain.chmod(0o755)
    refused = real("run", "--limit", "db", "--", str(plain))
    assert refused.code == 126, "no #! line, and no shell that would guess"
    assert "#!/bin/sh" in refused.err
    plain.write_text("#!/no/such/interpreter\n")
    assert real("run", "--limit", "db", "--", str(plain)).code == 127
    assert held(real) == 0


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"])
def test_a_signal_is_passed_on_to_the_command(real: Real, db: LimitInfo, name: str) -> None:
    script = f'trap "echo got {name}; exit 9" {name}; echo ready; while :; do read line; done'
    with real.started("run", "-l", "db", "--", "bash", "-c", script) as process:
        assert line_of(process) == "ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert ended(process)[:2] == (9, f"got {name}\n")
    assert held(real) == 0


def test_a_command_that_a_signal_ends_ends_run_with_128_and_its_number(real: Real, db: LimitInfo) -> None:
    with real.started("run", "-l", "db", "--", "sh", "-c", "echo ready; exec sleep 300") as process:
        line_of(process)
        process.terminate()
        assert ended(process) == (143, "", "")


def test_a_signal_to_the_whole_group_reaches_the_command_once(real: Real, db: LimitInfo) -> None:
    """As Ctrl-C in a terminal does it: the command has it already, `run` does not send it again."""
    script = (
        "import signal, sys\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(len(seen)))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    run = ("run", "-l", "db", "--", sys.executable, "-c", script)
    with real.started(*run, new_session=True) as process:
        assert line_of(process) == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        # Sent after it and passed on in the same order, so by then a second SIGINT would have been seen.
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 1


def test_signals_that_were_ignored_stay_ignored(real: Real, db: LimitInfo) -> None:
    """`nohup ebbgate run ...` survives its terminal, and so does the command."""
    script = f"trap '' HUP; exec {COMMAND} run -l db -- sh -c 'echo ready; read line; echo done'"
    process = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=real.environment
    )
    with process:
        line_of(process)
        process.send_signal(signal.SIGHUP)
        assert process.communicate("\n", timeout=20)[0] == "done\n"
    assert process.returncode == 0


def test_a_signal_while_waiting_leaves_the_queue(real: Real, db: LimitInfo) -> None:
    with (
        real.holding("--limit", "db"),
        real.started("run", "-l", "db", "--", "echo", "ran") as waiter,
        Client(real.url) as client,
    ):
        wait_until(lambda: client.read_limit("db").waiting == 1)
        waiter.send_signal(signal.SIGTERM)
        code, out, err = ended(waiter)
        assert (code, out) == (143, "")
        assert len(err.splitlines()) == 1
        assert client.read_limit("db").waiting == 0


def test_nothing_outlives_a_run_that_is_killed(real: Real, db: LimitInfo) -> None:
    with real.started("run", "-l", "db", "--", "sh", "-c", TREE) as process:
        family = [int(line_of(process)), int(line_of(process))]
        assert all(map(is_running, family))
        process.kill()
        wait_until(lambda: not any(map(is_running, family)))
    assert real("run", "--limit", "db", "--timeout", "5", "--", "true").code == 0


def test_nothing_outlives_a_guard_that_is_killed(real: Real, db: LimitInfo) -> None:
    with real.started("run", "-l", "db", "--", "sh", "-c", TREE) as process:
        family = [int(line_of(process)), int(line_of(process))]
        (guard,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(guard), signal.SIGKILL)
        code, out, err = ended(process)
        assert (code, out) == (1, "")
        assert "guard" in err
        assert not any(map(is_running, family))
    assert held(real) == 0


def test_wait_for_command_releases_the_slots_when_the_command_ends(real: Real, db: LimitInfo) -> None:
    script = "setsid sleep 300 >/dev/null 2>&1 & echo $!"
    pid = int(real("run", "-l", "db", "--wait-for", "command", "--", "sh", "-c", script).out)
    try:
        assert is_running(pid)
        assert held(real) == 0
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_lost_lease_ends_the_command_and_its_descendants(real: Real, db: LimitInfo) -> None:
    with real.started("run", "-l", "db", "--", "sh", "-c", TREE) as process:
        family = [int(line_of(process)), int(line_of(process))]
        with Client(real.url) as client:
            client.revoke_lease(client.list_leases()[0].id)
        code, out, err = ended(process)
        assert (code, out) == (1, "")
        assert err == "ebbgate: lost the lease on 'db' (revoked), so the command was ended\n"
        assert not any(map(is_running, family))


def test_a_lost_lease_only_warns_with_if_lost_run(real: Real, db: LimitInfo) -> None:
    with real.holding("--limit", "db", "--if-lost", "run") as process:
        with Client(real.url) as client:
            client.revoke_lease(client.list_leases()[0].id)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("ebbgate: warning: lost the lease on 'db'")
        assert let_go(process) == (0, "")
