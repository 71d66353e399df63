"""The file of API keys: who may read it, and what a reload does to the connections of a key that is gone."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ebbgate.server.keys import Keys
from tests.cli.support import wait_until
from tests.server.asking import KEY_TEXT, OTHER_KEY, Wire, ask
from tests.server.processes import Served, started

pytestmark = pytest.mark.slow

NEW_KEY = "0123456789abcdef-newer"


def bearer(key: str) -> str:
    return f"Authorization: Bearer {key}"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"ci={KEY_TEXT}\nweb={OTHER_KEY}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(("mode", "warned"), [(0o644, 1), (0o602, 1), (0o640, 0), (0o600, 0)])
def test_a_key_file_that_every_user_may_use_is_warned_of_once(
    tmp_path: Path, keys: Path, mode: int, warned: int
) -> None:
    keys.chmod(mode)
    with started(tmp_path, "--api-keys-file", str(keys)) as served:
        messages = [str(entry["message"]) for entry in served.entries() if entry["level"] == "warning"]
    assert sum(f"chmod 600 {keys}" in message and f"{mode:04o}" in message for message in messages) == warned


async def revoke(served: Served, keys: Path) -> None:
    url = served.url.replace("http", "ws", 1) + "/v1/stream"
    stays = connect(url, additional_headers={"Authorization": f"Bearer {OTHER_KEY}"})
    async with (
        connect(url, additional_headers={"Authorization": f"Bearer {KEY_TEXT}"}) as stream,
        stays as other,
    ):
        watching = await Wire.connect(served.url)
        await watching.send("GET /v1/events HTTP/1.1", "Host: localhost", bearer(KEY_TEXT))
        assert b"200" in await watching.reader.readline()
        await asyncio.to_thread(keys.write_text, f"new={NEW_KEY}\nweb={OTHER_KEY}\n")
        begun = time.monotonic()
        served.process.send_signal(signal.SIGHUP)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(stream.recv(), 20)
        assert await watching.is_over()
        assert time.monotonic() - begun < 1.0
        await watching.close()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            4403,
            "the API key of this connection was revoked",
        )
        await other.ping()
        assert other.close_code is None
    statuses = [
        (await ask(served.url, "/v1/limits", bearer(key))).status for key in (KEY_TEXT, OTHER_KEY, NEW_KEY)
    ]
    assert statuses == [401, 200, 200]


def test_a_reload_ends_what_a_removed_key_has_open(tmp_path: Path, keys: Path) -> None:
    with started(tmp_path, "--api-keys-file", str(keys)) as served:
        asyncio.run(revoke(served, keys))
        reloaded = served.find("API keys reloaded")
        assert reloaded is not None
        assert reloaded["revoked"] == ["ci"]
        assert KEY_TEXT not in served.log.read_text()


@pytest.mark.parametrize("text", ["", "short\n"])
def test_a_file_that_cannot_be_used_leaves_the_old_keys(tmp_path: Path, keys: Path, text: str) -> None:
    with started(tmp_path, "--api-keys-file", str(keys)) as served:
        keys.write_text(text)
        served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "API keys not reloaded" in served.log.read_text(), "it said nothing")
        assert asyncio.run(ask(served.url, "/v1/limits", bearer(KEY_TEXT))).status == 200


def test_the_ids_of_removed_keys_are_told() -> None:
    keys = Keys([f"ci={KEY_TEXT}", f"web={OTHER_KEY}"])
    assert keys.replace(Keys([f"ci={NEW_KEY}", f"web={OTHER_KEY}"])) == {"ci"}
    assert keys.id_of(f"Bearer {NEW_KEY}".encode(), basic=False) == "ci"
    assert keys.replace(Keys([f"ci={NEW_KEY}", f"web={OTHER_KEY}", KEY_TEXT])) == frozenset()
