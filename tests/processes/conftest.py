"""Real processes on one file."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.client.connect import close_gate

PROLOGUE = """
import json, os, signal, sys, threading, time
from ebbgate.client.connect import gate_for
from ebbgate.core.model import Settings
gate_for(os.environ["EBBGATE_URL"], settings=Settings(lease_duration_min_us=500_000))
from ebbgate import Client, errors
from ebbgate.sync import concurrency, rate_limit

def say(**words):
    print(json.dumps({"at": time.monotonic(), **words}), flush=True)

def hear():
    return sys.stdin.readline().strip()
"""


class Program:
    """One real process that runs a piece of Python, says lines of JSON and hears lines of text."""

    def __init__(self, code: str, url: str) -> None:
        """Start it."""
        source = PROLOGUE + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "EBBGATE_URL": url},
            text=True,
        )

    def hear(self) -> dict[str, object]:
        """Return the next thing it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program ended with {self.process.wait(10)} and said nothing"
        said: dict[str, object] = json.loads(line)
        return said

    def say(self, text: str = "go") -> None:
        """Tell it to go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends(self) -> int:
        """Return its exit code."""
        return self.process.wait(20)

    def clean_up(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


Start = Callable[[str], Program]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty file."""
    address = f"sqlite:///{tmp_path / 'limits.db'}"
    yield address
    close_gate(address)


@pytest.fixture
def client(url: str) -> Client:
    """Return a client of it in this process."""
    return Client(url)


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    """Return what starts programs on that file."""
    programs: list[Program] = []

    def starts(code: str) -> Program:
        program = Program(code, url)
        programs.append(program)
        return program

    yield starts
    for program in programs:
        program.clean_up()
