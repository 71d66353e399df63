"""API keys and TLS, as a client meets them."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbgate import AsyncClient, Client, errors
from ebbgate.client.connect import close_gate
from tests.client.remote.conftest import Serve
from tests.client.remote.support import wait_until
from tests.server.certificates import make_certificates


@pytest.fixture
def keys(folder: Path) -> Path:
    """Return a file with two keys."""
    path = folder / "keys"
    path.write_text("one=a-key-of-some-length-one\ntwo=a-key-of-some-length-two\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def closing() -> Iterator[list[Client]]:
    """Return a list of clients that are closed in the end."""
    clients: list[Client] = []
    yield clients
    for client in clients:
        client.close()


def test_a_wrong_key_is_refused_at_once_to_threads_and_tasks(
    serve: Serve, keys: Path, closing: list[Client]
) -> None:
    server = serve("--api-keys-file", str(keys))

    async def ask(key: str | None) -> None:
        async with AsyncClient(server.url, key).concurrency("db"):
            pytest.fail("it is not let in")

    for key in (None, "another-key-of-some-length"):
        client = Client(server.url, key)
        closing.append(client)
        begun = time.monotonic()
        with pytest.raises(errors.NotAuthorized):
            client.list_limits()
        with pytest.raises(errors.NotAuthorized), client.concurrency("db", on_unavailable="run"):
            pytest.fail("it is not let in")
        with pytest.raises(errors.NotAuthorized):
            asyncio.run(ask(key))
        assert time.monotonic() - begun < 20, "nobody tries until the time to connect is over: 30 s"


@pytest.mark.parametrize("key", ["a-key-of-some-length-one\n", "a-key-of-some-length-\u20ac"])
def test_a_key_that_nothing_can_be_is_refused_in_words(
    serve: Serve, keys: Path, closing: list[Client], key: str
) -> None:
    client = Client(serve("--api-keys-file", str(keys)).url, key)
    closing.append(client)
    with pytest.raises(errors.NotAuthorized, match="perhaps a line break"):
        client.list_limits()


def test_each_key_holds_leases_of_its_own(serve: Serve, keys: Path, closing: list[Client]) -> None:
    server = serve("--api-keys-file", str(keys))
    one, two = (Client(server.url, f"a-key-of-some-length-{name}") for name in ("one", "two"))
    closing += [one, two]
    one.create_limit("db", 1)
    with one.concurrency("db"):
        with pytest.raises(errors.AcquireTimeout), two.concurrency("db", timeout_seconds=0):
            pytest.fail("it is held")
        assert two.read_limit("db").held_slots == 1
    with two.concurrency("db"):
        pass


def test_tls_is_spoken_by_threads_tasks_and_the_renewer(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificates(folder)
    server = serve("--tls-cert", str(folder / "one.pem"), "--tls-key", str(folder / "one.key"))
    url = f"ebbgates://localhost:{server.port}"
    monkeypatch.setenv("EBBGATE_CA_FILE", str(folder / "one.pem"))
    client = Client(url)
    client.create_limit("db", 2)

    async def hold() -> None:
        async with AsyncClient(url).concurrency("db", lease_duration=4.5) as lease:
            first = lease.expires_at
            while lease.expires_at == first:
                await asyncio.sleep(0.01)

    with client.concurrency("db"):
        asyncio.run(hold())
        server.kill()
        server.start()
        assert client.read_limit("db").held_slots == 1
    assert client.read_limit("db").held_slots == 0
    close_gate(url)


def test_a_server_whose_certificate_is_not_trusted_is_not_talked_to(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch, closing: list[Client]
) -> None:
    make_certificates(folder)
    server = serve("--tls-cert", str(folder / "one.pem"), "--tls-key", str(folder / "one.key"))
    client = Client(f"ebbgates://localhost:{server.port}")
    closing.append(client)
    for authority in ("two.pem", "none.pem"):
        monkeypatch.setenv("EBBGATE_CA_FILE", str(folder / authority))
        begun = time.monotonic()
        with pytest.raises(errors.ServerUnavailable, match="EBBGATE_CA_FILE"):
            client.list_limits()
        assert time.monotonic() - begun < 20, "nobody tries until the time to connect is over: 30 s"
        client.close()
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "1")
    plain = Client(f"ebbgate://localhost:{server.port}")
    closing.append(plain)
    with pytest.raises(errors.ServerUnavailable):
        plain.list_limits()


@pytest.mark.slow
def test_a_holder_whose_key_was_revoked_is_told_so(serve: Serve, keys: Path, closing: list[Client]) -> None:
    server = serve("--api-keys-file", str(keys))
    client = Client(server.url, "a-key-of-some-length-one")
    closing.append(client)
    client.create_limit("db", 1)
    with client.concurrency("db", lease_duration=3) as lease:
        keys.write_text("two=a-key-of-some-length-two\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: lease.lost)
        assert lease.why == "not renewed, because the server no longer accepts this API key"
