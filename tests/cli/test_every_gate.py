"""Every command does the same on a file, through a server, and on a file that a server owns.

Each has the exit code that scripts rely on.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate.cli.top import Snapshot
from ebbgate.wire import LeaseInfo, LimitInfo
from tests.cli.support import Cli, Real, Result, ended
from tests.serving import served


@pytest.fixture(params=["file", "server", "owned file"])
def gate(
    request: pytest.FixtureRequest, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "file":
        yield url
        return
    if request.param == "owned file":
        with served(url):
            yield url
        return
    with served(f"sqlite:///{tmp_path / 'served.db'}", socket=False) as server:
        monkeypatch.setenv("EBBGATE_URL", server.url)
        yield server.url


STORY = [
    ("doctor", 0),
    ("limit ls", 0),
    ("limit create db --limit 2 --description text", 0),
    ("limit create db --limit 2", 4),
    ("gcl create api --limit 5 --slot-decay-per-second 1.0", 0),
    ("gcl create hour --limit 60 --rate 60/hour --disable", 0),
    ("limit create bad/name --limit 2", 2),
    ("limit ls --prefix d", 0),
    ("gcl list", 0),
    ("limit inspect db", 0),
    ("limit inspect nothing", 3),
    ("limit update db --limit 3 --description other", 0),
    ("limit update db --name database", 0),
    ("limit update database --name api", 4),
    ("limit update database --rate 3/min", 0),
    ("limit update database --slot-decay-per-second 0", 0),
    ("limit update database", 2),
    ("limit disable database", 0),
    ("limit enable database", 0),
    ("limit enable nothing", 3),
    ("limit cool-down api 30 --why busy", 0),
    ("limit cool-down api 0", 0),
    ("limit cool-down nothing 30", 3),
    ("lease ls", 0),
    ("lease ls --limit database --state ended", 0),
    ("lease ls --limit nothing", 3),
    ("lease inspect 00000000-0000-4000-a000-000000000000", 3),
    ("lease revoke 00000000-0000-4000-a000-000000000000", 3),
    ("top --once", 0),
    ("top database --sort saturation", 0),
    ("top nothing", 3),
    ("completion bash", 0),
    ("limit delete hour --yes", 0),
    ("limit delete hour -y", 3),
]


def test_a_story_of_all_commands_is_told_alike_in_words_and_in_json(cli: Cli, gate: str) -> None:
    for line, code in STORY:
        said = cli(line)
        assert said.code == code, (line, said)
        assert bool(said.err) or bool(said.out), line
        assert "Traceback" not in said.err
    names = [limit.name for limit in cli("limit ls -o json").parsed(list[LimitInfo])]
    assert names == ["api", "database"]
    assert cli("limit inspect database -o json").parsed(LimitInfo).limit == 3
    assert cli("lease ls -o json").parsed(list[LeaseInfo]) == []
    assert cli("top -o json").parsed(Snapshot).leases is None
    for line in (
        "limit inspect nothing",
        "limit create database --limit 1",
        "limit update database --limit x",
    ):
        assert cli(f"{line} -o json").problem()["code"] in {"limit_not_found", "limit_exists", "usage"}


@pytest.mark.parametrize("gate", ["file", "server"], indirect=True)  # each takes ten seconds
def test_run_and_leases_have_their_exit_codes(real: Real, gate: str) -> None:
    real.environment["EBBGATE_URL"] = real.url = gate
    for line in ("db --limit 1", "api --limit 1 --rate 1/day", "closed --limit 0"):
        assert real("limit", "create", *line.split()).code == 0
    assert real("run", "--limit", "db", "--", "sh", "-c", "exit 7").code == 7
    assert real("run", "--limit", "db", "--rate-limit", "api", "--", "true").code == 0
    assert real("run", "--rate-limit", "api", "--timeout", "0", "--", "true").code == 75
    assert real("run", "--rate-limit", "db", "--", "true").code == 2
    assert real("run", "--limit", "db", "--occupy", "2", "--", "true").code == 2
    assert real("run", "--limit", "nothing", "--strict", "--", "true").code == 3
    with real.holding("--limit", "db", "--label", "job=report", "--priority", "3") as holder:
        assert real("run", "--limit", "db", "--timeout", "0", "--", "true").code == 75
        with real.started("run", "-o", "json", "--limit", "db", "--timeout", "4", "--", "true") as silent:
            late = real("run", "--limit", "db", "--timeout", "4", "--", "true")
            assert Result(*ended(silent)).problem()["code"] == "acquire_timeout"
        assert late.code == 124
        first, second = late.err.splitlines()
        assert re.match(r"ebbgate: waiting for 'db' for [2-4]s, (next|no\. 2) in line: held by ", first)
        assert "(command=sh job=report)" in first
        assert second.startswith("ebbgate: no slot is free on 'db' within 4 seconds")
        assert real("limit", "delete", "db", "--yes").code == 4
        (lease,) = real("lease", "ls", "-o", "json").parsed(list[LeaseInfo])
        assert lease.holder.labels["job"] == "report"
        short = lease.id[-8:]
        assert real("lease", "inspect", short).code == 0
        assert real("lease", "revoke", short).code == 0
        assert real("limit", "delete", "db", "--yes", "--force").code == 0
        holder.communicate("\n", timeout=20)
