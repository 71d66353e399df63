"""The life of a limit in Terraform, from the first plan to its end."""

import pytest
from terraform_support import Limits, Workspace, resource

pytestmark = pytest.mark.slow


def test_a_limit_is_created_changed_and_destroyed_and_a_second_plan_changes_nothing(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    workspace.write(resource(name, "limit = 5"))
    assert workspace.terraform("validate", "-no-color").code == 0
    (planned,) = workspace.plan().values()
    assert planned.actions == ("create",)
    assert planned.unknown == {"id", "created", "updated"}
    workspace.apply("plan")
    made = limits.get(name)
    assert (made["limit"], made["slot_decay_per_second"], made["active"]) == (5, 0, True)
    assert workspace.plan() == {}

    every = ('description = "the main one"', "active = false", "slot_decay_per_second = 2")
    workspace.write(resource(name, "limit = 7", *every))
    (changed,) = workspace.plan().values()
    assert changed.actions == ("update",)
    assert changed.unknown == {"updated"}
    workspace.apply("plan")
    after = limits.get(name)
    assert after["id"] == made["id"]
    assert (after["limit"], after["description"]) == (7, "the main one")
    assert (after["active"], after["slot_decay_per_second"]) == (False, 2)
    assert workspace.plan() == {}

    workspace.write(resource(name, "limit = 7"))  # what is left out is as in a new limit
    (removed,) = workspace.plan().values()
    assert removed.after.items() >= {"description": "", "active": True, "slot_decay_per_second": 0}.items()
    workspace.apply("plan")
    bare = limits.get(name)
    assert (bare["description"], bare["active"], bare["slot_decay_per_second"]) == ("", True, 0)
    assert workspace.plan() == {}

    workspace.apply("-destroy")
    assert limits.read(name) is None
    assert workspace.state() == {}


DECAYS = ("0.1", "1 / 7", "1e-9", "0.5", "0.30000000000000004", "1000000", "100 / 3", "0.000001")


def test_decimals_keep_every_digit(workspace: Workspace, limits: Limits, name: str) -> None:
    workspace.write(
        "".join(
            resource(f"{name}-{number}", "limit = 5", f"slot_decay_per_second = {decay}", label=f"d{number}")
            for number, decay in enumerate(DECAYS)
        )
    )
    workspace.apply()
    for number, decay in enumerate(DECAYS):
        left, _, right = decay.partition(" / ")
        exact = float(left) / float(right or "1")
        assert limits.get(f"{name}-{number}")["slot_decay_per_second"] == exact, decay
    assert workspace.plan() == {}
    # Refreshed and kept as they were read: still the same.
    workspace.apply("-refresh-only")
    assert workspace.plan() == {}
    # A change of something else leaves the digits alone.
    workspace.write((workspace.folder / "main.tf").read_text().replace("limit = 5", "limit = 6"))
    changes = workspace.plan()
    assert len(changes) == len(DECAYS)
    assert {changed.actions for changed in changes.values()} == {("update",)}
    assert all(
        changed.before["slot_decay_per_second"] == changed.after["slot_decay_per_second"]
        for changed in changes.values()
    )


def test_a_limit_is_renamed_in_place(workspace: Workspace, limits: Limits, name: str) -> None:
    workspace.write(resource(name, "limit = 5"))
    workspace.apply()
    before = limits.get(name)
    with limits.holding(name):
        workspace.write(resource(f"{name}-new", "limit = 5"))
        assert [changed.actions for changed in workspace.plan().values()] == [("update",)]
        workspace.apply("plan")
        after = limits.get(f"{name}-new")
        assert after["id"] == before["id"]
        assert after["held_slots"] == 1
    assert limits.read(name) is None
    assert workspace.plan() == {}


def test_drift_is_shown_and_mended(workspace: Workspace, limits: Limits, name: str) -> None:
    workspace.write(resource(name, "limit = 5", 'description = "ours"'))
    workspace.apply()
    limits.ask(
        "PATCH", f"/v1/limits/{name}", limit=9, active=False, slot_decay_per_second=0.3, description="x"
    )
    (drift,) = workspace.plan().values()
    assert drift.actions == ("update",)
    assert (drift.before["limit"], drift.after["limit"]) == (9, 5)
    assert (drift.before["slot_decay_per_second"], drift.after["slot_decay_per_second"]) == (0.3, 0)
    workspace.apply("plan")
    mended = limits.get(name)
    assert (mended["limit"], mended["active"], mended["slot_decay_per_second"]) == (5, True, 0)
    assert mended["description"] == "ours"
    # Renamed by hand: it is found by its id, and gets its name back.
    limits.ask("PATCH", f"/v1/limits/{name}", name=f"{name}-other")
    assert [changed.actions for changed in workspace.plan().values()] == [("update",)]
    workspace.apply("plan")
    assert limits.get(name)["id"] == mended["id"]
    # Changed by hand between plan and apply: what was planned holds, even if it was of Terraform's own alone.
    workspace.write(resource(name, "limit = 5", 'description = "ours"', "force_destroy = true"))
    assert [changed.actions for changed in workspace.plan().values()] == [("update",)]
    limits.ask("PATCH", f"/v1/limits/{name}", limit=9)
    workspace.apply("plan")
    assert limits.get(name)["limit"] == 5


def test_a_limit_deleted_by_hand_is_planned_again(workspace: Workspace, limits: Limits, name: str) -> None:
    workspace.write(resource(name, "limit = 5"))
    workspace.apply()
    limits.ask("DELETE", f"/v1/limits/{name}")
    assert [changed.actions for changed in workspace.plan().values()] == [("create",)]
    workspace.apply("plan")
    assert limits.read(name)
    limits.ask("DELETE", f"/v1/limits/{name}")
    workspace.apply("-destroy", "-refresh=false")  # gone already: that is what was wanted
    assert workspace.state() == {}


@pytest.mark.parametrize("what", ["name", "id"])
def test_import_by_command(workspace: Workspace, limits: Limits, name: str, what: str) -> None:
    made = limits.ask(
        "POST", "/v1/limits", name=f"{name} ö", limit=3, slot_decay_per_second=1 / 7, active=False
    )
    workspace.write(
        resource(made["name"], "limit = 3", "active = false", "slot_decay_per_second = 0.14285714285714285")
    )
    done = workspace.terraform("import", "-no-color", "ebbgate_limit.it", made[what])
    assert done.code == 0, done
    assert workspace.plan() == {}
    workspace.write(resource(made["name"], "limit = 3", "active = false", "slot_decay_per_second = 1 / 7"))
    assert workspace.plan() == {}


@pytest.mark.parametrize("what", ["name", "id"])
def test_import_by_block(workspace: Workspace, limits: Limits, name: str, what: str) -> None:
    made = limits.ask("POST", "/v1/limits", name=name, limit=3, description="old")
    block = f'import {{\n  to = ebbgate_limit.it\n  id = "{made[what]}"\n}}\n'
    workspace.write(block + resource(name, "limit = 4"))
    (imported,) = workspace.plan().values()
    assert imported.actions == ("update",)
    workspace.apply("plan")
    after = limits.get(name)
    assert (after["id"], after["limit"], after["description"]) == (made["id"], 4, "")
    assert workspace.plan() == {}


def test_a_configuration_is_generated_for_an_imported_limit(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    limits.ask("POST", "/v1/limits", name=name, limit=3, slot_decay_per_second=0.1, description="old")
    workspace.write(f'import {{\n  to = ebbgate_limit.it\n  id = "{name}"\n}}\n')
    done = workspace.terraform("plan", "-no-color", "-generate-config-out=generated.tf")
    assert done.code == 0, done
    assert "1 to import, 0 to add, 0 to change" in done.said
    assert "slot_decay_per_second = 0.1\n" in (workspace.folder / "generated.tf").read_text()


def test_a_limit_that_is_not_there_cannot_be_imported(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    limits.ask("POST", "/v1/limits", name=f"{name}-database", limit=3)
    workspace.write(resource(name, "limit = 3"))
    done = workspace.terraform("import", "-no-color", "ebbgate_limit.it", f"{name}-databse")
    assert done.code == 1
    assert f"did you mean '{name}-database'?" in done.said


def test_a_rate_is_written_as_people_write_it(workspace: Workspace, limits: Limits, name: str) -> None:
    workspace.write(resource(name, "limit = 60", 'rate = "60/hour"'))
    (planned,) = workspace.plan().values()
    assert "slot_decay_per_second" in planned.unknown  # what a rate means is the server's to say
    workspace.apply("plan")
    assert limits.get(name)["slot_decay_per_second"] == 1 / 60
    assert workspace.plan() == {}
    workspace.write(resource(name, "limit = 61", 'rate = "60/hour"'))
    (other,) = workspace.plan().values()
    assert other.unknown == {"updated"}
    workspace.write(resource(name, "limit = 60", 'rate = "5/s"'))
    workspace.apply()
    assert limits.get(name)["slot_decay_per_second"] == 5
    # Changed by hand: the rate is shown as missing, and mended.
    limits.ask("PATCH", f"/v1/limits/{name}", slot_decay_per_second=0.25)
    (drift,) = workspace.plan().values()
    assert (drift.before["slot_decay_per_second"], drift.before["rate"], drift.after["rate"]) == (
        0.25,
        None,
        "5/s",
    )
    workspace.apply("plan")
    assert limits.get(name)["slot_decay_per_second"] == 5
    # The other way to say it, and none.
    workspace.write(resource(name, "limit = 60", "slot_decay_per_second = 5"))
    workspace.apply()
    assert workspace.plan() == {}
    workspace.write(resource(name, "limit = 60"))
    workspace.apply()
    assert limits.get(name)["slot_decay_per_second"] == 0
    assert workspace.plan() == {}


def test_values_may_be_known_only_when_they_are_applied(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    workspace.write(
        'resource "terraform_data" "later" {\n  input = { limit = 3, rate = "5/s", name = "'
        + name
        + '" }\n}\n'
        'resource "ebbgate_limit" "it" {\n  name = terraform_data.later.output.name\n'
        "  limit = terraform_data.later.output.limit\n  rate = terraform_data.later.output.rate\n}\n"
    )
    assert workspace.plan()["ebbgate_limit.it"].unknown >= {"name", "limit", "rate", "slot_decay_per_second"}
    workspace.apply("plan")
    made = limits.get(name)
    assert (made["limit"], made["slot_decay_per_second"]) == (3, 5)
    assert workspace.plan() == {}


def test_changes_never_touch_what_is_going_on_at_a_limit(
    workspace: Workspace, limits: Limits, name: str
) -> None:
    workspace.write(resource(name, "limit = 2", "slot_decay_per_second = 0.001"))
    workspace.apply()
    limits.ask("POST", "/v1/spends", limits=[{"name": name}])
    with limits.holding(name):
        assert workspace.plan() == {}  # occupancy is no attribute of the resource, so it is no drift
        workspace.write(resource(name, "limit = 5", "slot_decay_per_second = 0.002"))
        workspace.apply()
        busy = limits.get(name)
        assert (busy["held_slots"], busy["active_slots"]) == (1, 2)
        assert workspace.plan() == {}
