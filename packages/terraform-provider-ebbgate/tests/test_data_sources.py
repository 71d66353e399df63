"""What is looked up: limits with what is going on at them."""

import pytest
from terraform_support import Limits, Workspace, resource

pytestmark = pytest.mark.slow


def test_a_limit_is_looked_up_by_name_or_id_with_its_occupancy(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    made = limits.ask(
        "POST", "/v1/limits", name=name, limit=3, slot_decay_per_second=0.1, description="theirs"
    )
    workspace.write(
        f'data "ebbgate_limit" "by_name" {{\n  name = "{name}"\n}}\n'
        f'data "ebbgate_limit" "by_id" {{\n  id = "{made["id"]}"\n}}\n'
        'output "same" {\n  value = data.ebbgate_limit.by_id.slot_decay_per_second == 0.1\n}\n'
    )
    with limits.holding(name):
        applied = workspace.apply()
        shown = limits.get(name)
    assert "same = true" in applied.said
    for found in workspace.state().values():
        assert found == shown
    assert shown["held_slots"] == 1


def test_limits_are_looked_up_by_prefix(workspace: Workspace, limits: Limits, name: str) -> None:
    for number in range(3):
        limits.ask("POST", "/v1/limits", name=f"{name}-{number}", limit=number, slot_decay_per_second=0.1)
    workspace.write(
        f'data "ebbgate_limits" "some" {{\n  prefix = "{name}"\n}}\n'
        'data "ebbgate_limits" "none" {\n  prefix = "nobody has this"\n}\n'
        'data "ebbgate_limits" "all" {}\n'
        'output "slots" {\n  value = sum(data.ebbgate_limits.some.limits[*].limit)\n}\n'
    )
    assert "slots = 3" in workspace.apply().said
    state = workspace.state()
    some = state["data.ebbgate_limits.some"]["limits"]
    assert [entry["name"] for entry in some] == [f"{name}-{number}" for number in range(3)]
    assert some[0] == limits.get(f"{name}-0")
    assert state["data.ebbgate_limits.none"]["limits"] == []
    assert len(state["data.ebbgate_limits.all"]["limits"]) >= 3


def test_a_lookup_waits_for_what_it_depends_on(workspace: Workspace, name: str) -> None:
    workspace.write(
        resource(name, "limit = 5")
        + 'data "ebbgate_limit" "it" {\n  id = ebbgate_limit.it.id\n}\n'
        + f'data "ebbgate_limit" "named" {{\n  name = "{name}"\n  depends_on = [ebbgate_limit.it]\n}}\n'
    )
    workspace.apply()
    assert workspace.state()["data.ebbgate_limit.it"]["name"] == name
    assert workspace.plan() == {}


@pytest.mark.parametrize(
    ("lines", "said", "line"),
    [
        ('name = "nobody-has-this"', "no limit is named 'nobody-has-this'", 2),
        ('name = "a"\n  id = "b"', "give name or id, one of them", 2),
        ("", "give name or id, one of them", 1),
    ],
)
def test_a_lookup_that_finds_nothing_is_told(workspace: Workspace, lines: str, said: str, line: int) -> None:
    workspace.write(f'data "ebbgate_limit" "it" {{\n  {lines}\n}}\n')
    done = workspace.terraform("plan", "-no-color")
    assert done.code == 1
    assert said in done.said
    assert f"on main.tf line {line}," in done.said
