"""The test suite itself: it starts the same way everywhere and changes nothing on the system."""

import subprocess
import sys

from tests.tidy.repository import ROOT

SHOW = """
import signal
import tests.conftest
print(*[signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)])
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_signals_that_the_parent_ignores_or_blocks_are_restored_before_any_test() -> None:
    ignoring = (
        "import signal, sys, os\n"
        "for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", ignoring, SHOW], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert shown.stdout.split("\n")[:2] == ["False False False", "set()"]


def test_only_one_target_installs_system_packages() -> None:
    target = ""
    installing = set()
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        target = line.split(":")[0] if line[:1].isalpha() else target
        if "apt-get" in line or "setup_system" in line:
            installing.add(target)
    assert installing == {"setup-system"}
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "packages").rglob("*.py")]:
        assert '"apt-get' not in path.read_text(encoding="utf-8") or path.name == "test_suite.py", path
