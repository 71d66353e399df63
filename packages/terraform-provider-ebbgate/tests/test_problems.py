"""What goes wrong is told in words, at the line that it is about, and leaves a state that the next plan understands."""

import tempfile
from pathlib import Path

import pytest
from terraform_support import Limits, Workspace, resource

from tests.server.certificates import make_certificates
from tests.server.processes import started

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-tests-0123456789"


def test_what_a_limit_cannot_be_is_told_at_the_attribute_and_the_others_are_made(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    long = "x" * 2_001
    cases = {
        "slots": ("limit = -1", "limit must be from 0 to 1,000,000,000 slots, got -1"),
        "whole": ("limit = 1.5", "Expected `int`, got `float`"),
        "huge": ("limit = 1e30", "limit"),
        "decay": ("slot_decay_per_second = -0.5", "slot_decay_per_second must be 0, or from 1e-9 to 1e6"),
        "tiny": ("slot_decay_per_second = 1e-10", "slot_decay_per_second must be 0, or from 1e-9 to 1e6"),
        "rate": ('rate = "often"', "'often' is not a rate; write it like 5/s"),
        "zero": ('rate = "0/s"', "the rate '0/s' would never return a slot"),
        "bare": ('rate = "90"', "the rate '90' has no unit of time; write 90/s"),
        "fast": ('rate = "9999999/s"', "slot_decay_per_second must be 0, or from 1e-9 to 1e6"),
        "text": (f'description = "{long}"', "the description has at most 2000 characters, got 2001"),
    }
    parts = [
        resource(f"{name}-good", "limit = 5", label="good"),
        resource(f"{name}/x", "limit = 5", label="name"),
    ]
    for label, (line, _) in cases.items():
        parts.append(
            resource(f"{name}-{label}", *(() if "limit =" in line else ("limit = 5",)), line, label=label)
        )
    workspace.write("".join(parts))
    assert workspace.plan()  # the server says what a limit may be, and a plan asks for nothing
    failed = workspace.apply("plan", code=1)
    lines = (workspace.folder / "main.tf").read_text().splitlines()
    for line, words in (*cases.values(), (f'name = "{name}/x"', "the name of a limit cannot contain /")):
        assert words in failed.said.replace("2,000", "2000"), words
        number = lines.index(f"  {line}") + 1
        assert f"on main.tf line {number}," in failed.said, (line, failed.err)
    assert limits.names(name) == [f"{name}-good"]
    assert set(workspace.state()) == {"ebbgate_limit.good"}
    again = workspace.plan()
    assert set(again) == {f"ebbgate_limit.{label}" for label in (*cases, "name")}
    assert {changed.actions for changed in again.values()} == {("create",)}


def test_a_failed_change_leaves_the_limit_and_the_state_as_they_were(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    workspace.write(resource(name, "limit = 5"))
    workspace.apply()
    workspace.write(resource(name, "limit = -5", 'description = "new"'))
    assert "on main.tf line 3," in workspace.apply(code=1).said
    assert (limits.get(name)["limit"], limits.get(name)["description"]) == (5, "")
    assert [changed.actions for changed in workspace.plan().values()] == [("update",)]
    workspace.write(resource(name, "limit = 5"))
    assert workspace.plan() == {}


def test_rate_and_decay_exclude_each_other_before_anything_is_asked(workspace: Workspace, name: str) -> None:
    workspace.write(resource(name, "limit = 5", 'rate = "5/s"', "slot_decay_per_second = 5"))
    for command in (("validate", "-no-color"), ("plan", "-no-color")):
        done = workspace.terraform(*command)
        assert done.code == 1
        assert "on main.tf line 4," in done.said
        assert "rate and slot_decay_per_second exclude each other" in done.said


def test_what_must_be_given_is_asked_for_by_the_plan_also_if_it_is_null(
    workspace: Workspace, name: str
) -> None:
    workspace.write(
        'variable "slots" {\n  type = number\n  default = null\n}\n' + resource(name, "limit = var.slots")
    )
    done = workspace.terraform("plan", "-no-color")
    assert done.code == 1
    assert "on main.tf line 7," in done.said
    assert "limit must be given" in done.said


def test_a_name_that_is_taken_is_told_at_the_name(workspace: Workspace, limits: Limits, name: str) -> None:
    made = limits.ask("POST", "/v1/limits", name=name, limit=3)
    workspace.write(resource(name, "limit = 5"))
    failed = workspace.apply(code=1)
    assert "on main.tf line 2," in failed.said
    assert f"a limit named '{name}' exists already" in failed.said
    assert f"terraform import ebbgate_limit.LABEL '{name}'" in failed.said
    assert limits.read(name) == made
    assert workspace.state() == {}
    # As it says:
    assert workspace.terraform("import", "ebbgate_limit.it", name).code == 0
    workspace.apply()
    assert limits.get(name)["limit"] == 5
    # Renaming to a taken name
    limits.ask("POST", "/v1/limits", name=f"{name}-taken", limit=3)
    workspace.write(resource(f"{name}-taken", "limit = 5"))
    assert "on main.tf line 2," in workspace.apply(code=1).said
    assert limits.get(name)["limit"] == 5
    workspace.write(resource(name, "limit = 5"))
    assert workspace.plan() == {}


def test_a_limit_in_use_is_destroyed_only_by_force(workspace: Workspace, limits: Limits, name: str) -> None:
    workspace.write(resource(name, "limit = 2"))
    workspace.apply()
    with limits.holding(name):
        failed = workspace.apply("-destroy", code=1)
        assert f"limit '{name}' has 1 holder and 0 waiters" in failed.said
        assert "or set force_destroy = true, apply, then destroy" in failed.said
        assert limits.get(name)["held_slots"] == 1
        assert workspace.plan() == {}
        workspace.write(resource(name, "limit = 2", "force_destroy = true"))
        (forced,) = workspace.plan().values()
        assert (forced.actions, forced.unknown) == (("update",), {"updated"})
        workspace.apply("plan")
        workspace.apply("-destroy")
        assert limits.read(name) is None
    assert workspace.state() == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ebbgate://127.0.0.1:9", "http://127.0.0.1:9 does not answer: Connection refused; is it running?"),
        ("", "set url, or EBBGATE_URL, to a server such as ebbgate://host:4220"),
        ("sqlite:///limits.db", "is a store of one machine, and Terraform needs a server"),
        ("ftp://host", "names no server; write ebbgate://host:4220"),
        ("ebbgate://u:secret@host", "an API key does not belong into the URL"),
    ],
)
def test_a_server_that_cannot_be_asked_is_told_once(
    workspace: Workspace, name: str, url: str, said: str
) -> None:
    workspace.write(
        f'provider "ebbgate" {{\n  url = "{url}"\n}}\n'
        + "".join(resource(f"{name}-{number}", "limit = 5", label=f"l{number}") for number in range(5))
    )
    done = workspace.terraform("plan", "-no-color", "-input=false", more={"EBBGATE_URL": ""})
    assert done.code == 1
    assert done.said.count("Error:") == 1
    assert said in done.said
    assert "on main.tf line 2," in done.said


def test_a_server_that_goes_between_plan_and_apply_leaves_a_state_that_is_understood(
    workspace: Workspace, name: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="eg") as short:
        folder = Path(short)
        with started(folder) as server:
            port = server.url.rpartition(":")[2]
            workspace.environment["EBBGATE_URL"] = server.url
            workspace.write(resource(f"{name}-a", "limit = 5", label="a"))
            workspace.apply()
            workspace.write(
                resource(f"{name}-a", "limit = 6", label="a") + resource(f"{name}-b", "limit = 5", label="b")
            )
            assert len(workspace.plan()) == 2
        failed = workspace.apply("plan", code=1)
        assert "does not answer" in failed.said
        assert workspace.terraform("state", "list").out == "ebbgate_limit.a\n"
        with started(folder, "--port", port):
            changes = workspace.plan()
            assert {address: changed.actions for address, changed in changes.items()} == {
                "ebbgate_limit.a": ("update",),
                "ebbgate_limit.b": ("create",),
            }
            workspace.apply("plan")
            assert workspace.plan() == {}


def test_keys_are_asked_for_accepted_and_never_shown(workspace: Workspace, name: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="eg") as short,
        started(Path(short), environment={"EBBGATE_API_KEYS": f"team={KEY}"}) as server,
    ):
        workspace.environment["EBBGATE_URL"] = server.url
        provider = 'variable "key" {\n  type = string\n}\nprovider "ebbgate" {\n  api_key = var.key\n}\n'
        workspace.write('provider "ebbgate" {}\n' + resource(name, "limit = 5"))
        for more in ({}, {"EBBGATE_API_KEY": "another-key-0123456789"}):
            wrong = workspace.terraform("plan", "-no-color", "-input=false", more=more)
            assert wrong.code == 1
            assert wrong.said.count("Error:") == 1
            assert "another-key" not in wrong.said
        workspace.apply(more={"EBBGATE_API_KEY": KEY})
        workspace.write(provider + resource(name, "limit = 6"))
        wrong = workspace.terraform(
            "plan", "-no-color", "-input=false", more={"TF_VAR_key": "wrong-key-0123456789"}
        )
        assert "on main.tf line 5," in wrong.said
        assert "wrong-key" not in wrong.said
        applied = workspace.apply(more={"TF_VAR_key": KEY})
        assert KEY not in applied.said
        assert KEY not in (workspace.folder / "terraform.tfstate").read_text()


def test_a_server_that_is_known_only_after_apply_is_waited_for(
    workspace: Workspace, served: str, name: str
) -> None:
    provider = 'provider "ebbgate" {\n  url = terraform_data.server.output\n}\n'
    workspace.write(
        f'resource "terraform_data" "server" {{\n  input = "{served}"\n}}\n'
        + provider
        + resource(name, "limit = 5")
    )
    workspace.apply(more={"EBBGATE_URL": ""})
    assert workspace.plan() == {}


def test_a_server_behind_tls_is_trusted_by_its_authority(workspace: Workspace, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="eg") as short:
        folder = make_certificates(Path(short))
        flags = ("--tls-cert", str(folder / "one.pem"), "--tls-key", str(folder / "one.key"))
        with started(Path(short), *flags) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            provider = f'provider "ebbgate" {{\n  url = "{url}"\n}}\n'
            workspace.write(provider + resource(name, "limit = 5"))
            failed = workspace.terraform("plan", "-no-color")
            assert "its certificate is not trusted" in failed.said
            assert "on main.tf line 2," in failed.said
            workspace.apply(more={"EBBGATE_CA_FILE": str(folder / "one.pem")})
            nowhere = provider.replace("}\n", '  ca_file = "nowhere.pem"\n}\n')
            workspace.write(nowhere + resource(name, "limit = 5"))
            failed = workspace.terraform("plan", "-no-color")
            assert "nowhere.pem: " in failed.said
            assert "on main.tf line 3," in failed.said
