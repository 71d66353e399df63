"""Where Terraform looks for plugins, and what is written there: a launcher, the same bytes for every Unix.

Because the launcher is the same everywhere, one `h1:` hash in a lock file is right on every Unix platform.
"""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ebbgate_terraform import version

SOURCE: Final = "terraform.local/ebbgate/ebbgate"
"""The provider's address in `required_providers`. No registry has this name, so nobody else can publish there."""

PLATFORMS: Final = (
    "darwin_amd64", "darwin_arm64", "freebsd_amd64", "linux_386", "linux_amd64", "linux_arm", "linux_arm64",
)  # fmt: skip

LAUNCHER: Final = b"""\
#!/bin/sh
# Terraform provider for ebbgate: starts the command that `uv tool install ebbgate-terraform` installed.
PATH="$PATH:$HOME/.local/bin"
command -v ebbgate-terraform >/dev/null && exec ebbgate-terraform provider
# Terraform shows the first line of what a plugin prints.
echo "ebbgate-terraform is not on PATH; install it: uv tool install ebbgate-terraform"
exit 127
"""

_MODE: Final = 0o755


class NotInstalledError(Exception):
    """It cannot be installed; the text says why and what to do."""


def plugin_folder() -> Path:
    """Return the folder of this user in which Terraform and OpenTofu look for plugins."""
    return Path.home() / ".terraform.d" / "plugins"


def this_platform() -> str:
    """Return what Terraform calls this machine.

    Raises:
        NotInstalledError: the provider does not run here.
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if machine.startswith("armv"):
        machine = "arm"
    found = f"{sys.platform.rstrip('0123456789')}_{machine}"
    if found not in PLATFORMS:
        raise NotInstalledError(f"the provider runs on Unix: {', '.join(PLATFORMS)}; this is {found}")
    return found


def launcher_name() -> str:
    """Return the file name of the launcher of this version."""
    return f"terraform-provider-ebbgate_v{version()}"


def launchers(folder: Path) -> Iterator[Path]:
    """Yield where the launchers of this version stand, one for each platform."""
    for name in PLATFORMS:
        yield folder / SOURCE / version() / name / launcher_name()


def install(folder: Path) -> list[Path]:
    """Write the launchers and return them; what is right already stays.

    Raises:
        NotInstalledError: they cannot be written.
    """
    this_platform()
    written = list(launchers(folder))
    for path in written:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.{os.getpid()}")
            new.write_bytes(LAUNCHER)
            new.chmod(_MODE)
            new.replace(path)
        except OSError as error:
            raise NotInstalledError(
                f"{path} cannot be written: {error.strerror}; name another folder: --folder"
            ) from error
    return written


def uninstall(folder: Path) -> list[Path]:
    """Remove the launchers of every version and the folders that are empty then; return the launchers.

    Raises:
        NotInstalledError: they cannot be removed.
    """
    root = folder / SOURCE
    found = sorted(root.glob("*/*/terraform-provider-ebbgate_v*"))
    try:
        for path in found:
            path.unlink()
            for parent in path.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()
    except OSError as error:
        raise NotInstalledError(f"{error.filename} cannot be removed: {error.strerror}") from error
    return found
