"""`ebbgate-terraform install`, `uninstall` and `doctor`, and what needs no Terraform to be tested."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from terraform_support import Workspace

from ebbgate_terraform import install as installing
from ebbgate_terraform.command import main
from ebbgate_terraform.install import LAUNCHER, PLATFORMS, SOURCE, NotInstalledError, install, uninstall
from ebbgate_terraform.problems import Problem, attribute_of
from ebbgate_terraform.rest import addresses_of


def test_the_launcher_is_the_same_for_every_platform(tmp_path: Path) -> None:
    written = install(tmp_path)
    assert len(written) == len(PLATFORMS)
    assert {path.read_bytes() for path in written} == {LAUNCHER}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o755}
    assert install(tmp_path) == written  # again: nothing else
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)


def test_uninstall_removes_what_was_installed_and_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / "registry.terraform.io" / "hashicorp" / "null" / "x"
    other.parent.mkdir(parents=True)
    other.touch()
    neighbour = tmp_path / SOURCE / "0.0.1" / "linux_amd64" / "notes.txt"
    written = install(tmp_path)
    neighbour.parent.mkdir(parents=True)
    neighbour.touch()
    old = neighbour.with_name("terraform-provider-ebbgate_v0.0.1")
    old.touch()
    assert sorted(uninstall(tmp_path)) == sorted([*written, old])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([other, neighbour])
    neighbour.unlink()
    install(tmp_path)
    uninstall(tmp_path)
    assert not list(tmp_path.glob("terraform.local/ebbgate/ebbgate/0.1*"))
    assert uninstall(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotInstalledError, match="name another folder: --folder"):
        install(tmp_path / "file" / "below")


def test_windows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NotInstalledError, match="the provider runs on Unix"):
        install(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["install", "--folder", str(tmp_path)])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.err.count("wrote ") == len(PLATFORMS)
    assert f'source  = "{SOURCE}"' in said.out
    with pytest.raises(SystemExit) as ended:
        main(["uninstall", "--folder", str(tmp_path)])
    assert ended.value.code == 0
    assert capsys.readouterr().err.count("removed ") == len(PLATFORMS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_terraform_finds_it_in_the_folder_of_the_user_without_any_configuration(
    bin_folder: Path, served: str, mirror: Path, tmp_path: Path
) -> None:
    """As people do it: install, write the lines that it prints, init. The doctor agrees before and after."""
    workspace = Workspace(tmp_path, bin_folder, mirror, served)
    del workspace.environment["TF_CLI_CONFIG_FILE"]

    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [bin_folder / "ebbgate-terraform", *arguments], env=workspace.environment, text=True,
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip

    sick = command("doctor")
    assert sick.returncode == 1
    assert "write it: ebbgate-terraform install" in sick.stdout
    installed = command("install")
    assert installed.returncode == 0
    (workspace.folder / "versions.tf").unlink()
    lines = installed.stdout.partition("\n\n")[2].replace(
        'url = "ebbgate://127.0.0.1:4220"    # or EBBGATE_URL; the key: EBBGATE_API_KEY', ""
    )
    workspace.write(lines)
    done = workspace.terraform("init", "-no-color", "-input=false")
    assert done.code == 0, done
    assert "unauthenticated" in done.said  # no registry was asked
    assert workspace.terraform("validate").code == 0
    well = command("doctor")
    assert well.returncode == 0, well.stdout
    assert "PROBLEM" not in well.stdout
    # What may go wrong
    launcher = next((tmp_path / "home" / ".terraform.d").rglob(f"*{installing.this_platform()}/terraform-*"))
    launcher.write_text("#!/bin/sh\n")
    assert "was changed, so lock files will not match" in command("doctor").stdout
    command("install")
    config = tmp_path / "home" / ".terraformrc"
    config.write_text("provider_installation {\n  direct {}\n}\n")
    assert "provider_installation without this folder" in command("doctor").stdout
    config.unlink()
    workspace.environment["EBBGATE_URL"] = "ebbgate://127.0.0.1:9"
    assert "does not answer" in command("doctor").stdout


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ebbgate://host", ["http://host:4220"]),
        ("ebbgates://host", ["https://host:443"]),
        ("http://[::1]:8080/limits/", ["http://[::1]:8080/limits"]),
        ("ebbgate://a:1,b:2", ["http://a:1", "http://b:2"]),
    ],
)
def test_a_server_is_named_as_for_every_other_client(url: str, shown: list[str]) -> None:
    from ebbgate.client.remote.addresses import addresses_of as theirs

    found = addresses_of(url)
    assert [str(address) for address in found] == shown
    assert [(a.host, a.port, a.secure, a.prefix) for a in found] == [
        (a.host, a.port, a.secure, a.prefix) for a in theirs(url)
    ]


@pytest.mark.parametrize(
    "url", ["", "host", "ftp://host", "ebbgate://", "ebbgate://h:99999", "ebbgate://h?x=1", "memory://"]
)
def test_what_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(Problem):
        addresses_of(url)


def test_every_word_of_the_core_about_a_limit_is_assigned_to_an_attribute() -> None:
    from ebbgate.core.decay import check_decay, parse_rate
    from ebbgate.core.limits import check_description, check_name, check_slots
    from ebbgate.errors import InvalidLimit

    wrong: dict[str, list[tuple[object, ...]]] = {
        "name": [
            (check_name, value)
            for value in ("", "a/b", "..", " a", "a\n", 5, "x" * 201, "01a1f8fe-7a88-7d8e-adca-b13132218aee")
        ],
        "limit": [(check_slots, value) for value in (-1, 10**10, 1.5, True)],
        "slot_decay_per_second": [(check_decay, value) for value in (-1, 1e-10, float("nan"), "x")],
        "rate": [(parse_rate, value) for value in ("often", "5/fortnight")],
        "description": [(check_description, value) for value in (5, "x" * 2_001)],
    }
    for attribute, cases in wrong.items():
        for check, value in cases:
            assert callable(check)
            with pytest.raises(InvalidLimit) as raised:
                check(value)
            problem = Problem(raised.value.code, "A limit cannot be so", str(raised.value))
            assert attribute_of(problem) == attribute, problem.detail


def test_the_launcher_needs_nothing_but_a_shell(tmp_path: Path) -> None:
    (tmp_path / "launcher").write_bytes(LAUNCHER)
    command = tmp_path / "home" / ".local" / "bin" / "ebbgate-terraform"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "asked for $1"\n')
    command.chmod(0o755)
    missing = subprocess.run(
        ["/bin/sh", tmp_path / "launcher"], capture_output=True, text=True, check=False,
        env={"HOME": str(tmp_path), "PATH": os.defpath},
    )  # fmt: skip
    assert missing.returncode == 127
    assert missing.stdout.startswith("ebbgate-terraform is not on PATH; install it: ")
    done = subprocess.run(
        ["/bin/sh", tmp_path / "launcher"], capture_output=True, text=True, check=True,
        env={"HOME": str(tmp_path / "home"), "PATH": os.defpath},
    )  # fmt: skip
    assert done.stdout == "asked for provider\n"
