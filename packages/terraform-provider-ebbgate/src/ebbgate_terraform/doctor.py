"""`ebbgate-terraform doctor`: whether Terraform finds the provider, and the provider the server."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ebbgate_terraform import version
from ebbgate_terraform.install import LAUNCHER, SOURCE, NotInstalledError, launcher_name, this_platform
from ebbgate_terraform.problems import Problem
from ebbgate_terraform.rest import Rest

_TERRAFORM_SECONDS: Final = 20.0
_INSTALL: Final = "ebbgate-terraform install"


class Finding(Exception):  # noqa: N818 - what a check finds wrong
    """Something is not well; the text says what to do."""


def examine(folder: Path) -> int:
    """Print one line for each check; return 0 if all is well, else 1."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("launcher", lambda: _launcher(folder)),
        ("command", _command),
        ("terraform", _terraform),
        ("configuration", lambda: _configuration(folder)),
        ("server", _server),
    )
    is_well = True
    for name, check in checks:
        try:
            word, said = "ok", check()
        except Finding as finding:
            word, said, is_well = "PROBLEM", str(finding), False
        sys.stdout.write(f"{name:<14} {word:<8} {said}\n")
    return 0 if is_well else 1


def _launcher(folder: Path) -> str:
    try:
        path = folder / SOURCE / version() / this_platform() / launcher_name()
    except NotInstalledError as error:
        raise Finding(str(error)) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        others = [found.name for found in (folder / SOURCE).glob("*") if found.is_dir()]
        there = f" (there is version {', '.join(sorted(others))})" if others else ""
        raise Finding(f"{path}: {error.strerror}{there}; write it: {_INSTALL}") from None
    if content != LAUNCHER:
        raise Finding(f"{path} was changed, so lock files will not match; write it anew: {_INSTALL}")
    if not os.access(path, os.X_OK):
        raise Finding(f"{path} cannot be executed; write it anew: {_INSTALL}")
    return str(path)


def _command() -> str:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path.home() / ".local" / "bin")))
    found = shutil.which("ebbgate-terraform", path=places)
    if found is None:
        raise Finding(
            "ebbgate-terraform is not on PATH, so the launcher cannot start it: uv tool update-shell"
        )
    said = _said([found, "--version"])
    if said != version():
        raise Finding(f"{found} is version {said}, this is {version()}: another one comes first on PATH")
    return f"{found}, version {said}"


def _terraform() -> str:
    found = next(filter(None, map(shutil.which, ("terraform", "tofu"))), None)
    if found is None:
        raise Finding("neither terraform nor tofu is on PATH")
    return f"{found}, {_said([found, 'version']).partition(chr(10))[0]}"


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - found on PATH
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TERRAFORM_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Finding(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        raise Finding(f"{command[0]} ended with code {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()


def _configuration(folder: Path) -> str:
    named = os.environ.get("TF_CLI_CONFIG_FILE") or os.environ.get("TERRAFORM_CONFIG")
    path = Path(named) if named else Path.home() / ".terraformrc"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return "no configuration file of Terraform's; the plugin folder is looked into"
    if not re.search(r"^\s*provider_installation\b", text, re.MULTILINE):
        return f"{path} says nothing of provider_installation; the plugin folder is looked into"
    if str(folder) in text or "dev_overrides" in text:
        return f"{path} names the folder"
    raise Finding(
        f"{path} has a provider_installation without this folder, so Terraform does not look into it; "
        f'add: filesystem_mirror {{ path = "{folder}" }}'
    )


def _server() -> str:
    url = os.environ.get("EBBGATE_URL", "")
    if not url:
        return "EBBGATE_URL is not set; nothing was asked (the provider's url may name the server)"
    try:
        rest = Rest(url, os.environ.get("EBBGATE_API_KEY", ""), os.environ.get("EBBGATE_CA_FILE", ""))
        rest.check()
    except Problem as problem:
        raise Finding(f"{problem.summary}: {problem.detail}") from None
    return f"{url} answers"
