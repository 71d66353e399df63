"""One address for two servers: limits go to ebbgate, everything else to a real server of Prefect's."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from bench.background import background, free_port, listens
from tests.prefect.conftest import folder_of_a_test
from tests.prefect.contract import LIMITS
from tests.prefect.environments import ROOT, nginx, python_of
from tests.prefect.support import Background, Caller
from tests.prefect.test_sdk import most_at_once, told
from tests.prefect.theirs import prefect_server, run
from tests.server.processes import Served, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DEPLOY = ROOT / "deploy"


def filled_in(text: str, port: int, ebbgate: str, prefect: str) -> str:
    """Return a configuration with the addresses of a test."""
    for ours, theirs in ((":4220", ebbgate), (":4200", prefect), ("4300", str(port))):
        assert ours in text
        text = text.replace(ours, theirs if theirs == str(port) else f":{theirs.rpartition(':')[2]}")
    return text


@contextmanager
def behind_nginx(folder: Path, ebbgate: str, prefect: str) -> Iterator[str]:
    program, port = nginx(), free_port()
    text = filled_in((DEPLOY / "nginx-prefect.conf").read_text(encoding="utf-8"), port, ebbgate, prefect)
    (folder / "site.conf").write_text(text, encoding="utf-8")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\ndaemon off;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}include {folder}/site.conf;\n}}\n",
        encoding="utf-8",
    )
    command = [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    with background(command, lambda: listens(port)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def behind_caddy(folder: Path, ebbgate: str, prefect: str) -> Iterator[str]:
    program, port = shutil.which("caddy"), free_port()
    if program is None:
        pytest.skip("NOT TESTED BEHIND CADDY: it is not here")
    text = filled_in((DEPLOY / "Caddyfile-prefect").read_text(encoding="utf-8"), port, ebbgate, prefect)
    path = folder / "Caddyfile"
    path.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text, encoding="utf-8")
    command = [program, "run", "--adapter", "caddyfile", "--config", str(path)]
    with background(command, lambda: listens(port), environment={**os.environ, "HOME": str(folder)}):
        yield f"http://127.0.0.1:{port}"


PROXIES = {"nginx": behind_nginx, "caddy": behind_caddy}


@pytest.fixture(scope="module")
def prefect() -> Iterator[str]:
    """A server of Prefect's."""
    folder = folder_of_a_test()
    with prefect_server(python_of("newest"), folder) as url:
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ebbgate() -> Iterator[Served]:
    """A server of ours that knows the proxy."""
    folder = folder_of_a_test()
    with started(folder, "--trusted-proxy", "127.0.0.1") as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest, tmp_path: Path, prefect: str, ebbgate: Served) -> Iterator[str]:
    """The address of both."""
    with PROXIES[request.param](tmp_path, ebbgate.url, prefect) as url:
        yield url


@pytest.fixture
def limits(ebbgate: Served) -> Iterator[Caller]:
    """The limits of the flow, made for one test."""
    caller = Caller(ebbgate.url)
    caller.create("database", 2)
    caller.create("api", 3, 20.0)
    yield caller
    for name in ("database", "api"):
        assert caller.ask("DELETE", f"{LIMITS}/{name}").status == 204


def test_a_flow_runs_at_prefect_and_its_limits_are_kept_by_ebbgate(
    proxy: str, prefect: str, limits: Caller, tmp_path: Path
) -> None:
    before = len(flow_runs(prefect))
    said = run(python_of("newest"), "flow.py", proxy, tmp_path)
    pieces = told(said)
    assert len(pieces) == 6, said
    assert 1 <= most_at_once(pieces) <= 2
    assert limits.active_slots("database") == 0
    ended = limits.ask("GET", "/v1/leases?state=ended&limit=database").body["items"]
    assert [lease["why"] for lease in ended].count("released") >= 6
    spent = limits.ask("GET", "/v1/leases?state=ended&limit=api").body["items"]
    assert [lease["why"] for lease in spent].count("spent") >= 6
    runs = flow_runs(prefect)
    assert len(runs) == before + 1
    assert {entry["state_type"] for entry in runs} == {"COMPLETED"}
    assert Caller(prefect).ask("GET", f"{LIMITS}/database").status == 404, "Prefect knows the limit as well"
    assert "Unable to connect" not in said


def flow_runs(prefect: str) -> list[dict[str, object]]:
    """Return what has run."""
    found: list[dict[str, object]] = Caller(prefect).ask("POST", "/api/flow_runs/filter", {}).body
    return found


def test_a_waiter_behind_a_proxy_is_told_at_once_and_its_going_is_noticed(proxy: str, limits: Caller) -> None:
    through = Caller(proxy)
    lease = limits.acquire("database", slots=2).lease_id
    waiter = Background(through.acquire, "database", slots=2)
    limits.wait_for_waiters("database", 1)
    limits.release(lease)
    lease = waiter.answer().lease_id
    assert through.renew(lease).status == 204
    gone = through.send("POST", f"{LIMITS}/increment-with-lease", {"slots": 1, "names": ["database"]})
    limits.wait_for_waiters("database", 1)
    gone.close()
    limits.wait_for_waiters("database", 0)
    assert through.release(lease).status == 204


def test_each_server_renews_its_own_leases(proxy: str, limits: Caller) -> None:
    through = Caller(proxy)
    lease = through.acquire("database").lease_id
    assert lease[14] == "8"
    assert through.renew(lease).status == 204
    through.release(lease)
    unknown = str(uuid4())
    theirs = through.renew(unknown)
    assert (theirs.status, set(theirs.body)) == (410, {"detail"})
    ours = through.renew(f"{unknown[:14]}8{unknown[15:]}")
    assert (ours.status, ours.body["why"]) == (410, "unknown")


def test_everything_else_is_prefects(proxy: str, prefect: str) -> None:
    for path in ("/api/admin/version", "/api/health", "/api/csrf-token?client=x", "/api/nothing"):
        assert Caller(proxy).ask("GET", path).status == Caller(prefect).ask("GET", path).status
    assert Caller(proxy).ask("GET", "/api/admin/version").body != "3.999.0"


def test_pages_of_prefect_that_are_loaded_through_the_proxy_show_ebbgates_limits(
    proxy: str, limits: Caller
) -> None:
    page = {"Origin": proxy, "Sec-Fetch-Site": "same-origin"}
    shown = Caller(proxy, "").ask("POST", f"{LIMITS}/filter", {"offset": 0}, **page)
    assert {limit["name"] for limit in shown.body} == {"database", "api"}
    elsewhere = {"Origin": "http://127.0.0.1:4200", "Sec-Fetch-Site": "same-site"}
    assert Caller(proxy, "").ask("POST", f"{LIMITS}/filter", {"offset": 0}, **elsewhere).status == 403


@pytest.mark.parametrize("name", ["nginx-prefect.conf", "Caddyfile-prefect"])
def test_a_configuration_names_no_port_but_the_usual_ones(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert {"4200", "4220", "4300"} <= set(text.replace(":", " ").replace(";", " ").split())


def test_the_site_is_what_nginx_itself_calls_correct(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ include {DEPLOY}/nginx-prefect.conf; }}\n",
        encoding="utf-8",
    )
    command = [
        nginx(),
        "-t",
        "-q",
        "-p",
        str(tmp_path),
        "-e",
        str(tmp_path / "log"),
        "-c",
        str(tmp_path / "nginx.conf"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
