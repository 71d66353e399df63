"""Whatever becomes of the server, a client keeps what it holds and its place, and is back at once."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ebbgate import Client, errors
from ebbgate.client.connect import close_gate
from ebbgate.client.remote.gate import RemoteGate
from ebbgate.core.commands import Renew
from ebbgate.core.model import SECOND
from tests.client.remote.conftest import Serve
from tests.client.remote.support import Served, pass_time, wait_until
from tests.interface.helpers import quick
from tests.serving import served

pytestmark = pytest.mark.slow


class Workers:
    """Threads and tasks that wait for a limit, in this order, and say when they are in."""

    def __init__(self, client: Client, name: str, count: int) -> None:
        self.client, self.name = client, name
        self.order: list[int] = []
        self.threads: list[threading.Thread] = []
        for number in range(count):
            target = self._task if number % 2 else self._thread
            self.threads.append(threading.Thread(target=target, args=(number,)))
            self.threads[-1].start()
            wait_until(lambda number=number: client.read_limit(name).waiting == number + 1)  # type: ignore[misc]

    def _thread(self, number: int) -> None:
        with self.client.concurrency(self.name):
            self.order.append(number)

    def _task(self, number: int) -> None:
        async def work() -> None:
            from ebbgate import AsyncClient

            async with AsyncClient(self.client.url).concurrency(self.name):
                self.order.append(number)

        asyncio.run(work())

    def join(self) -> None:
        """Wait until all have left."""
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize("how", ["killed", "drained"])
def test_a_server_that_comes_back_finds_holders_and_waiters_as_they_were(serve: Serve, how: str) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 1)
    with client.concurrency("db", lease_duration=60) as lease:
        workers = Workers(client, "db", 6)
        before = [waiter.id for waiter in client.list_waiters("db")]
        server.kill() if how == "killed" else server.end()
        server.start()
        assert [waiter.id for waiter in client.list_waiters("db")] == before
        assert [held.id for held in client.list_leases("db", "held")] == [lease.id]
        assert not lease.lost
    workers.join()
    assert workers.order == list(range(6))
    assert client.read_limit("db").held_slots == 0


def test_every_client_is_back_within_a_second_of_the_server(serve: Serve) -> None:
    """However long it was away."""
    server = serve()
    clients = [Client(server.url, api_key=f"of client {number}") for number in range(8)]
    clients[0].create_limit("db", 100)
    for client in clients:
        with client.concurrency("db"):
            pass
    server.kill()
    with ThreadPoolExecutor(len(clients)) as pool:

        def ask(client: Client) -> float:
            with client.concurrency("db", timeout_seconds=20):
                return time.monotonic()

        asking = [pool.submit(ask, client) for client in clients]
        pass_time(2.5)
        server.start()
        ready = time.monotonic()
        late = sorted(future.result() - ready for future in asking)
        assert late[len(late) // 2] < 1.0, "most, for a busy machine delays some"
        assert late[-1] < 5.0
    for client in clients:
        client.close()


def test_a_release_that_the_server_could_not_hear_is_made_when_it_is_back(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 5)

    async def hold_over_a_kill() -> None:
        from ebbgate import AsyncClient

        async with AsyncClient(server.url).concurrency("db"):
            server.kill()
        begun = time.monotonic()
        await asyncio.to_thread(server.start)
        while time.monotonic() - begun < 20 and (await asyncio.to_thread(client.read_limit, "db")).held_slots:
            await asyncio.sleep(0.01)

    with client.concurrency("db"):
        server.kill()
        begun = time.monotonic()
    assert time.monotonic() - begun < 5, "it does not wait for the server to be back"
    server.start()
    wait_until(lambda: client.read_limit("db").held_slots == 0)
    asyncio.run(hold_over_a_kill())
    assert client.read_limit("db").held_slots == 0


def test_what_is_asked_of_a_server_that_stands_still_is_answered_when_it_goes_on(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 5)
    server.stop()
    with ThreadPoolExecutor(4) as pool:
        held = pool.submit(lambda: client.concurrency("db").__enter__())
        limit = pool.submit(client.read_limit, "db")
        begun = time.monotonic()
        with pytest.raises(errors.ServerUnavailable), client.concurrency("db", timeout_seconds=0.3):
            pytest.fail("nobody lets it in")
        assert time.monotonic() - begun < 5, "it does not wait for the server to go on"
        server.go_on()
        held.result(10)
        assert limit.result(10).limit == 5
    # What was given up is given back, though its question was heard after all.
    wait_until(lambda: client.read_limit("db").held_slots == 1)


def test_leaving_a_block_takes_no_longer_than_100_ms_though_the_server_stands_still(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 5)

    async def leave_in_a_task() -> float:
        from ebbgate import AsyncClient

        async with AsyncClient(server.url).concurrency("db"):
            server.stop()
            begun = time.monotonic()
        return time.monotonic() - begun

    def leave_in_a_thread() -> float:
        with client.concurrency("db"):
            server.stop()
            begun = time.monotonic()
        return time.monotonic() - begun

    def leave(how: Callable[[], float]) -> float:
        seconds = how()
        server.go_on()
        wait_until(lambda: client.read_limit("db").held_slots == 0)
        return seconds

    quick(lambda: leave(leave_in_a_thread), 0.3)
    quick(lambda: leave(lambda: asyncio.run(leave_in_a_task())), 0.3)


def test_a_lease_that_cannot_be_renewed_is_lost_by_the_clients_own_clock(serve: Serve) -> None:
    server = serve("--recovery-grace", "30")
    client = Client(server.url)
    client.create_limit("db", 1)
    with pytest.warns(errors.LeaseLostWarning), client.concurrency("db", lease_duration=1.5) as lease:
        server.stop()
        wait_until(lambda: lease.lost, 10)  # long before the server would say so
        server.go_on()
        assert lease.lost


def test_a_renewal_without_answer_keeps_nobody_from_hearing_of_a_loss(serve: Serve) -> None:
    """Not even of one that began in the moment in which the lease was lost."""
    server = serve("--recovery-grace", "30")
    client = Client(server.url)
    client.create_limit("db", 1)
    gate = client.gate
    assert isinstance(gate, RemoteGate)
    with client.concurrency("db", lease_duration=1.0, suppress_warnings=True) as lease:
        wait_until(lambda: gate.renewals._connection is not None)
        gate.renewer.stop()  # this test is the renewer
        server.stop()
        wait_until(lambda: gate.clock() > lease.deadline_us)
        begun = time.monotonic()
        with pytest.raises(errors.ServerUnavailable):
            gate.renewals.call([Renew(lease.id, lease.session, gate.threads.epoch, SECOND)])
        assert time.monotonic() - begun < 10, "it does not wait for the server to go on"
        server.go_on()


def test_a_holder_keeps_its_lease_over_a_restart_longer_than_its_duration(serve: Serve) -> None:
    """The server expires nobody for time in which nobody could renew."""
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 1)
    with pytest.warns(errors.LeaseLostWarning), client.concurrency("db", lease_duration=1.0) as lease:
        server.kill()
        pass_time(2.0)
        server.start()
        begun = client.read_lease(lease.id).expires
        assert begun is not None
        wait_until(lambda: client.read_lease(lease.id).expires > begun)  # type: ignore[operator]
        assert client.read_lease(lease.id).state == "held"


def test_without_a_server_a_caller_hears_so_within_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = Client(f"ebbgate://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "0.4")
        begun = time.monotonic()
        with pytest.raises(errors.ServerUnavailable, match="ebbgate serve"), client.concurrency("db"):
            pytest.fail("nobody lets it in")
        with pytest.raises(errors.ServerUnavailable):
            client.list_limits()
        with client.concurrency("db", on_unavailable="run") as lease:
            assert not lease.protected
        assert 1.2 <= time.monotonic() - begun < 10
        monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "20")
        begun = time.monotonic()
        with pytest.raises(errors.ServerUnavailable), client.concurrency("db", timeout_seconds=0.2):
            pytest.fail("nobody lets it in")
        assert 0.2 <= time.monotonic() - begun < 10, "not as long as a connection may take"

        async def ask() -> None:
            from ebbgate import AsyncClient

            async with AsyncClient(client.url).concurrency("db", timeout_seconds=0.2):
                pytest.fail("nobody lets it in")

        with pytest.raises(errors.ServerUnavailable):
            asyncio.run(ask())
        client.close()


def test_a_server_that_takes_connections_and_says_nothing_is_no_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "0.5")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"ebbgate://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(errors.ServerUnavailable):
            client.list_limits()
        client.close()


def test_another_server_is_found_where_one_is_dead_and_one_is_silent(serve: Serve) -> None:
    server = serve()
    with socket.socket() as dead, socket.create_server(("127.0.0.1", 0)) as silent:
        dead.bind(("127.0.0.1", 0))
        ports = [dead.getsockname()[1], silent.getsockname()[1], server.port]
        client = Client(",".join(f"ebbgate://127.0.0.1:{port}" for port in ports))
        client.create_limit("db", 1)
        with client.concurrency("db"):
            assert client.read_limit("db").held_slots == 1
        client.close()


def test_a_waiter_keeps_its_place_while_it_moves_to_another_server(serve: Serve) -> None:
    """Its process is told to come back, and comes back elsewhere: here, where the first one was."""
    server = serve()
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        client = Client(f"{server.url},ebbgate://127.0.0.1:{dead.getsockname()[1]}")
        client.create_limit("db", 1)
        with client.concurrency("db"):
            workers = Workers(client, "db", 3)
            server.end()
            server.start()
            wait_until(lambda: client.read_limit("db").waiting == 3)
        workers.join()
        assert workers.order == [0, 1, 2]
        client.close()


def test_a_waiter_that_times_out_while_the_server_is_away_leaves_the_queue(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 1)
    with client.concurrency("db", lease_duration=60):
        with ThreadPoolExecutor(1) as pool:

            def wait() -> None:
                with client.concurrency("db", timeout_seconds=1.0):
                    pytest.fail("it is held")

            waiting = pool.submit(wait)
            wait_until(lambda: client.read_limit("db").waiting == 1)
            server.kill()
            with pytest.raises(errors.AcquireTimeout):
                waiting.result(20)
        server.start()
        wait_until(lambda: client.read_limit("db").waiting == 0)


def test_a_limit_is_created_and_deleted_once_over_any_number_of_breaks(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    over = threading.Event()
    done = 0

    def change() -> None:
        nonlocal done
        while not over.is_set():
            client.create_limit(f"limit {done}", 1)
            client.delete_limit(f"limit {done}")
            done += 1

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            for _ in range(4):
                before = done
                wait_until(lambda before=before: done > before + 5 or changing.done())  # type: ignore[misc]
                server.kill()
                server.start()
        finally:
            over.set()
        changing.result(30)
    assert client.list_limits() == []


def test_an_idle_client_notices_at_its_next_question_that_the_server_was_another_one(serve: Serve) -> None:
    server = serve()
    client = Client(server.url)
    client.create_limit("db", 1)
    for _ in range(3):
        server.kill()
        server.start()
        with client.concurrency("db", timeout_seconds=5):
            assert client.read_limit("db").held_slots == 1


def test_a_store_that_has_forgotten_everybody_is_greeted_anew() -> None:
    """A server on a store in memory begins with nothing: who waits asks again."""
    with served("memory://") as server:
        port = server.port
        client = Client(server.url)
        client.create_limit("db", 1)
        with client.concurrency("db", lease_duration=60):
            pass
    with served("memory://", port=port, recovery_grace_seconds=0.5):  # until then nothing is granted
        client.create_limit("db", 1)
        with client.concurrency("db", timeout_seconds=5):
            assert client.read_limit("db").held_slots == 1
        client.close()


def test_threads_and_tasks_in_a_storm_of_kills_lose_nothing(serve: Serve) -> None:
    """Never more inside than slots; everybody gets in again and again."""
    server = serve("--durability", "normal")
    client = Client(server.url)
    client.create_limit("db", 3)
    over = threading.Event()
    guard = threading.Lock()
    inside = most = entries = 0

    def enter() -> None:
        nonlocal inside, most, entries
        with guard:
            inside += 1
            entries += 1
            most = max(most, inside)

    def leave() -> None:
        nonlocal inside
        with guard:
            inside -= 1

    def work() -> None:
        while not over.is_set():
            with client.concurrency("db"):
                enter()
                pass_time(0.001)
                leave()

    async def work_in_tasks() -> None:
        from ebbgate import AsyncClient

        async def task() -> None:
            while not over.is_set():
                async with AsyncClient(server.url).concurrency("db"):
                    enter()
                    await asyncio.sleep(0.001)
                    leave()

        await asyncio.gather(*[task() for _ in range(8)])

    with ThreadPoolExecutor(7) as pool:
        working = [pool.submit(work) for _ in range(6)] + [pool.submit(asyncio.run, work_in_tasks())]
        for _ in range(3):
            before = entries
            wait_until(lambda before=before: entries > before + 50)  # type: ignore[misc]
            server.kill()
            server.start()
        over.set()
        for future in working:
            future.result(20)
    assert most == 3
    wait_until(lambda: client.read_limit("db").held_slots == client.read_limit("db").waiting == 0)


def test_no_thread_or_socket_outlives_its_gate(serve: Serve) -> None:
    server: Served = serve()
    client = Client(server.url)
    client.create_limit("db", 1)
    with client.concurrency("db"):
        assert isinstance(client.gate, RemoteGate)
    close_gate(server.url)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("ebbgate")])
