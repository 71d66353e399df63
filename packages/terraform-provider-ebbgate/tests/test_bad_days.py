"""Lost answers, busy servers, foreign servers, Ctrl-C and kill: nothing is half done, nothing is left running."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from terraform_between import Answer, Pass, between
from terraform_support import HEAD, PATIENCE_SECONDS, Limits, Workspace, resource

from tests.cli.support import is_running, wait_until

pytestmark = pytest.mark.slow


def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_done_twice(
    workspace: Workspace, served: str, limits: Limits, name: str
) -> None:
    lost: list[str] = []

    def lose(method: str, path: str, ask: Pass) -> Answer | None:
        answer = ask()
        if method in {"POST", "PATCH", "DELETE"} and method not in lost:
            lost.append(method)
            return None
        return answer

    with between(served, lose) as url:
        workspace.environment["EBBGATE_URL"] = url
        workspace.write(resource(name, "limit = 5"))
        workspace.apply()
        assert workspace.state()["ebbgate_limit.it"]["id"] == limits.get(name)["id"]
        workspace.write(resource(name, "limit = 6"))
        workspace.apply()
        assert limits.get(name)["limit"] == 6
        workspace.apply("-destroy")
        assert limits.read(name) is None
    assert lost == ["POST", "PATCH", "DELETE"]


def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    workspace: Workspace, served: str, limits: Limits, name: str
) -> None:
    busy = iter([503, 502, 504])
    problem = {"code": "store_unavailable", "title": "The store is out of reach", "detail": "it starts"}

    def refuse(method: str, path: str, ask: Pass) -> Answer | None:
        status = next(busy, None) if method == "POST" else None
        return ask() if status is None else Answer(status, json.dumps(problem).encode())

    with between(served, refuse) as url:
        workspace.environment["EBBGATE_URL"] = url
        workspace.write(resource(name, "limit = 5"))
        workspace.apply()
    assert limits.read(name)


@pytest.mark.parametrize(
    ("spoiled", "answer", "said"),
    [
        ("GET", Answer(200, b"<html>Welcome</html>", "text/html"), "This is no ebbgate server"),
        ("GET", Answer(404, b"not here", "text/plain"), "This is no ebbgate server"),
        ("GET", Answer(200, b'{"hello": "world"}'), "This is no ebbgate server"),
        ("POST", Answer(500, b"oops"), "answers with status 500 and no problem document: 'oops'"),
        ("POST", Answer(201, b"{}"), "The provider has a defect"),
    ],
)
def test_a_foreign_answer_ends_in_a_sentence(
    workspace: Workspace, served: str, limits: Limits, name: str, spoiled: str, answer: Answer, said: str
) -> None:
    def spoil(method: str, path: str, ask: Pass) -> Answer | None:
        return answer if method == spoiled else ask()

    with between(served, spoil) as url:
        workspace.environment["EBBGATE_URL"] = url
        workspace.write(resource(name, "limit = 5"))
        assert said in workspace.apply(code=1).said
    assert limits.read(name) is None
    assert workspace.state() == {}


def test_a_limit_is_not_given_up_because_something_else_answers_not_found(
    workspace: Workspace, served: str, limits: Limits, name: str
) -> None:
    workspace.write(resource(name, "limit = 5"))
    workspace.apply()
    with between(
        served,
        lambda _, path, ask: ask() if "page_size" in path else Answer(404, b"no such page", "text/plain"),
    ) as url:
        failed = workspace.terraform("plan", "-no-color", more={"EBBGATE_URL": url})
        assert failed.code == 1
        assert "answers with status 404 and no problem document" in failed.said
    assert workspace.plan() == {}


def provider_of(terraform: int) -> int:
    """Return the process id of the provider that a running Terraform started."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if parent == terraform:
            return int(entry.name)
    raise AssertionError("Terraform has no child")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks into /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_apply_that_is_broken_off(
    workspace: Workspace, served: str, limits: Limits, name: str, end: signal.Signals
) -> None:
    """Ctrl-C lets what was begun get into the state; after a kill, no process stays behind."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(method: str, path: str, ask: Pass) -> Answer | None:
        answer = ask()
        if method == "POST":
            begun.set()
            go_on.wait(PATIENCE_SECONDS)
        return answer

    with between(served, hold) as url:
        workspace.write(resource(name, "limit = 5"))
        process = subprocess.Popen(
            ["terraform", "apply", "-auto-approve", "-no-color"], cwd=workspace.folder, stdin=subprocess.DEVNULL,
            env={**workspace.environment, "EBBGATE_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert begun.wait(PATIENCE_SECONDS)
            provider = provider_of(process.pid)
            if end is signal.SIGINT:  # as a terminal does: all processes of the foreground get it
                os.killpg(process.pid, end)
            else:
                process.kill()
            assert process.stdout is not None
            if end is signal.SIGINT:
                while "Gracefully shutting down" not in process.stdout.readline():
                    assert process.poll() is None
            go_on.set()
            said = process.communicate(timeout=PATIENCE_SECONDS)[0]
            wait_until(lambda: not is_running(provider), "the provider stays behind")
        finally:
            go_on.set()
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert "Traceback" not in said
    made = limits.get(name)
    if end is signal.SIGINT:
        assert workspace.state()["ebbgate_limit.it"]["id"] == made["id"]
        assert workspace.plan() == {}


def test_the_provider_tells_people_who_start_it_themselves(bin_folder: Path) -> None:
    done = subprocess.run(
        [bin_folder / "ebbgate-terraform", "provider"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "this is a plugin that Terraform starts" in done.stderr


def test_two_hundred_limits_in_one_apply(workspace: Workspace, limits: Limits, name: str) -> None:
    """The target is 20 s on two idle cores."""
    workspace.write(
        f'resource "ebbgate_limit" "many" {{\n  count = 200\n  name = "{name}-${{count.index}}"\n'
        '  limit = 5\n  rate = "60/hour"\n}\n'
    )
    before = os.times()
    workspace.apply()
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"200 limits: {after.elapsed - before.elapsed:.1f} s, of that {busy:.1f} s of processors")
    assert len(limits.names(name)) == 200
    assert busy < 20  # a machine that is busy otherwise does not count
    assert workspace.plan() == {}
    workspace.apply("-destroy")
    assert limits.names(name) == []


def test_one_lock_file_is_right_on_every_unix(workspace: Workspace) -> None:
    (workspace.folder / ".terraform.lock.hcl").unlink()
    workspace.write(HEAD, "versions.tf")
    platforms = [
        f"-platform={name}" for name in ("linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64")
    ]
    done = workspace.terraform("providers", "lock", "-no-color", f"-fs-mirror={workspace.mirror}", *platforms)
    assert done.code == 0, done
    lock = (workspace.folder / ".terraform.lock.hcl").read_text()
    assert lock.count("h1:") == 1
    assert workspace.terraform("init", "-lockfile=readonly", "-input=false").code == 0


def test_a_provider_that_cannot_start_says_why(workspace: Workspace, name: str) -> None:
    workspace.write(resource(name, "limit = 5"))
    whole = workspace.environment["PATH"]
    workspace.environment["PATH"] = whole.partition(os.pathsep)[2]
    failed = workspace.terraform("validate", "-no-color")
    assert failed.code == 1
    assert "ebbgate-terraform is not on PATH; install it: uv tool install ebbgate-terraform" in failed.said
    workspace.environment["PATH"] = whole
    broken = workspace.folder / "grpc"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('not for this machine')")
    failed = workspace.terraform("validate", "-no-color", more={"PYTHONPATH": str(workspace.folder)})
    assert failed.code == 1
    assert "cannot run here (ImportError: not for this machine); install it anew" in failed.said
