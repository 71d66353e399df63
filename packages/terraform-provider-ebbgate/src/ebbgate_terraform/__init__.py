"""Terraform and OpenTofu provider for the limits of an ebbgate server."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version_of


def version() -> str:
    """Return the version as Terraform writes it: three numbers."""
    try:
        found = _version_of("ebbgate-terraform")
    except PackageNotFoundError:
        found = "0.0.0"
    return ".".join(found.split(".")[:3])
