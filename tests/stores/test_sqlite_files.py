"""A file that cannot serve is refused with a sentence that says what to do; nothing is half done."""

import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import apsw
import pytest

from ebbgate.core.model import Head
from ebbgate.errors import StoreUnavailable
from ebbgate.stores.base import EMPTY, Busy
from ebbgate.stores.sqlite import SqliteStore
from ebbgate.stores.sqlite_schema import check_library
from ebbgate.testing.stores import PATIENCE_S, applied, head, process, row, tag
from tests.stores.support import SqlitePlace

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


def made(place: SqlitePlace) -> Path:
    """A file with something in it, that nobody has open."""
    with closing(place.open()) as store:
        store.commit(EMPTY, "one", head(1), [row(f"{number:04}", "x" * 200) for number in range(200)])
    return place.path


def refusal(path: Path, *, patience_us: int = 20_000) -> str:
    """What the error says that opening and reading the file raises; it names the file and its cause."""
    with (
        pytest.raises(StoreUnavailable) as caught,
        closing(SqliteStore(path, patience_us=patience_us)) as store,
    ):
        store.load()
    assert str(path) in str(caught.value)
    return str(caught.value)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_folder_and_files_are_for_this_user_alone(place: SqlitePlace) -> None:
    before = os.umask(0)
    try:
        with closing(place.open()) as store:
            store.commit(EMPTY, tag(), Head(), [row("a", 1)])
            assert mode(place.path.parent) == 0o700
            files = {file.name: mode(file) for file in place.path.parent.iterdir()}
    finally:
        os.umask(before)
    assert files == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm", "test.db-lock"), 0o600)


def test_the_last_one_to_close_leaves_one_file_and_the_lock(place: SqlitePlace) -> None:
    made(place)
    assert sorted(file.name for file in place.path.parent.iterdir()) == ["test.db", "test.db-lock"]


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    assert "is a folder; name a file" in refusal(tmp_path)


def test_a_device_in_place_of_the_file() -> None:
    assert "is not a file" in refusal(Path("/dev/null"))


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "its folder must exist" in refusal(tmp_path / "file" / "test.db")


def test_something_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database " * 1000)
    assert "is not an SQLite database" in refusal(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "no database " * 1000


def test_the_database_of_another_program(tmp_path: Path) -> None:
    with closing(apsw.Connection(str(tmp_path / "other.db"))) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "other.db").read_bytes()
    assert "another program" in refusal(tmp_path / "other.db")
    assert (tmp_path / "other.db").read_bytes() == before


def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with closing(SqliteStore(tmp_path / "empty.db")) as store:
        assert store.load().version == EMPTY


def test_a_damaged_page_is_told(place: SqlitePlace) -> None:
    path = made(place)
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 64] = bytes(byte ^ 0xFF for byte in data[start : start + 64])
    path.write_bytes(data)
    assert "is damaged; move it away" in refusal(path)


def test_a_damaged_header_is_told(place: SqlitePlace) -> None:
    path = made(place)
    data = bytearray(path.read_bytes())
    data[:16] = b"not SQLite 3\0\0\0\0"
    path.write_bytes(data)
    assert "is not an SQLite database" in refusal(path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE log SET rows = '[[1]]' WHERE version = 1", "its log cannot be read"),
        ("DELETE FROM log", "its log is empty"),
        ("DROP TABLE record", "other tables than ebbgate expects"),
    ],
)
def test_a_table_that_somebody_changed_is_told(place: SqlitePlace, change: str, why: str) -> None:
    path = made(place)
    with closing(apsw.Connection(str(path))) as other:
        other.execute(change)
    with pytest.raises(StoreUnavailable, match=why), closing(SqliteStore(path)) as store:
        store.changes_since(EMPTY)
        store.load()


def test_a_full_disk_leaves_nothing_half_done(place: SqlitePlace) -> None:
    with closing(place.open()) as store:
        base = store.commit(EMPTY, tag(), head(1), [row("a", 1)])
        before = store.load()
        pages = in_store(store, "PRAGMA page_count")
        in_store(store, f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailable, match="make room, nothing was written"):
            store.commit(base, "too big", head(2), [row("a", 2), row("b", "x" * 100_000)])
        assert store.find("too big", base) is None
        in_store(store, "PRAGMA max_page_count = 1000000")
        assert store.load() == before
        store.commit(base, tag(), head(2), [row("a", 2), row("b", "x" * 100_000)])


def in_store(store: SqliteStore, sql: str) -> object:
    """What the store's own connection answers."""
    return store._run(0, lambda cursor: cursor.execute(sql).get)


def write_until_it_fails(place: SqlitePlace, answers: Connection) -> None:
    """Where no file may grow beyond 200 KB."""
    with closing(place.open()) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        base = EMPTY
        try:
            for number in range(1, 100):
                base = store.commit(base, f"{number}", head(number), [row(f"{number}", "x" * 5_000)])
        except StoreUnavailable as error:
            assert store.load().version == base
            answers.send((base, str(error)))


def test_a_disk_that_does_not_write_leaves_nothing_half_done(place: SqlitePlace) -> None:
    with process(write_until_it_fails, place) as (_child, answers):
        base, why = answers.recv()
    assert "cannot be read or written" in why
    with closing(place.open()) as store:
        now = store.load()
        assert now.version == base
        assert len(now.rows) == base.number
        store.commit(base, tag(), head(99), [row("a", 1)])


def test_a_file_that_another_program_keeps_to_itself(place: SqlitePlace) -> None:
    path = made(place)
    with process(keep_to_itself, place) as (child, answers):
        assert answers.recv() == "locked"
        said = refusal(path)
        assert "stayed locked" in said
        if Path("/proc/locks").exists():
            assert f"locked by process {child.pid}" in said


def keep_to_itself(place: SqlitePlace, answers: Connection) -> None:
    other = apsw.Connection(str(place.path))
    other.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").fetchall()
    answers.send("locked")
    signal.pause()


def test_a_transaction_of_another_program_is_waited_for_or_told_at_once(place: SqlitePlace) -> None:
    path = made(place)
    with closing(SqliteStore(path)) as store, closing(apsw.Connection(str(path))) as other:
        base = store.load().version
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy):
            store.commit(base, tag(), head(2), [row("a", 1)], patience_us=0)
        with pytest.raises(StoreUnavailable, match="stayed locked"):
            store.commit(base, tag(), head(2), [row("a", 1)], patience_us=5_000)
        assert store.commit(base, tag(), head(2), [], patience_us=0) == base
        assert store.changes_since(base, patience_us=0).rows == []
        assert not store.moved(base)
        other.execute("ROLLBACK")
        store.commit(base, tag(), head(2), [row("a", 1)], patience_us=0)


def test_a_closed_store_says_so(place: SqlitePlace) -> None:
    store = place.open()
    store.close()
    for use in (store.load, lambda: store.moved(EMPTY), lambda: store.recent(1)):
        with pytest.raises(StoreUnavailable, match="was closed"):
            use()
    assert not store.try_lock()
    store.unlock()


@pytest.mark.parametrize(("version", "works"), [("3.51.3", True), ("3.54.1", True), ("3.51.2", False)])
def test_an_sqlite_that_damages_files_is_refused(version: str, works: bool) -> None:
    if works:
        check_library(version)
    else:
        with pytest.raises(StoreUnavailable, match="pip install --upgrade"):
            check_library(version)


def test_an_interrupted_commit_is_undone(place: SqlitePlace) -> None:
    with closing(place.open()) as store:
        rows = [row("a", 1), row("b", 1)]
        with pytest.raises(AttributeError):
            store.commit(EMPTY, tag(), head(1), [*rows, rows[0]._replace(id="c", body="no bytes")])  # type: ignore[arg-type]
        assert store.load().rows == []
        store.commit(EMPTY, tag(), head(1), rows, patience_us=0)
        assert applied(store.load().rows) == applied(rows)


# --- what an ordinary user may not do; as root, somebody else is asked


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="ebbgate-test-"))
    folder.chmod(0o777)
    yield folder
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o700)
    shutil.rmtree(folder)


def as_ordinary_user(use: Callable[[], object]) -> str:
    """What `use` raises or returns, in a child that is not root."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE_S))
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            said = str(use())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def used(path: Path) -> str:
    with closing(SqliteStore(path, patience_us=20_000)) as store:
        version = store.load().version
        return f"made {store.commit(version, tag(), head(2), [row('a', 2)]).number}"


def test_an_ordinary_user_may_use_a_folder_of_its_own(public: Path) -> None:
    assert as_ordinary_user(lambda: used(public / "sub" / "test.db")) == "made 1"


def test_a_read_only_folder_is_told(public: Path) -> None:
    public.chmod(0o555)
    said = as_ordinary_user(lambda: used(public / "test.db"))
    assert said.startswith("StoreUnavailable")
    assert "be writable for this user" in said
    assert "be writable" in as_ordinary_user(lambda: used(public / "sub" / "test.db"))


def test_a_read_only_file_is_told(public: Path) -> None:
    path = public / "test.db"
    used(path)
    for each, mode_there in ((path, 0o444), (path.with_name("test.db-lock"), 0o666), (public, 0o777)):
        each.chmod(mode_there)
    said = as_ordinary_user(lambda: used(path))
    assert said.startswith("StoreUnavailable")
    assert "belongs to another user" in said


def test_a_file_of_somebody_else_in_a_read_only_folder_is_told(public: Path) -> None:
    path = public / "test.db"
    used(path)
    path.chmod(0o666)
    public.chmod(0o555)
    said = as_ordinary_user(lambda: used(path))
    assert said.startswith("StoreUnavailable")
    assert "writable" in said or "cannot be opened" in said


def test_a_file_that_may_not_be_read_is_told(public: Path) -> None:
    path = public / "test.db"
    used(path)
    path.chmod(0o000)
    assert "StoreUnavailable" in as_ordinary_user(lambda: used(path))
