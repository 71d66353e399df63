"""The threads of a process share one connection, and none of them waits for another's answer."""

import _thread
import socket
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ebbgate import Client, errors
from ebbgate.wire.questions import ListLimits
from tests.client.remote.support import wait_until
from tests.serving import ServedInThread


def connections(server: ServedInThread) -> int:
    """Return how many connections the server has."""
    return sum(len(one.server_state.connections) for one in server.server._listening) if server.server else 0


def test_many_threads_get_in_and_out_over_one_connection(client: Client, server: ServedInThread) -> None:
    client.create_limit("db", 5)
    guard = threading.Lock()
    inside = most = 0

    def work(_: int) -> None:
        nonlocal inside, most
        for _ in range(10):
            with client.concurrency("db"):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(work, range(40)))
        assert most <= 5
        assert connections(server) <= 2  # the renewer has its own
    assert client.read_limit("db").held_slots == 0


def test_a_thread_gets_its_answer_while_others_wait_for_a_slot(client: Client) -> None:
    """Whoever reads for all passes the lead on, whichever of them is done first."""
    client.create_limit("full", 1)
    client.create_limit("free", 1)
    with client.concurrency("full"), ThreadPoolExecutor(10) as pool:

        def wait(seconds: float) -> None:
            with pytest.raises(errors.AcquireTimeout), client.concurrency("full", timeout_seconds=seconds):
                pytest.fail("it is held")

        waiting = [pool.submit(wait, 0.1 * number) for number in range(1, 9)]
        while not all(future.done() for future in waiting):
            with client.concurrency("free", timeout_seconds=5):
                pass
        for future in waiting:
            future.result()
        assert client.read_limit("full").waiting == 0


def test_timeouts_are_kept_by_those_who_do_not_read(client: Client) -> None:
    client.create_limit("db", 1)
    with client.concurrency("db"), ThreadPoolExecutor(5) as pool:

        def wait(seconds: float) -> float:
            begun = time.monotonic()
            with pytest.raises(errors.AcquireTimeout), client.concurrency("db", timeout_seconds=seconds):
                pytest.fail("it is held")
            return time.monotonic() - begun

        seconds = [0.5, 0.1, 0.2, 0.3, 0.4]
        for wanted, taken in zip(seconds, pool.map(wait, seconds), strict=True):
            assert wanted <= taken < wanted + 8


class Interrupting:
    """A socket of which one call is interrupted once, as Ctrl-C does."""

    def __init__(self, sock: socket.socket, method: str, *, before: bool) -> None:
        self._sock, self._method, self._before = sock, method, before
        self.thread = threading.get_ident()
        self.happened = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the socket has it
        real = getattr(self._sock, name)
        if name != self._method or self.happened or threading.get_ident() != self.thread:
            return real

        def interrupted(*arguments: object) -> object:
            self.happened = True
            if not self._before:
                real(*arguments)
            raise KeyboardInterrupt

        return interrupted


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("method", ["send", "recv"])
def test_an_interrupt_while_a_thread_sends_or_reads_for_all_harms_nobody(
    client: Client, method: str, before: bool
) -> None:
    client.create_limit("db", 3)
    over = threading.Event()

    def contend() -> int:
        rounds = 0
        while not over.is_set():
            with client.concurrency("db", timeout_seconds=10):
                rounds += 1
        return rounds

    gate: Any = client.gate
    with ThreadPoolExecutor(3) as pool:
        contending = [pool.submit(contend) for _ in range(3)]
        connection = gate.threads._connection
        sock = connection.sock = Interrupting(connection.sock, method, before=before)
        with pytest.raises(KeyboardInterrupt):
            for _ in range(10_000):
                client.read_limit("db")
        assert sock.happened
        for _ in range(20):
            with client.concurrency("db", timeout_seconds=10):
                pass
        over.set()
        assert all(future.result(20) for future in contending)
    assert client.read_limit("db").held_slots == 0


@pytest.mark.parametrize("breaks", [1, 2])
def test_connections_that_broke_while_their_reader_was_held_up_are_closed(
    client: Client, monkeypatch: pytest.MonkeyPatch, breaks: int
) -> None:
    client.create_limit("db", 1)
    gate: Any = client.gate
    channel = gate.threads
    clock = channel._clock
    held_up, go_on = threading.Event(), threading.Event()

    def hold_up() -> int:
        if sys._getframe(1).f_code.co_name == "_until" and channel._leader == threading.get_ident():
            held_up.set()
            assert go_on.wait(20)
        now_us: int = clock()
        return now_us

    def wait() -> None:
        with client.concurrency("db", timeout_seconds=20):
            pass

    broken = []
    with ThreadPoolExecutor(1) as pool:
        with client.concurrency("db"):
            waiting = pool.submit(wait)
            wait_until(lambda: channel._leader)
            monkeypatch.setattr(channel, "_clock", hold_up)
            assert held_up.wait(20)
            for _ in range(breaks):
                broken.append(channel._connection)
                channel._drop(broken[-1], ConnectionError("it broke"))
                wait_until(lambda: channel._connection is not None)
            go_on.set()
        waiting.result(20)
    assert [connection.sock.fileno() for connection in broken] == [-1] * breaks


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("method", ["send", "recv"])
def test_an_interrupted_thread_that_is_alone_goes_on_over_a_new_connection(
    client: Client, method: str, before: bool
) -> None:
    client.create_limit("db", 1)
    gate: Any = client.gate
    connection = gate.threads._connection
    sock = connection.sock = Interrupting(connection.sock, method, before=before)
    with pytest.raises(KeyboardInterrupt):
        client.concurrency("db").__enter__()
    assert sock.happened
    with client.concurrency("db", timeout_seconds=10):
        assert client.read_limit("db").held_slots == 1
    assert client.read_limit("db").held_slots == client.read_limit("db").waiting == 0


def test_a_thread_that_was_interrupted_while_it_waited_is_out_of_the_queue(client: Client) -> None:
    client.create_limit("db", 1)

    def interrupt() -> None:
        wait_until(lambda: client.read_limit("db").waiting == 1)
        _thread.interrupt_main()

    with client.concurrency("db"), ThreadPoolExecutor(1) as pool:
        interrupting = pool.submit(interrupt)
        with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
            warnings.simplefilter("ignore", errors.NestedWaitWarning)
            client.concurrency("db").__enter__()
        interrupting.result()
        assert client.read_limit("db").waiting == 0


def test_a_closed_client_connects_again(client: Client, server: ServedInThread) -> None:
    client.create_limit("db", 1)
    for _ in range(3):
        with client.concurrency("db"):
            pass
        client.close()
        wait_until(lambda: connections(server) == 0)


def test_closing_releases_what_is_held_and_ends_who_waits(client: Client, server: ServedInThread) -> None:
    client.create_limit("db", 1)
    client.concurrency("db").__enter__()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            with client.concurrency("db"):
                pytest.fail("it is held")
        except errors.WaiterRemoved as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: client.read_limit("db").waiting == 1)
    begun = time.monotonic()
    client.close()
    assert time.monotonic() - begun < 10
    waiting.join(5)
    assert ended
    assert client.read_limit("db").held_slots == client.read_limit("db").waiting == 0


def test_a_gate_that_was_closed_answers_nobody(client: Client) -> None:
    gate = client.gate
    client.create_limit("db", 1)
    client.close()
    with pytest.raises(errors.ServerUnavailable):
        gate.question(ListLimits())
    assert gate.threads.see(ListLimits()) is None


@pytest.mark.parametrize("question", [{"name_or_id": 7}, {"name_or_id": None}])
def test_arguments_that_cannot_travel_are_refused_here(client: Client, question: dict[str, str]) -> None:
    """And do not end the connection of all others."""
    client.create_limit("db", 1)
    with pytest.raises((errors.InvalidRequest, errors.LimitNotFound)):
        client.read_limit(**question)
    assert client.read_limit("db").limit == 1
