"""`ebbgate doctor`: what it is connected to, and whether all is well."""

from pathlib import Path

import pytest

from ebbgate.cli import doctor as module
from ebbgate.cli import surroundings
from ebbgate.cli.doctor import Report
from tests.cli.support import Cli, Real


def report(cli: Cli) -> Report:
    cli_says = cli("doctor -o json")
    assert not cli_says.err
    return cli_says._replace(code=0).parsed(Report)


def test_a_new_store_is_well(cli: Cli, url: str, tmp_path: Path) -> None:
    said = cli("doctor")
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("all is well\n")
    for part in (url, str(tmp_path / "limits.db"), "mode 0600", "schema 1", "0 held, 0 waiting"):
        assert part in said.out
    found = report(cli)
    assert found.ok
    assert found.url_from == "EBBGATE_URL"
    assert found.decision_ms is not None
    assert found.file is not None
    assert found.file.path == str(tmp_path / "limits.db")


def test_it_counts_what_is_there_and_leaves_nothing_behind(cli: Cli, real: Real) -> None:
    cli("limit create db --limit 5")
    with real.holding("--limit", "db") as holder:
        store = report(cli).store
        assert store is not None
        assert (store.limits, store.held, store.waiting) == (1, 1, 0)
        assert [who.rpartition(":")[2] for who in store.others_alive] == [str(holder.pid)]
        assert f"1 other alive: {store.others_alive[0]}" in cli("doctor").out
    store = report(cli).store
    assert store is not None
    assert (store.limits, store.held, store.others_alive) == (1, 0, [])


def test_every_problem_names_the_next_step(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("limit ls")
    (tmp_path / "limits.db").chmod(0o666)
    (refused,) = report(cli).problems
    assert (refused.code, "chmod o-w" in refused.what + refused.next) == ("store_unavailable", True)
    (tmp_path / "limits.db").chmod(0o600)
    monkeypatch.setattr(module, "file_system", lambda _path: "nfs4")
    monkeypatch.setattr(module, "free_bytes", lambda _path: 1024)
    monkeypatch.setattr(module, "LOG_MAX", 0)
    monkeypatch.setattr(module, "DECISION_MAX_SECONDS", 0)
    said = cli("doctor")
    assert said.code == 1
    assert "all is well" not in said.out
    found = report(cli)
    assert {problem.code for problem in found.problems} == {
        "network_disk", "disk_full", "large_log", "slow"
    }  # fmt: skip
    assert all(problem.next for problem in found.problems)
    assert said.out.count("\n  -> ") == len(found.problems) + len(found.notes)


def test_a_file_that_is_private_to_a_container_is_noted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "container", lambda: "a Docker container")
    monkeypatch.setattr(module, "lies_on_volume", lambda _path: False)
    assert [note.code for note in report(cli).notes] == ["private_to_container"]
    monkeypatch.setattr(module, "lies_on_volume", lambda _path: True)
    assert report(cli).notes == []
    monkeypatch.setattr(module, "container", lambda: "")
    monkeypatch.setattr(module, "lies_on_volume", lambda _path: False)
    assert report(cli).notes == []


@pytest.mark.parametrize(
    "url", ["memory://", "sqlite:////dev/null/x.db", "ebbgate://host", "nonsense", "sqlite:////dev/null"]
)
def test_a_place_that_is_no_store_is_told_and_not_thrown(
    cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBBGATE_URL", url)
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "0.3")
    said = cli("doctor")
    assert said.code == (0 if url == "memory://" else 1)
    found = report(cli)
    assert found.url == url
    assert len([*found.problems, *found.notes]) == 1


def test_a_key_in_the_address_is_not_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBGATE_URL", "ebbgate://:secret@host")
    for said in (cli("doctor"), cli("doctor -o json")):
        assert said.code == 1
        assert "secret" not in f"{said.out}{said.err}"


def test_a_damaged_file_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "limits.db").write_bytes(b"not a database" * 1000)
    said = cli("doctor")
    assert said.code == 1
    assert "is not an SQLite database" in said.out
    assert "Traceback" not in said.out + said.err
    assert report(cli).problems[0].code == "store_unavailable"


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    assert surroundings.file_system(Path("/proc/self/status")) == "proc"
    assert surroundings.is_network_disk("nfs4")
    assert not surroundings.is_network_disk("ext4")
