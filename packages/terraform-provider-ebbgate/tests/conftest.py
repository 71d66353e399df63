"""A server, a mirror with the provider in it, and folders in which Terraform runs."""

import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from terraform_environment import NotMadeError, make
from terraform_support import Limits, Workspace

from tests.server.processes import started


@pytest.fixture(scope="session")
def bin_folder() -> Path:
    """The provider's commands; without Terraform, or without them, nothing is tested, and that is said."""
    if shutil.which("terraform") is None:
        pytest.skip("NOT TESTED WITH TERRAFORM: terraform is not on PATH")
    try:
        return make()
    except NotMadeError as error:
        pytest.skip(f"NOT TESTED WITH TERRAFORM: {error}")


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The address of a server."""
    folder = Path(tempfile.mkdtemp(prefix="eg"))
    with started(folder, "--durability", "normal") as server:
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def mirror(bin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin folder with the provider in it, as its own command writes it."""
    folder = tmp_path_factory.mktemp("mirror")
    subprocess.run(
        [bin_folder / "ebbgate-terraform", "install", "--folder", folder], check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="session")
def template(
    bin_folder: Path, mirror: Path, served: str, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """A folder in which `terraform init` has been run, once for all."""
    workspace = Workspace(tmp_path_factory.mktemp("template"), bin_folder, mirror, served)
    workspace.write("")
    done = workspace.terraform("init", "-no-color", "-input=false")
    assert done.code == 0, done
    return workspace


@pytest.fixture
def workspace(bin_folder: Path, mirror: Path, served: str, template: Workspace, tmp_path: Path) -> Workspace:
    """A folder in which Terraform is ready."""
    workspace = Workspace(tmp_path, bin_folder, mirror, served)
    workspace.started_like(template)
    return workspace


@pytest.fixture
def limits(served: str) -> Iterator[Limits]:
    """The limits of the server."""
    limits = Limits(served)
    yield limits
    limits.close()


@pytest.fixture
def name() -> str:
    """The name of a limit that no other test has."""
    return f"t-{uuid.uuid4().hex[:8]}"
