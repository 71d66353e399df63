"""A folder in which Terraform runs: offline, with the provider from a mirror, against a server of the tests."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

PATIENCE_SECONDS = 90.0

HEAD = """\
terraform {
  required_providers {
    ebbgate = {
      source  = "terraform.local/ebbgate/ebbgate"
      version = "~> 0.1"
    }
  }
}
"""


class Result(NamedTuple):
    """What a run of Terraform came to."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that people read, in one line without the frames of messages."""
        return " ".join(f"{self.out} {self.err}".translate({ord(c): " " for c in "│╷╵"}).split())


class Changes(NamedTuple):
    """What a plan would do to one resource, and what the attributes would be."""

    actions: tuple[str, ...]
    before: dict[str, Any]
    after: dict[str, Any]
    unknown: set[str]


class Workspace:
    """One configuration and its state."""

    def __init__(self, folder: Path, bin_folder: Path, mirror: Path, url: str) -> None:
        """Run in `folder`, which is empty."""
        self.folder, self.url, self.mirror = folder, url, mirror
        home = folder / "home"
        home.mkdir()
        config = home / "terraform.rc"
        config.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
        )
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EBBGATE_", "TF_", "PYTHON", "XDG_", "VIRTUAL_ENV"))
        }
        self.write(HEAD, "versions.tf")
        self.environment = {
            **kept, "HOME": str(home), "TF_CLI_CONFIG_FILE": str(config), "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1", "EBBGATE_URL": url, "PATH": f"{bin_folder}{os.pathsep}{kept['PATH']}",
        }  # fmt: skip

    def write(self, text: str, name: str = "main.tf") -> None:
        """Write a file of the configuration."""
        (self.folder / name).write_text(text)

    def started_like(self, template: "Workspace") -> None:
        """Take over what `terraform init` has done elsewhere."""
        shutil.copytree(template.folder / ".terraform", self.folder / ".terraform", symlinks=True)
        shutil.copy(template.folder / ".terraform.lock.hcl", self.folder)

    def terraform(self, *arguments: str, more: dict[str, str] | None = None) -> Result:
        """Run Terraform to its end; nothing of Python is ever seen."""
        done = subprocess.run(
            ["terraform", *arguments], cwd=self.folder, env={**self.environment, **(more or {})}, text=True,
            capture_output=True, check=False, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        result = Result(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in result.said, result
        assert "rpc error" not in result.said, result
        assert "Provider produced" not in result.said, (
            result
        )  # what Terraform says of a provider with a defect
        return result

    def apply(self, *arguments: str, code: int = 0, more: dict[str, str] | None = None) -> Result:
        """Apply the configuration."""
        result = self.terraform("apply", "-auto-approve", "-no-color", "-input=false", *arguments, more=more)
        assert result.code == code, result
        return result

    def plan(self, *arguments: str) -> dict[str, Changes]:
        """Return what would be changed, by address; nothing that stays."""
        done = self.terraform(
            "plan", "-no-color", "-input=false", "-out=plan", "-detailed-exitcode", *arguments
        )
        assert done.code in {0, 2}, done
        if not done.code:
            return {}
        shown = json.loads(self.terraform("show", "-json", "plan").out)
        changes = {
            entry["address"]: Changes(
                tuple(entry["change"]["actions"]), entry["change"]["before"] or {}, entry["change"]["after"] or {},
                set(entry["change"]["after_unknown"] or {}),
            )
            for entry in shown.get("resource_changes", [])
            if entry["change"]["actions"] != ["no-op"]
        }  # fmt: skip
        assert changes or "outputs" in done.said.lower(), done
        return changes

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of every resource and data source, by address."""
        pulled = self.terraform("state", "pull").out  # which starts no provider, as `show` does
        resources = json.loads(pulled)["resources"] if pulled else []
        return {
            f"{'data.' if entry['mode'] == 'data' else ''}{entry['type']}.{entry['name']}": instance[
                "attributes"
            ]
            for entry in resources
            for instance in entry["instances"]
        }


class Limits:
    """The server's limits, as its other users see and change them."""

    def __init__(self, url: str) -> None:
        """Ask the server at `url`."""
        import httpx

        self._client = httpx.Client(base_url=url, trust_env=False, timeout=30)

    def ask(self, method: str, path: str, **body: object) -> Any:  # noqa: ANN401 - any JSON
        """Send a request that must succeed; return what is answered."""
        answer = self._client.request(
            method, path, content=msgspec.json.encode(body) if body else None,
            headers={"Content-Type": "application/json"} if body else {},
        )  # fmt: skip
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a limit; None: there is none."""
        answer = self._client.get(f"/v1/limits/{name}")
        return answer.json() if answer.is_success else None

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin so."""
        return [
            entry["name"] for entry in self.ask("GET", f"/v1/limits?prefix={prefix}&page_size=1000")["items"]
        ]

    def get(self, name: str) -> dict[str, Any]:
        """Return a limit that must be there."""
        found = self.read(name)
        assert found is not None, name
        return found

    @contextmanager
    def holding(self, name: str) -> Iterator[str]:
        """Hold a slot meanwhile."""
        lease: str = self.ask("POST", "/v1/leases", limits=[{"name": name}], strict=True)["id"]
        yield lease
        self.ask("DELETE", f"/v1/leases/{lease}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def resource(name: str, *lines: str, label: str = "it") -> str:
    """Return the configuration of one limit; `name` stands in its second line, what follows below."""
    inner = "".join(f"  {line}\n" for line in lines)
    return (
        f'resource "ebbgate_limit" "{label}" {{\n  name = {json.dumps(name, ensure_ascii=False)}\n{inner}}}\n'
    )
