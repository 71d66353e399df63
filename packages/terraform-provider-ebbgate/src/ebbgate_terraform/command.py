"""The command `ebbgate-terraform`: install, uninstall, doctor; and what Terraform starts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ebbgate_terraform import version
from ebbgate_terraform.install import SOURCE, NotInstalledError, install, plugin_folder, uninstall

_DESCRIPTION: Final = "The Terraform and OpenTofu provider for the limits of an ebbgate server."
_EXAMPLE: Final = f"""\
Installed. Write this into a .tf file, then run terraform init:

  terraform {{
    required_providers {{
      ebbgate = {{
        source  = "{SOURCE}"
        version = "{{version}}"
      }}
    }}
  }}

  provider "ebbgate" {{
    url = "ebbgate://127.0.0.1:4220"    # or EBBGATE_URL; the key: EBBGATE_API_KEY
  }}

  resource "ebbgate_limit" "database" {{
    name  = "database"
    limit = 5
  }}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 ok, 1 error, 2 usage."""
    given = _parser().parse_args(arguments)
    try:
        code = _run(given.command, given)
    except NotInstalledError as error:
        sys.stderr.write(f"ebbgate-terraform: {error}\n")
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ebbgate-terraform", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("install", "write the launcher into Terraform's plugin folder"),
        ("uninstall", "remove it"),
        ("doctor", "say whether all is well"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument(
            "--folder", type=Path, default=plugin_folder(),
            help="the plugin folder, or a filesystem mirror; unset: %(default)s",
        )  # fmt: skip
    commands.add_parser("provider", help="what Terraform starts; not for people")
    return parser


def _run(command: str, given: argparse.Namespace) -> int:
    if command == "install":
        written = install(given.folder.absolute())
        sys.stderr.write("".join(f"wrote {path}\n" for path in written))
        sys.stdout.write(_EXAMPLE.replace("{version}", version()))
        return 0
    if command == "uninstall":
        removed = uninstall(given.folder.absolute())
        sys.stderr.write("".join(f"removed {path}\n" for path in removed) or "nothing was installed there\n")
        return 0
    if command == "doctor":
        from ebbgate_terraform.doctor import examine

        return examine(given.folder.absolute())
    try:
        return _provide()
    except Exception as error:  # noqa: BLE001 - a broken installation, a full disk
        return _stumbled(error)


def _provide() -> int:
    from ebbgate_terraform.serving import is_asked_by_terraform, serve

    if not is_asked_by_terraform():
        sys.stderr.write(
            "ebbgate-terraform: this is a plugin that Terraform starts; see: ebbgate-terraform --help\n"
        )
        return 1
    from ebbgate_terraform.provider import Provider

    serve(Provider())
    return 0


def _stumbled(error: Exception) -> int:
    """Tell why the provider cannot run, on the line that Terraform shows."""
    said = " ".join(str(error).split())
    sys.stdout.write(
        f"ebbgate-terraform cannot run here ({type(error).__name__}: {said}); "
        "install it anew: uv tool install --force ebbgate-terraform\n"
    )
    return 1


if __name__ == "__main__":
    main()
