"""The life of a limit in Terraform, from the first plan to its end."""

from terraform_support import Limits, Workspace


def resource(name: str, *lines: str) -> str:
    """Return a configuration with one limit."""
    inner = "".join(f"  {line}\n" for line in lines)
    return f'resource "ebbgate_limit" "it" {{\n  name = "{name}"\n{inner}}}\n'


def test_trial(workspace: Workspace, limits: Limits, name: str) -> None:
    workspace.write(resource(name, "limit = 5"))
    assert workspace.terraform("validate").code == 0
    print(workspace.apply().out)
    assert workspace.plan() == {}
    print(workspace.state())
