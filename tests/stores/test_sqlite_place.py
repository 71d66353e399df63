"""A store file that lost its content, or that is not safe to share, is refused; one that goes away is noticed."""

import os
import shutil
from pathlib import Path

import pytest

from ebbgate import Client
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.sqlite import SqliteStore
from tests.client.remote.support import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one limit, closed."""
    path = tmp_path / "limits.db"
    with Client(f"sqlite:///{path}") as client:
        client.create_limit("db", 1)
    return path


@pytest.mark.parametrize("how", ["cut", "removed"])
def test_a_file_that_lost_its_content_is_refused_unless_an_empty_store_is_allowed(
    path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "cut":
        os.truncate(path, 0)
    else:
        path.unlink()
    with pytest.raises(StoreUnavailable, match=r"its content was lost.*--allow-empty-store") as raised:
        Client(f"sqlite:///{path}").list_limits()
    assert "limits.db-presence" in str(raised.value)
    assert not (path.exists() and path.stat().st_size), "nothing was created"
    monkeypatch.setenv("EBBGATE_ALLOW_EMPTY_STORE", "1")
    with Client(f"sqlite:///{path}") as client:
        assert client.list_limits() == []


def test_a_store_that_never_was_is_created_without_a_question(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    path.touch(0o600)  # as a process leaves it that was killed while it created the store
    store = SqliteStore(path)
    store.close()
    SqliteStore(path).close()


def test_a_file_that_every_user_may_write_is_refused(path: Path) -> None:
    path.chmod(0o666)
    with pytest.raises(StoreUnavailable, match=r"writable by every user.*chmod o-w"):
        SqliteStore(path)
    path.chmod(0o660)
    SqliteStore(path).close()


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(StoreUnavailable, match="belongs to another user"):
        SqliteStore(path)


@pytest.mark.parametrize("how", ["removed", "replaced", "folder moved"])
@pytest.mark.filterwarnings("ignore::ebbgate.errors.LeaseLostWarning")
def test_a_process_notices_within_a_second_that_its_file_is_gone_and_fails_closed(
    path: Path, how: str
) -> None:
    with Client(f"sqlite:///{path}") as client:
        client.create_limit("other", 5)
        with client.concurrency("db") as lease:
            if how == "removed":
                path.unlink()
            elif how == "replaced":
                shutil.copy(path, path.with_name("copy"))
                path.with_name("copy").replace(path)
            else:
                path.parent.rename(path.parent.with_name("elsewhere"))
            wait_until(lambda: lease.lost)
            with (
                pytest.raises(StoreUnavailable, match="removed or replaced"),
                client.concurrency("other", timeout_seconds=2),
            ):
                pass
        if how == "folder moved":
            path.parent.with_name("elsewhere").rename(path.parent)
            wait_until(lambda: works(client))


def works(client: Client) -> bool:
    try:
        with client.concurrency("other", timeout_seconds=0):
            return True
    except StoreUnavailable:
        return False
