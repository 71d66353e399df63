"""`ebbgate doctor`: what it is connected to, and whether all is well. Every problem names the next step."""

import os
import pwd
import stat
import time
import uuid
from pathlib import Path
from typing import Final

import msgspec

from ebbgate import settings
from ebbgate.cli import exits
from ebbgate.cli.doctor_server import ServerFacts, judge_server, server_facts, server_fields
from ebbgate.cli.findings import Finding
from ebbgate.cli.options import Output
from ebbgate.cli.printing import (
    escaped,
    is_styled,
    print_fields,
    print_json,
    quoted,
    slots_of,
)
from ebbgate.cli.reading import existing_client
from ebbgate.cli.surroundings import container, file_system, free_bytes, is_network_disk, lies_on_volume
from ebbgate.client.client import Client
from ebbgate.client.connect import is_remote
from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.client.embedded.opening import path_of_file
from ebbgate.core.book import Book
from ebbgate.errors import EbbgateError
from ebbgate.version import version
from ebbgate.wire.words import clean, duration, without_secrets

FREE_MIN: Final = 64 << 20  # bytes
LOG_MAX: Final = 256 << 20  # bytes: someone keeps the log from being put into the file
DECISION_MAX_SECONDS: Final = 1.0
CLOCKS_APART_MAX_SECONDS: Final = 300.0


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The file that keeps everything."""

    path: str
    bytes: int
    log_bytes: int  # SQLite's write-ahead log
    mode: str
    owner: str
    file_system: str
    free_bytes: int


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What SQLite and the records say."""

    sqlite: str
    schema: int
    boot: str
    boots: int
    commits: int
    limits: int
    held: int
    waiting: int
    sessions: int
    others_alive: list[str]  # host:pid
    others_dead: int


class Report(msgspec.Struct, kw_only=True):
    """What `doctor -o json` prints."""

    ok: bool = True
    version: str
    url: str
    url_from: str
    file: FileFacts | None = None
    store: StoreFacts | None = None
    server: ServerFacts | None = None
    decision_ms: float | None = None  # of one acquire, written and released
    problems: list[Finding] = []
    notes: list[Finding] = []


def doctor(*, output: Output = "table") -> int:
    """Show what this machine is connected to, try a decision, and tell whether all is well."""
    url = settings.url()
    url_from = "EBBGATE_URL" if settings.configured_url() else "EBBGATE_URL is unset: the file of this user"
    report = Report(version=version(), url=without_secrets(url), url_from=url_from)
    try:
        _examine(report)
    except EbbgateError as error:
        what, _, advice = str(error).partition("; ")
        next_step = (
            advice
            or "set EBBGATE_URL to a file you may write: export EBBGATE_URL=sqlite:////path/to/ebbgate.db"
        )
        report.problems.append(Finding(error.code, what, next_step))
    report.ok = not report.problems
    if output == "json":
        print_json(report)
    else:
        _print(report)
    return exits.OK if report.ok else exits.ERROR


def _examine(report: Report) -> None:
    client = existing_client()
    if client.url != settings.url():
        _judge_missing(report)
        return
    gate = client.gate
    path = None if is_remote(report.url) else path_of_file(client.url)
    if isinstance(gate, EmbeddedGate):
        if path is None:
            report.notes.append(Finding(
                "memory", "limits live in the memory of one process: nobody else sees them", "unset EBBGATE_URL"
            ))  # fmt: skip
        advice = "look for a busy or failing disk: iostat -x 1"
    else:
        report.server = server_facts(client)
        report.notes += judge_server(report.server)
        advice = "look at the server: its disk, its load, the way there"
    report.decision_ms = _try_decision(client)
    if path is not None:
        path = path.absolute()
        report.file = _file_facts(path)
        _judge_file(report, report.file, path)
    if isinstance(gate, EmbeddedGate) and path is not None:
        report.store = _store_facts(gate)
        _judge_clock(report, gate)
    _judge_decision(report, advice)


def _judge_missing(report: Report) -> None:
    """Tell of a file that does not exist yet; it is not created here."""
    path = path_of_file(settings.url())
    assert path is not None, "a store in memory is never missing"
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        report.problems.append(Finding(
            "not_writable",
            f"the store {path} does not exist, and this user may not create it in {folder}",
            "set EBBGATE_URL to a file you may write: export EBBGATE_URL=sqlite:////path/to/ebbgate.db",
        ))  # fmt: skip
        return
    report.notes.append(Finding(
        "no_store",
        f"the store {path} does not exist yet",
        "create it with its first limit: ebbgate limit create NAME --limit 5",
    ))  # fmt: skip


def _judge_decision(report: Report, advice: str) -> None:
    if report.decision_ms is not None and report.decision_ms > DECISION_MAX_SECONDS * 1_000:
        what = f"one decision took {report.decision_ms / 1_000:.1f} s"
        report.problems.append(Finding("slow", what, advice))


def _try_decision(client: Client) -> float:
    """Acquire and release a lease of a limit that does not exist: written like any other, in nobody's way."""
    started = time.perf_counter()
    with client.concurrency(f"doctor-{uuid.uuid4().hex}", timeout_seconds=5, suppress_warnings=True):
        pass
    return round((time.perf_counter() - started) * 1_000, 3)


def _file_facts(path: Path) -> FileFacts:
    found = path.stat()
    return FileFacts(
        path=str(path),
        bytes=found.st_size,
        log_bytes=_size(path.with_name(path.name + "-wal")),
        mode=f"{stat.S_IMODE(found.st_mode):04o}",
        owner=_user(found.st_uid),
        file_system=file_system(path),
        free_bytes=free_bytes(path),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _store_facts(gate: EmbeddedGate) -> StoreFacts:
    from ebbgate.stores.sqlite import SqliteStore

    store = gate.store
    assert isinstance(store, SqliteStore), "only it has a path"
    facts = store.facts()
    dead = {away.session for away in gate.deaths.others()}

    def count(book: Book, _now_us: int) -> StoreFacts:
        states = [lease.state for lease in book.leases.values()]
        others = [session for session in book.sessions.values() if session.id != gate.session]
        return StoreFacts(
            **facts._asdict(),
            limits=len(book.names),
            held=states.count("held"),
            waiting=states.count("waiting"),
            sessions=len(book.sessions),
            others_alive=sorted(
                f"{session.host}:{session.pid}" for session in others if session.id not in dead
            ),
            others_dead=len(dead),
        )

    return gate.read(count)


def _judge_file(report: Report, file: FileFacts, path: Path) -> None:
    here = quoted(str(path))
    if is_network_disk(file.file_system):
        report.problems.append(Finding(
            "network_disk",
            f"the file lies on a network file system ({file.file_system}), whose locks do not hold",
            "name a file on a local disk: export EBBGATE_URL=sqlite:////var/lib/ebbgate/ebbgate.db",
        ))  # fmt: skip
    if file.free_bytes < FREE_MIN:
        report.problems.append(Finding(
            "disk_full",
            f"only {_bytes(file.free_bytes)} are free on its disk",
            f"make room: df -h {quoted(str(path.parent))}",
        ))  # fmt: skip
    if file.log_bytes > LOG_MAX:
        report.problems.append(Finding(
            "large_log",
            f"SQLite's log has grown to {_bytes(file.log_bytes)}: some program reads the file without end",
            f"find it and end it: fuser -v {here}",
        ))  # fmt: skip
    inside = container()
    if inside and not lies_on_volume(path):
        report.notes.append(Finding(
            "private_to_container",
            f"this is {inside}, and the file is private to it: other containers have limits of their own",
            "put it on a volume of this machine that they share: EBBGATE_URL=sqlite:////volume/ebbgate.db",
        ))  # fmt: skip


def _judge_clock(report: Report, gate: EmbeddedGate) -> None:
    behind = time.time() - gate.store.clock() / 1e6
    if abs(behind) > CLOCKS_APART_MAX_SECONDS:
        side = "behind" if behind > 0 else "ahead of"
        report.notes.append(Finding(
            "clocks_apart",
            f"the store's clock is {duration(abs(behind))} {side} the machine's: it stands still while the "
            "machine sleeps and follows no change of the date. Durations are right, instants off by so much",
            "nothing; it is set right at the next boot",
        ))  # fmt: skip


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _print(report: Report) -> None:
    fields = [("version", report.version), ("connected to", f"{escaped(report.url)} ({report.url_from})")]
    file, store = report.file, report.store
    if file is not None:
        whose = f"{escaped(file.owner)}{'' if file.owner == _user(os.getuid()) else ', not you'}"
        fields += [
            ("file", escaped(file.path)),
            ("size", f"{_bytes(file.bytes)}, log {_bytes(file.log_bytes)}"),
            ("rights", f"mode {file.mode}, owner {whose}"),
            ("disk", f"{escaped(file.file_system)}, {_bytes(file.free_bytes)} free"),
        ]
    if store is not None:
        alive = "".join(f"{',' if i else ':'} {escaped(who)}" for i, who in enumerate(store.others_alive[:5]))
        more = f" and {len(store.others_alive) - 5} more" if len(store.others_alive) > 5 else ""
        dead = f"; {store.others_dead} dead, passed on at the next decision" if store.others_dead else ""
        fields += [
            ("sqlite", f"{store.sqlite}, schema {store.schema}, commit {store.commits}"),
            ("boot", f"{store.boot}, no. {store.boots} of this file"),
            ("limits", str(store.limits)),
            ("leases", f"{store.held} held, {store.waiting} waiting"),
            (
                "processes",
                slots_of(len(store.others_alive), "other") + f" alive{alive}{more}{dead}",
            ),
        ]
    if report.server is not None:
        fields += server_fields(report.server, owns_file=file is not None)
    if report.decision_ms is not None:
        fields.append(("decision", f"acquired, written and released in {report.decision_ms:.1f} ms"))
    print_fields(fields)
    print()
    for finding in report.notes:
        print(f"{_styled('note', '33')}: {clean(finding.what)}\n  -> {clean(finding.next)}")
    for finding in report.problems:
        print(f"{_styled('problem', '31')}: {clean(finding.what)}\n  -> {clean(finding.next)}")
    if report.ok:
        print(_styled("all is well", "32"))


def _styled(text: str, colour: str) -> str:
    return f"\033[{colour}m{text}\033[0m" if is_styled() else text
