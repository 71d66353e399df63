"""Talking to a server as Prefect's clients do, without one."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from tests.cli.support import PATIENCE_SECONDS, wait_until
from tests.prefect.contract import LIMITS

CLIENT: Final = "Prefect-Csrf-Client"


class Answered:
    """What was answered, and how long that took."""

    def __init__(self, answer: http.client.HTTPResponse, begun: float) -> None:
        """Read it all."""
        text = answer.read()
        self.took = time.monotonic() - begun
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.body: Any = json.loads(text) if text else None

    @property
    def lease_id(self) -> str:
        """The lease that was given."""
        assert self.status == 200, (self.status, self.body)
        return str(self.body["lease_id"])

    @property
    def retry_after(self) -> float:
        """When to come back."""
        assert self.status == 423, (self.status, self.body)
        return float(self.headers["retry-after"])


class Caller:
    """One client, with the id that one queue of a process of Prefect's has; "": without."""

    def __init__(self, url: str, client: str | None = None) -> None:
        """Talk to the server at `url`."""
        self.place = urlsplit(url).netloc
        self.client = str(uuid.uuid4()) if client is None else client

    def send(self, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPConnection:
        """Send a request, and wait for nothing."""
        connection = http.client.HTTPConnection(self.place, timeout=PATIENCE_SECONDS)
        named = {CLIENT: self.client} if self.client else {}
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json", **named, **headers})
        return connection

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answered:
        """Send a request; return its answer."""
        begun = time.monotonic()
        connection = self.send(method, path, body, **headers)
        answered = Answered(connection.getresponse(), begun)
        connection.close()
        return answered

    # --- the limits

    def create(self, name: str, limit: int, decay: float = 0.0) -> None:
        """Create a limit."""
        body = {"name": name, "limit": limit, "slot_decay_per_second": decay}
        assert self.ask("POST", f"{LIMITS}/", body).status == 201

    def read(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Read a limit."""
        return self.ask("GET", f"{LIMITS}/{name}").body

    def active_slots(self, name: str) -> int:
        """Return how many slots are occupied."""
        return int(self.read(name)["active_slots"])

    def acquire(self, *names: str, slots: int = 1, **more: object) -> Answered:
        """Take slots under a lease."""
        return self.ask("POST", f"{LIMITS}/increment-with-lease", {"slots": slots, "names": names, **more})

    def take(self, *names: str, slots: int = 1, mode: str = "concurrency") -> Answered:
        """Take slots without a lease, or spend them."""
        return self.ask("POST", f"{LIMITS}/increment", {"slots": slots, "names": names, "mode": mode})

    def give(self, *names: str, slots: int = 1) -> Answered:
        """Give slots back that were taken without a lease."""
        body = {"slots": slots, "names": names, "occupancy_seconds": 0.1}
        return self.ask("POST", f"{LIMITS}/decrement", body)

    def release(self, lease_id: str) -> Answered:
        """End a lease."""
        return self.ask("POST", f"{LIMITS}/decrement-with-lease", {"lease_id": lease_id})

    def renew(self, lease_id: str, duration: float = 60) -> Answered:
        """Renew a lease."""
        return self.ask("POST", f"{LIMITS}/leases/{lease_id}/renew", {"lease_duration": duration})

    def waiting(self, name: str) -> int:
        """Return how many wait for a limit, as the product's own API tells."""
        return int(self.ask("GET", f"/v1/limits/{name}").body["waiting"])

    def wait_for_waiters(self, name: str, count: int) -> None:
        """Return when so many wait."""
        wait_until(lambda: self.waiting(name) == count, f"never {count} waiting for {name}")


class Background:
    """A request whose answer comes later."""

    def __init__(self, call: Any, *arguments: object, **named: object) -> None:  # noqa: ANN401 - a method of `Caller`
        """Send it from a thread of its own."""
        self._answered: Answered | None = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments, named), daemon=True)
        self._thread.start()

    def _run(self, call: Any, arguments: Any, named: Any) -> None:  # noqa: ANN401 - as above
        self._answered = call(*arguments, **named)

    def answer(self) -> Answered:
        """Return the answer when it is there."""
        self._thread.join(PATIENCE_SECONDS)
        assert self._answered is not None, "no answer"
        return self._answered

    @property
    def is_answered(self) -> bool:
        """Whether it has come."""
        return self._answered is not None


@contextmanager
def held(caller: Caller, *names: str, slots: int = 1) -> Iterator[str]:
    """Hold slots meanwhile."""
    lease_id = caller.acquire(*names, slots=slots).lease_id
    yield lease_id
    caller.release(lease_id)
