"""A URL names a store, or the error says how to write one."""

from pathlib import Path

import pytest

from ebbgate.errors import InvalidRequest
from ebbgate.stores import in_namespace, open_store, path_of
from ebbgate.stores.memory import MemoryStore
from ebbgate.stores.postgres_url import place_of
from ebbgate.stores.sqlite import SqliteStore


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///a/b/relative.db", "a/b/relative.db"),
        ("sqlite:////absolute/x.db", "/absolute/x.db"),
        ("sqlite:////with%20space/100%25%23.db", "/with space/100%#.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert path_of(url) == Path(path)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "names no store"),
        ("ebbgate.db", "names no store"),
        ("mysql://host/db", "names no store"),
        ("sqlite:", "names no file"),
        ("sqlite://relative.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///x.db?mode=ro", "names no file"),
        ("sqlite:///~/x.db", "home folder"),
        ("postgresql://host/db", "for servers"),
        ("redis://host", "for servers"),
        ("valkey://host", "for servers"),
        ("memory://name", "no name"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_examples(url: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        open_store(url)


def test_open_store_opens_what_the_url_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = open_store("memory://")
    assert isinstance(memory, MemoryStore)
    monkeypatch.chdir(tmp_path)
    relative = open_store("sqlite:///folder/x.db", durability="full")
    absolute = open_store(f"sqlite:///{tmp_path}/folder/x.db")
    try:
        assert isinstance(relative, SqliteStore)
        assert isinstance(absolute, SqliteStore)
        assert relative.path == absolute.path == tmp_path.resolve() / "folder" / "x.db"
    finally:
        relative.close()
        absolute.close()


def test_another_way_to_the_same_file_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    one, two = SqliteStore(tmp_path / "link.db"), SqliteStore(tmp_path / "real.db")
    try:
        assert one.path == two.path
        assert one.try_lock()
        assert not two.try_lock()
    finally:
        one.close()
        two.close()


def test_a_namespace_beside_the_url_is_that_in_the_url() -> None:
    for url in ("postgresql://me@db/app", "postgresql://me@db/app?sslmode=require", "redis://cache/1"):
        assert in_namespace(in_namespace(url, "jobs"), "jobs") == in_namespace(url, "jobs")
    assert place_of(in_namespace("postgresql://me@db/app?sslmode=require", "jobs")) == place_of(
        "postgresql://me@db/app?sslmode=require&namespace=jobs"
    )
