"""Every mistake that a newcomer makes is answered with what to do next. This is the list of them."""

import shlex
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ebbgate.server.keys import keys_from
from ebbgate.version import requirement
from tests.cli.support import COMMAND, Cli, Real
from tests.server.certificates import make_certificates
from tests.serving import served

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, nobody is waited for."""
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "0.3")


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def somebody_else(version: str, status: int) -> Iterator[int]:
    """Answer every request as a server of something else does; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = version

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- limits: line -> exit code, and what the answer holds

LINES = [
    ("limit ls", 0, "no limits yet; create one: ebbgate limit create NAME --limit 5"),
    ("top", 0, "no limits yet; create one: ebbgate limit create NAME --limit 5"),
    (
        "limit inspect databse",
        3,
        "did you mean 'database'? (create it: ebbgate limit create 'databse' --limit N)",
    ),
    ("top databse", 3, "did you mean 'database'?"),
    ("limit enable nothing", 3, "create it: ebbgate limit create 'nothing' --limit N"),
    ("lease ls --limit databse", 3, "did you mean 'database'?"),
    ("lease ls", 0, "hold one: ebbgate run --limit NAME -- COMMAND"),
    ("lease revoke 12345678", 3, "list them: ebbgate lease ls"),
    ("limit create database --limit 5", 4, "change it: ebbgate limit update 'database'"),
    ("limit create new", 2, "--limit is missing. See: ebbgate limit create --help"),
    ("limit create new --limit 5 --rate 5", 2, "rate"),
    ("limit create new --limit 5 --active-slots 2", 2, "ebbgate lease revoke ID"),
    ("limit crate new --limit 5", 2, 'Did you mean "create"?'),
    ("serv", 2, 'Did you mean "serve"?'),
    ("tpo", 2, "See: ebbgate --help"),
    ("limits ls", 2, 'Did you mean "limit"?'),
    ("create new --limit 5", 2, 'unknown command "create". Did you mean "limit create"? See: ebbgate --help'),
    ("cool-down api 5", 2, 'Did you mean "limit cool-down"?'),
    ("ls", 2, 'Did you mean "limit ls"?'),
    ("revoke 1234", 2, 'Did you mean "lease revoke"?'),
    ("status", 2, 'Did you mean "doctor"?'),
    ("version", 2, 'Did you mean "--version"?'),
    ("limit add new --limit 5", 2, 'Did you mean "limit create"? See: ebbgate limit --help'),
    ("gcl set new --limit 5", 2, 'Did you mean "gcl update"?'),
    ("limit rm new", 2, 'Did you mean "limit delete"?'),
    ("-o json limit ls", 0, "[]"),
    ("--output=json limit inspect nothing", 3, '{"code":"limit_not_found"'),
    ("help run", 0, "Usage: ebbgate run"),
    ("help limit create", 0, "Usage: ebbgate limit create"),
    ("run --limit database", 2, "put -- before the command"),
    ("run --limit database ls", 2, "put -- before the command"),
    ("run -- ls", 2, "give --limit NAME or --rate-limit NAME"),
    ("completion tcsh", 2, "bash"),
]


@pytest.mark.parametrize(("line", "code", "answer"), LINES, ids=[line for line, _, _ in LINES])
def test_a_wrong_word_is_answered_with_the_right_one(cli: Cli, line: str, code: int, answer: str) -> None:
    if "database" in line or "databse" in line:
        cli("limit create database --limit 5")
    said = cli(line)
    assert said.code == code
    assert answer in said.out + said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("line", "code", "answer"),
    [
        (
            "run --limit databse --if-missing run -- true",
            0,
            "did you mean 'database'? (create it: ebbgate limit create 'databse'",
        ),
        ("run --limit databse -- true", 3, "did you mean 'database'?"),
        (
            "run --limit off -- true",
            0,
            "'off' is disabled, so it does not block; turn it on: ebbgate limit enable off",
        ),
        ("run --rate-limit database -- true", 2, "set it: ebbgate limit update 'database' --rate 10/s"),
        ("run --limit database --occupy 9 -- true", 2, "ebbgate limit update 'database' --limit 9"),
        ("run --limit closed --timeout 0 -- true", 75, "see why: ebbgate limit inspect 'closed'"),
        ("run --limit database -- no-such-command", 127, "not found on PATH"),
    ],
)
def test_a_wrong_limit_of_a_command_is_answered_with_what_to_do(
    real: Real, line: str, code: int, answer: str
) -> None:
    real("limit", "create", "database", "--limit", "5")
    real("limit", "create", "off", "--limit", "5", "--disable")
    real("limit", "create", "closed", "--limit", "0")
    said = real(*line.split())
    assert (said.code, said.out) == (code, "")
    assert answer in said.err


# --- addresses: EBBGATE_URL -> what the answer holds

URLS = [
    ("localhost:4220", "did you mean ebbgate://localhost:4220?"),
    ("10.0.0.7:4220", "did you mean ebbgate://10.0.0.7:4220?"),
    ("ebbgat://localhost", "did you mean ebbgate://localhost?"),
    ("htps://gate.example.com", "did you mean https://gate.example.com?"),
    ("sqllite:///limits.db", "did you mean sqlite:///limits.db?"),
    ("limits.db", "did you mean sqlite:///limits.db?"),
    ("/var/lib/limits.db", "did you mean sqlite:////var/lib/limits.db?"),
    ("sqlite://limits.db", "three slashes"),
    ("sqlite:///~/limits.db", "write the home folder out"),
    ("redis://localhost:6379", "or reach a server: ebbgate://host:4220"),
    ("postgresql://localhost/x", "(ebbgate serve --store)"),
    ("amqp://localhost", "write ebbgate://host:4220 for a server"),
    ("4220", "write ebbgate://host:4220 for a server"),
    ("ebbgate://", "write ebbgate://host:4220"),
    ("ebbgate:localhost:4220", "write ebbgate://host:4220"),
    ("ebbgate://me:secret@localhost", "set EBBGATE_API_KEY"),
]


@pytest.mark.parametrize(("url", "answer"), URLS)
def test_a_wrong_address_is_answered_with_the_right_form(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str, answer: str
) -> None:
    monkeypatch.setenv("EBBGATE_URL", url)
    said = cli("limit ls")
    assert (said.code, said.out) == (2, "")
    assert answer in said.err
    assert "secret" not in said.err


def asked(cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str, **variables: str) -> tuple[int, str]:
    monkeypatch.setenv("EBBGATE_URL", url)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = cli("limit ls")
    assert said.out == "" or said.code == 0
    return said.code, said.err


def test_a_server_that_does_not_run_or_is_something_else_is_told_from_one_that_does(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = unused_port()
    code, said = asked(cli, monkeypatch, f"ebbgate://127.0.0.1:{port}")
    assert (code, "Connection refused); start one: ebbgate serve" in said) == (1, True)
    code, said = asked(cli, monkeypatch, "ebbgate://no-such-host.invalid")
    assert (code, "no-such-host.invalid" in said and "start one: ebbgate serve" in said) == (1, True)
    for version, status in (("HTTP/1.1", 404), ("HTTP/1.1", 200), ("HTTP/1.1", 302), ("HTTP/1.0", 404)):
        with somebody_else(version, status) as port:
            code, said = asked(cli, monkeypatch, f"http://127.0.0.1:{port}")
            assert code == 1
            assert f"what answers at ebbgate://127.0.0.1:{port} is no ebbgate server" in said
            assert "EBBGATE_URL, then see: ebbgate doctor" in said


def test_tls_on_one_side_only_is_answered_with_the_other_address(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make_certificates(tmp_path)
    with served("memory://", socket=False) as server:
        code, said = asked(cli, monkeypatch, f"ebbgates://127.0.0.1:{server.port}")
        assert (code, f"export EBBGATE_URL=ebbgate://127.0.0.1:{server.port}\n" in said) == (1, True)
    with served("memory://", socket=False, tls_cert=folder / "one.pem", tls_key=folder / "one.key") as server:
        code, said = asked(cli, monkeypatch, f"ebbgate://127.0.0.1:{server.port}")
        assert (code, f"export EBBGATE_URL=ebbgates://127.0.0.1:{server.port}\n" in said) == (1, True)
        code, said = asked(cli, monkeypatch, f"ebbgates://127.0.0.1:{server.port}")
        assert (code, "set EBBGATE_CA_FILE" in said) == (1, True)
        code, said = asked(
            cli, monkeypatch, f"ebbgates://localhost:{server.port}", EBBGATE_CA_FILE=str(folder / "one.pem")
        )
        assert code == 0


def test_a_missing_and_a_wrong_key_exit_5_and_a_wrong_path_exits_1(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served("memory://", socket=False, keys=keys_from(f"me={KEY}", None)) as server:
        code, said = asked(cli, monkeypatch, server.url)
        assert (code, "set EBBGATE_API_KEY" in said) == (5, True)
        code, said = asked(cli, monkeypatch, server.url, EBBGATE_API_KEY="wrong" * 5)
        assert (code, "set EBBGATE_API_KEY" in said) == (5, True)
        code, said = asked(cli, monkeypatch, f"{server.url}/nowhere", EBBGATE_API_KEY=KEY)
        assert (code, "correct the path in EBBGATE_URL" in said) == (1, True)
        assert asked(cli, monkeypatch, server.url, EBBGATE_API_KEY=KEY)[0] == 0


def test_nobody_at_a_prompt_waits_half_a_minute_for_a_server_that_was_never_there(real: Real) -> None:
    real.environment["EBBGATE_URL"] = f"ebbgate://127.0.0.1:{unused_port()}"
    said = real("limit", "ls")  # whose patience is 20 s
    assert (said.code, "start one: ebbgate serve" in said.err) == (1, True)


# --- the machine


def test_a_missing_extra_is_answered_with_its_installation(real: Real) -> None:
    program = (
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'litestar' else find(name, *more)\n"
        "from ebbgate.cli.main import main; main(['serve'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=real.environment
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"install it: pip install {requirement('server')}" in done.stderr


@pytest.mark.parametrize("extra", ["", "server", "yaml", "postgres", "redis", "httpx", "requests", "otel"])
def test_what_an_error_tells_to_install_can_be_installed(extra: str) -> None:
    """As long as there is no release, a name alone finds nothing: the folder of this installation does."""
    (wanted,) = shlex.split(requirement(extra))
    place, _, rest = wanted.partition("[")
    project = tomllib.loads((Path(place) / "pyproject.toml").read_text())["project"]
    assert project["name"] == "ebbgate"
    assert not extra or rest.removesuffix("]") in project["optional-dependencies"]


def test_an_old_python_is_answered_with_the_one_it_takes(real: Real) -> None:
    program = "import sys; sys.version_info = (3, 9, 2); import ebbgate"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=real.environment
    )
    assert done.returncode == 1
    assert "ebbgate needs Python 3.11 or newer, this is 3.9; " in done.stderr
    assert COMMAND.endswith("ebbgate")
