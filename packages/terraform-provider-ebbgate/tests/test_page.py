"""What docs/how-to/terraform.md shows works, and names everything that there is."""

import re

import pytest
from terraform_environment import ROOT
from terraform_support import Limits, Workspace

from ebbgate.cli.limits_file import Entry

PAGE = (ROOT / "docs" / "how-to" / "terraform.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_what_the_page_shows_works(workspace: Workspace, limits: Limits, served: str) -> None:
    assert [block.split()[0] for block in BLOCKS] == ["terraform", "import", "data"]
    (workspace.folder / "versions.tf").unlink()
    for name in ("database", "reports", "team-a.x"):
        limits.ask("POST", "/v1/limits", name=name, limit=4)
    workspace.write(BLOCKS[0].replace("ebbgate://127.0.0.1:4220", served.replace("http:", "ebbgate:")))
    imported = workspace.terraform("import", "ebbgate_limit.database", "database")
    assert imported.code == 0, imported
    workspace.write(BLOCKS[1], "imported.tf")
    workspace.write(BLOCKS[2], "looked-up.tf")
    said = workspace.apply().said
    assert "2 imported, 1 added, 2 changed" in said or "1 imported, 1 added, 2 changed" in said
    assert "slots_of_team_a = 4" in said
    assert "busy = 0" in said
    assert limits.get("mails")["slot_decay_per_second"] == 1 / 60
    assert workspace.plan() == {}
    workspace.apply("-destroy")


@pytest.mark.slow
def test_the_page_names_every_attribute(workspace: Workspace) -> None:
    import json

    words = set(re.findall(r"\w+", PAGE))
    schemas = json.loads(workspace.terraform("providers", "schema", "-json").out)["provider_schemas"]
    (schema,) = schemas.values()
    assert set(schema["data_source_schemas"]) == {"ebbgate_limit", "ebbgate_limits"}
    for part in (schema["provider"], schema["resource_schemas"]["ebbgate_limit"]):
        for name, attribute in part["block"]["attributes"].items():
            assert name in words
            assert attribute["description"]
    assert schema["provider"]["block"]["attributes"]["api_key"]["sensitive"]
    # One form for both: what may be configured is what the file of `ebbgate apply` says of a limit.
    limit = schema["resource_schemas"]["ebbgate_limit"]["block"]["attributes"]
    configured = {name for name, attribute in limit.items() if attribute.keys() & {"required", "optional"}}
    assert configured - {"force_destroy"} == set(Entry.__struct_fields__)


@pytest.mark.slow
def test_a_looked_up_limit_shows_what_rest_shows(workspace: Workspace) -> None:
    import json

    from ebbgate.wire import LimitInfo

    schemas = json.loads(workspace.terraform("providers", "schema", "-json").out)["provider_schemas"]
    (schema,) = schemas.values()
    assert set(schema["data_source_schemas"]["ebbgate_limit"]["block"]["attributes"]) == set(
        LimitInfo.__struct_fields__
    )
