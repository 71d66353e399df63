"""Clients that go: what is certain and what is not, and what coming back keeps."""

import shutil
import signal
import subprocess
import sys

import pytest

from ebbgate.core.model import SECOND
from ebbgate.wire.stream import EndedItem, HeldItem, WaitingItem
from tests.server.conftest import Launch, Serve, Talk
from tests.server.streaming import ROOT, StreamServer, Wire, wait_until

GRACE = 0.15

CLIENT = """
import sys
from tests.server.streaming import Talker
talker = Talker(int(sys.argv[1]), "client")
talker.held("held")
talker.acquire("full")
print("ready", flush=True)
sys.stdin.readline()
"""


def is_away(server: StreamServer, session: str) -> bool:
    """Tell whether a session is away, or gone."""
    known = server.within(lambda core: core.decider.book.sessions.get(session))
    return known is None or known.away_us >= 0


def waiting(server: StreamServer, name: str) -> int:
    """Return how many wait for a limit."""
    return server.within(lambda core: core.decider.book.names[name].waiting)


def test_what_a_killed_client_held_is_free_after_the_grace_and_its_waiter_leaves(
    serve: Serve, talk: Talk
) -> None:
    server = serve(away_grace_seconds=GRACE)
    other = talk(server.port, "other")
    other.limit("held", 1)
    other.limit("full", 1)
    other.held("full")
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(server.port)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        assert isinstance(other.acquire("held"), WaitingItem)
        assert waiting(server, "full") == 1
        before_us = server.within(lambda core: core.decider.store.clock())
        client.send_signal(signal.SIGKILL)
        granted = other.push(HeldItem)
    assert granted.at_us - before_us >= GRACE * SECOND
    assert waiting(server, "full") == 0
    wait_until(lambda: server.within(lambda core: "client" not in core.decider.book.sessions))


@pytest.mark.parametrize("how", ["vanish", "reset", "close"])
def test_a_connection_that_the_client_ends_is_certain(serve: Serve, talk: Talk, how: str) -> None:
    server = serve(away_grace_seconds=GRACE)
    goer, other = talk(server.port, "goer"), talk(server.port, "other")
    goer.limit()
    lease = goer.held().id
    assert isinstance(other.acquire(), WaitingItem)
    getattr(goer, how)()
    assert other.push(HeldItem).token
    back = talk(server.port, "goer", 2)
    ended = back.renew(lease)
    assert isinstance(ended, EndedItem)
    assert ended.why == "lost_holder"


def test_a_connection_that_the_server_closes_says_nothing_about_the_client(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=GRACE)
    clumsy, other = talk(server.port, "clumsy"), talk(server.port, "other")
    clumsy.limit()
    clumsy.limit("full", 1)
    other.held("full")
    held = clumsy.held()
    clumsy.acquire("full")
    clumsy.text(b"nonsense")
    assert clumsy.closes().code == 4400
    wait_until(lambda: waiting(server, "full") == 0)
    assert isinstance(talk(server.port, "clumsy", 2).renew(held.id), HeldItem)


def test_a_client_that_is_stopped_stays_connected(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=0.02)
    other = talk(server.port, "other")
    other.limit("held", 1)
    other.limit("full", 1)
    other.held("full")
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(server.port)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            other.receive(0.3)
        assert not is_away(server, "client")
        assert waiting(server, "full") == 1
        client.send_signal(signal.SIGCONT)
        client.kill()


SILENCE = """
import faulthandler, pathlib, socket, subprocess, sys, tempfile
faulthandler.dump_traceback_later(40, exit=True)
from tests.server.streaming import StreamServer, Talker, wait_until
from ebbgate.wire.stream import HeldItem
def ip(*words):
    subprocess.run(["ip", *words], check=True)
ip("link", "set", "lo", "up")
for name in ("disable_policy", "disable_xfrm"):
    pathlib.Path(f"/proc/sys/net/ipv4/conf/lo/{name}").write_text("0")
with tempfile.TemporaryDirectory(prefix="eg") as folder:
    server = StreamServer(f"sqlite:///{folder}/x.db", away_grace_seconds=0.1)
    silent, other = Talker(server.port, "silent"), Talker(server.port, "other")
    silent.limit()
    silent.limit("full", 1)
    other.held("full")
    held = silent.held()
    silent.acquire("full")
    def expect_answers(core):  # as `sockets` does for every listener, in less time
        for line in core.sessions._lines():
            connection = line._socket.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
                connection.setsockopt(socket.IPPROTO_TCP, option, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)  # as `socket` does
    server.within(expect_answers)
    ip("xfrm", "policy", "add", "dir", "in", "action", "block")  # what arrives vanishes
    wait_until(lambda: server.within(lambda core: core.decider.book.names["full"].waiting == 0))
    ip("xfrm", "policy", "deleteall")
    back = Talker(server.port, "silent", 2)
    assert isinstance(back.renew(held.id), HeldItem)
    for talker in (silent, other, back):
        talker.sock.close()
    server.stop()
print("so it is")
"""


def test_when_a_connection_falls_silent_only_the_waiters_leave() -> None:
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", SILENCE]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("no unshare, no ip")
    allowed = subprocess.run([*command[:4], "ip", "link"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"no network of its own here: {allowed.stderr.decode()}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "so it is\n", done.stderr


def test_a_connection_through_which_nothing_comes_any_more_stays(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=0.02)
    wire = Wire(server.port)
    try:
        silent, other = talk(wire.port, "silent"), talk(server.port, "other")
        silent.limit()
        other.limit("full", 1)
        other.held("full")
        silent.held()
        silent.acquire("full")
        wire.is_silent = True
        silent.vanish()
        with pytest.raises(TimeoutError):
            other.receive(0.3)
        assert not is_away(server, "silent")
        assert waiting(server, "full") == 1
    finally:
        wire.close()


def test_who_comes_back_within_the_grace_keeps_everything(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=30.0)
    goer, other = talk(server.port, "goer"), talk(server.port, "other")
    goer.limit()
    goer.limit("full", 1)
    taken = other.held("full")
    held, waits = goer.held(), goer.acquire_item("full")
    goer.ask(waits)
    goer.reset()
    wait_until(lambda: is_away(server, "goer"))
    back = talk(server.port, "goer", 2)
    assert not is_away(server, "goer")
    assert back.held("db", held.id).token == held.token
    other.release(taken.id)
    assert back.push(HeldItem).id == waits.id


def test_one_connection_of_two_is_enough_to_be_here(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=0.02)
    main, renewer = talk(server.port, "s"), talk(server.port, "s", role="renewer")
    main.limit()
    held = main.held()
    main.vanish()
    for _ in range(20):
        assert isinstance(renewer.renew(held.id), HeldItem)
    assert not is_away(server, "s")
    renewer.vanish()
    wait_until(lambda: server.within(lambda core: "s" not in core.decider.book.sessions))


def test_a_greeting_of_a_renewer_that_was_given_up_and_came_late_hides_no_other(
    serve: Serve, talk: Talk
) -> None:
    server = serve(away_grace_seconds=0.02)
    main, renewer = talk(server.port, "s"), talk(server.port, "s", role="renewer")
    main.limit()
    held = main.held()
    late = talk(server.port, "s", role="renewer")
    late.vanish()
    main.vanish()
    for _ in range(20):
        assert isinstance(renewer.renew(held.id), HeldItem)
    assert not is_away(server, "s")


# --- the server goes, and comes back


def test_acknowledged_leases_survive_the_kill_of_the_server_and_tokens_rise(
    launch: Launch, talk: Talk
) -> None:
    tokens: list[int] = []
    leases: list[str] = []
    for epoch in range(1, 4):
        server = launch(recovery_grace_seconds=30)
        talker = talk(server.port, "s", epoch)
        if epoch == 1:
            talker.limit("db", 100)
        for lease in leases:
            assert isinstance(talker.renew(lease), HeldItem)
        for _ in range(5):
            held = talker.held()
            tokens.append(held.token)
            leases.append(held.id)
        server.kill()
    assert tokens == sorted(set(tokens))


def test_nothing_expires_within_the_grace_after_a_restart(serve: Serve, talk: Talk) -> None:
    first = serve()
    talker = talk(first.port, "s")
    talker.limit()
    held = talker.held(duration_us=SECOND // 2)
    first.stop()
    second = serve(recovery_grace_seconds=20)
    back, other = talk(second.port, "s", 2), talk(second.port, "other")
    assert isinstance(other.acquire(), WaitingItem)
    wait_until(lambda: second.within(lambda core: core.decider.store.clock()) > held.expires_us)
    with pytest.raises(TimeoutError):
        other.receive(0.1)
    assert isinstance(back.renew(held.id), HeldItem)
    assert other.pushed == []


def test_who_does_not_return_after_a_restart_is_away_and_keeps_what_it_holds(
    serve: Serve, talk: Talk
) -> None:
    first = serve()
    absent, back = talk(first.port, "absent"), talk(first.port, "back")
    absent.limit("db", 1)
    absent.limit("held", 2)
    taken = back.held()
    absent.held("held")
    assert isinstance(absent.acquire(), WaitingItem)
    waits = back.acquire_item()
    back.ask(waits)
    first.stop()
    second = serve(recovery_grace_seconds=0.3)
    back = talk(second.port, "back", 2)
    assert waiting(second, "db") == 2
    wait_until(lambda: is_away(second, "absent"))
    wait_until(lambda: waiting(second, "db") == 1)
    assert second.within(lambda core: core.decider.book.names["held"].held) == 1
    back.release(taken.id)
    assert back.push(HeldItem).id == waits.id
