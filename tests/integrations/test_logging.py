"""What the log is told of waits, holds and losses."""

import logging
from collections.abc import Iterator

import pytest

from ebbgate import Client
from ebbgate.errors import AcquireTimeout, LeaseLost
from ebbgate.integrations.logging import instrument, uninstrument


@pytest.fixture
def client() -> Iterator[Client]:
    observer = instrument(logging.INFO)
    with Client("memory://") as here:
        here.create_limit("logged", 1)
        yield here
        here.delete_limit("logged", force=True)
    uninstrument(observer)


def entries(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "ebbgate.use"]


def test_a_block_is_logged_with_its_fields(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with client.concurrency("logged") as lease:
        pass
    entered, left = entries(caplog)
    assert entered.getMessage().startswith("in at logged after 0.")
    assert left.getMessage().startswith("left logged after 0.")
    assert vars(entered)["lease_id"] == vars(left)["lease_id"] == lease.id
    assert vars(entered)["waited_seconds"] >= 0
    assert vars(left)["held_seconds"] >= 0
    assert vars(left)["limits"] == "logged"


def test_being_kept_out_and_losses_are_warnings(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.update_limit("logged", limit=0)
    with pytest.raises(AcquireTimeout), client.concurrency("logged", timeout_seconds=0):
        pass
    client.update_limit("logged", limit=1)
    with pytest.raises(LeaseLost), client.concurrency("logged", strict=True) as lease:
        client.revoke_lease(lease.id)
        while not lease.lost:
            pass
    kept_out, lost = entries(caplog)
    assert (kept_out.levelno, vars(kept_out)["code"]) == (logging.WARNING, "acquire_timeout")
    assert (lost.levelno, vars(lost)["why"]) == (logging.WARNING, "revoked")
