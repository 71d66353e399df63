"""`ebbgate run`: the work never outlives its slot, whatever processes a command consists of and however it ends.

The work of a test holds an exclusive lock of a file (`flock`), and so do all descendants that inherit its descriptor:
the kernel frees the lock when the last of them has ended. Work that starts while the lock is taken writes "overlap".
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate.client.client import Client
from tests.cli.support import COMMAND, Real, ended, is_running, line_of, wait_until
from tests.cli.terminal import Terminal

DAEMON = """
import os, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.execvp("sh", ["sh", "-c", sys.argv[1]])
"""
"""A program that runs a script as a daemon: forked twice, in its own session."""

SHAPES = {
    "a child": "LEAF & wait",
    "a child in the foreground": "sh -c 'LEAF'; exit 0",
    "a pipeline": "sh -c 'LEAF' | cat",
    "a background pipeline": "(sh -c 'LEAF' | cat) & wait",
    "nohup": "nohup sh -c 'LEAF' & wait",
    "setsid": "setsid sh -c 'LEAF' & wait",
    "timeout": "timeout 300 sh -c 'LEAF'",
    "xargs": "echo a b | xargs -P 2 -n 1 sh -c 'LEAF'",
    "a daemon": "PYTHON \"$DAEMON\" 'LEAF'; sleep 300",
    "a daemon alone": "exec PYTHON \"$DAEMON\" 'LEAF'",
    "another run": "COMMAND run -l other -- sh -c 'LEAF'",
    "job control": "set -m; sh -c 'LEAF' & wait",
}
LEAF = 'echo $$ >>"$PIDS"; exec sleep 300'


class Work:
    """Scripts that take the lock, and what they wrote."""

    def __init__(self, real: Real, folder: Path) -> None:
        self.real = real
        self.lock, self.pids, self.log = folder / "lock", folder / "pids", folder / "log"
        self.pids.touch()
        self.log.touch()
        self.daemon = folder / "daemon.py"
        self.daemon.write_text(DAEMON)
        self.runs: list[subprocess.Popen[str]] = []
        real.environment.update(
            LOCK=str(self.lock), PIDS=str(self.pids), LOG=str(self.log), DAEMON=str(self.daemon)
        )

    def script(self, shape: str) -> str:
        """Return a script that takes the lock and starts processes in this shape."""
        body = shape.replace("LEAF", LEAF).replace("PYTHON", sys.executable).replace("COMMAND", COMMAND)
        return f'exec 9>>"$LOCK"; flock -n 9 || echo overlap >>"$LOG"; {body}'

    def family(self) -> list[int]:
        """Return the ids of all processes of the work that have ever started."""
        return [int(line) for line in self.pids.read_text().split()]

    def started(self, count: int = 1) -> list[int]:
        """Wait until so many processes of the work run; return their ids."""
        wait_until(lambda: len(self.family()) >= count)
        return self.family()

    def next_one(self) -> subprocess.Popen[str]:
        """Start a second run that waits for the slot."""
        next_one = subprocess.Popen(
            [COMMAND, "run", "-l", "nightly", "--", "sh", "-c", self.script("echo next >>$LOG")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.real.environment,
        )  # fmt: skip
        with Client(self.real.url) as client:
            self.runs.append(next_one)
            wait_until(lambda: client.read_limit("nightly").waiting == 1 or next_one.poll() is not None)
        return next_one


@pytest.fixture
def work(real: Real, tmp_path: Path) -> Iterator[Work]:
    with Client(real.url) as client:
        client.create_limit("nightly", 1)
        client.create_limit("other", 9)
    work = Work(real, tmp_path)
    yield work
    for run in work.runs:
        run.kill()
        run.communicate()
    for pid in filter(is_running, work.family()):  # those of a test that failed
        os.kill(pid, signal.SIGKILL)


def in_next(work: Work, next_one: subprocess.Popen[str]) -> None:
    """Assert that the second run gets the slot, and only after all work of the first one has ended."""
    assert ended(next_one)[0] == 0
    assert work.log.read_text() == "next\n", "no two at work inside a limit of 1"
    assert not any(map(is_running, work.family()))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_slot_passes_after_all_work_has_ended_by_sigterm(work: Work, shape: str) -> None:
    with work.real.started("run", "-l", "nightly", "--", "sh", "-c", work.script(SHAPES[shape])) as run:
        work.started(2 if shape == "xargs" else 1)
        next_one = work.next_one()
        run.terminate()
        in_next(work, next_one)
        assert ended(run)[0] == (0 if shape == "a daemon alone" else 143)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["INT", "HUP", "QUIT"])
@pytest.mark.parametrize("is_for_group", [False, True])
def test_the_slot_passes_after_all_work_has_ended_by_a_signal(
    work: Work, name: str, is_for_group: bool
) -> None:
    script = work.script("(trap '' INT HUP QUIT; LEAF) & wait")
    run_it = ("run", "-l", "nightly", "--", "sh", "-c", script)
    with work.real.started(*run_it, new_session=True) as run:
        work.started()
        next_one = work.next_one()
        send = os.killpg if is_for_group else os.kill
        send(run.pid, signal.Signals[f"SIG{name}"])
        in_next(work, next_one)
        assert ended(run)[0] == 128 + signal.Signals[f"SIG{name}"]


@pytest.mark.slow
def test_work_that_ignores_sigterm_is_killed_after_a_grace(work: Work) -> None:
    with work.real.started(
        "run", "-l", "nightly", "--", "sh", "-c", work.script("(trap '' TERM; LEAF) & wait")
    ) as run:
        work.started()
        next_one = work.next_one()
        run.terminate()
        in_next(work, next_one)
        assert ended(run)[0] == 143


def test_a_command_that_ends_gracefully_has_all_the_time_it_takes(work: Work) -> None:
    """SIGTERM starts no countdown for a command that still runs."""
    script = "trap 'while read line; do :; done; exit 6' TERM; echo ready; while :; do sleep 0.01; done"
    with work.real.started("run", "-l", "nightly", "--", "sh", "-c", script) as run:
        assert line_of(run) == "ready\n"
        run.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(6)
        assert ended(run)[0] == 6


def test_the_slots_stay_held_while_processes_that_the_command_left_run(work: Work, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    leaf = f'echo $$ >>"$PIDS"; read line <{go}'
    script = work.script(f"exec PYTHON \"$DAEMON\" '{leaf}' >/dev/null 2>&1")
    with work.real.started("run", "-l", "nightly", "--", "sh", "-c", script) as run:
        (pid,) = work.started()
        next_one = work.next_one()
        assert run.stderr is not None
        said = run.stderr.readline()
        assert "the command has ended, but 1 process that it started still runs: sh" in said
        assert f"({pid})" in said
        assert "--wait-for command" in said
        assert next_one.poll() is None
        go.write_text("go\n")
        in_next(work, next_one)
        assert ended(run) == (0, "", "")


def test_a_signal_ends_what_a_command_has_left(work: Work) -> None:
    with work.real.started(
        "run", "-l", "nightly", "--", "sh", "-c", work.script(SHAPES["a daemon alone"])
    ) as run:
        work.started()
        assert run.stderr is not None
        assert "has ended" in run.stderr.readline()
        next_one = work.next_one()
        run.send_signal(signal.SIGINT)
        in_next(work, next_one)
        assert ended(run)[0] == 0, "the command had ended well"


def test_the_guard_ends_the_work_of_a_run_that_is_stopped_too_long() -> None:
    """SIGSTOP: the lease is not renewed, and nothing but the guard can end the work in time."""
    code = (
        "import os, signal\n"
        "from ebbgate.cli.guard import Guard\n"
        "guard = Guard(['sh', '-c', 'echo $$; sleep 300 & echo $!; wait'])\n"
        "guard.start({})\n"
        "guard.hold(1.0)\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
        "while (status := guard.wait(1)) is None: pass\n"
        "guard.__exit__()\n"
        "print(guard.has_expired, status)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        try:
            family = [int(line_of(run)), int(line_of(run))]
            wait_until(lambda: not any(map(is_running, family)))
            run.send_signal(signal.SIGCONT)
            assert ended(run)[1] == f"True {signal.SIGTERM.value}\n"
        finally:
            run.kill()


def test_sigpipe_ends_the_command_and_its_code_is_told(work: Work) -> None:
    script = f"{COMMAND} run -l nightly -- yes | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], env=work.real.environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


def test_a_job_that_is_stopped_at_the_terminal_keeps_its_slot(work: Work) -> None:
    """Ctrl-Z, then `fg`, then Ctrl-C, in an interactive shell."""
    script = work.script('sh -c \'LEAF\' & echo "rea""dy"; wait')
    work.real.environment["SCRIPT"] = script
    terminal = Terminal(
        work.real, "run", "-l", "other", "--", "bash", "--norc", "--noprofile", "-i", PS1="$ ", SCRIPT=script
    )
    try:
        terminal.until("$ ")
        terminal.type(f'{COMMAND} run -l nightly -- sh -c "$SCRIPT"\n')
        terminal.until("ready")
        (pid,) = work.started()
        terminal.type("\x1a")
        terminal.until("Stopped")
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        with Client(work.real.url) as client:
            assert client.read_limit("nightly").held_slots == 1
            terminal.type('fg; echo "co""de" $?\n')
            wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T")
            terminal.type("\x03")
            wait_until(lambda: not is_running(pid))
            wait_until(lambda: client.read_limit("nightly").held_slots == 0)
        terminal.type("exit\n")
        terminal.end()
    finally:
        terminal.process.kill()
    assert work.log.read_text() == ""


def can_unshare() -> bool:
    """Tell whether this user may create a PID namespace, as a container has one."""
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and not subprocess.run(
            [unshare, "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.skipif(not can_unshare(), reason="needs the right to create a PID namespace (root)")
def test_as_the_first_process_of_a_container_it_forwards_sigterm(work: Work) -> None:
    script = work.script("(sh -c 'echo in >>$LOG; exec sleep 300') & wait")
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
         COMMAND, "run", "-l", "nightly", "--", "sh", "-c", script],
        env=work.real.environment,
    ) as unshare:  # fmt: skip
        try:
            wait_until(lambda: work.log.read_text() == "in\n")
            (init,) = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
            os.kill(int(init), signal.SIGTERM)
            assert unshare.wait(60) in {143, -signal.SIGTERM}
        finally:
            unshare.kill()
    assert not is_running(int(init))
    with Client(work.real.url) as client:
        assert client.read_limit("nightly").held_slots == 0


@pytest.mark.long
def test_no_two_are_at_work_inside_a_limit_of_1_whatever_ends_them(work: Work) -> None:
    """Runs of random shapes, ended by random signals at random instants, four at a time."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
    pause = threading.Event()
    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(60):
            shape = chance.choice([*SHAPES.values(), "sh -c 'LEAF' & sleep 0.1"])
            running.append(subprocess.Popen(
                [COMMAND, "run", "-l", "nightly", "--", "sh", "-c", work.script(shape)],
                env=work.real.environment, stderr=subprocess.DEVNULL, start_new_session=True,
            ))  # fmt: skip
            pause.wait(chance.random())
            while len(running) >= 4:
                for run in running:
                    send = chance.choice([os.kill, os.killpg])
                    if chance.random() < 0.3 and run.poll() is None:
                        send(run.pid, chance.choice(signals))
                running = [run for run in running if run.poll() is None]
                pause.wait(chance.random() / 4)
    finally:
        for run in running:
            run.terminate()
        for run in running:
            with run:
                run.wait(60)
    assert work.log.read_text() == "", f"seed {seed}"
    assert not any(map(is_running, work.family())), f"seed {seed}"
