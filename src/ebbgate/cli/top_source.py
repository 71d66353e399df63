"""What `ebbgate top` shows, read aside, so that a slow store never makes it deaf to keys.

The limits are read in pages, and the more there are the more seldom, so that looking on costs the store at most
a twentieth of one processor. Leases are read of the one limit that is looked at, the first `LEASES_MAX` of them.
"""

import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from ebbgate.client.client import Client
from ebbgate.errors import EbbgateError, LimitNotFound
from ebbgate.wire.questions import ListLeases
from ebbgate.wire.shapes import LeaseInfo, LimitInfo, StatusInfo

TICK_SECONDS: Final = 0.4
LIST_SHARE: Final = 20  # listing may take one part in so many of the time
LIST_MAX_SECONDS: Final = 10.0
LEASES_MAX: Final = 200
RATE_SECONDS: Final = 1.0
"""The shortest time over which grants are counted; the longest is twice that."""


class Focus(NamedTuple):
    """The limit that is looked at."""

    limit: LimitInfo
    holders: tuple[LeaseInfo, ...]
    waiters: tuple[LeaseInfo, ...]


class Reading(NamedTuple):
    """How things stood."""

    limits: tuple[LimitInfo, ...] = ()
    per_second: dict[str, float] = {}  # noqa: RUF012 - never changed; grants of each limit, by id
    status: StatusInfo | None = None
    focus: Focus | None = None
    at: float = 0.0  # when it was read, by the monotonic clock
    error: str = ""  # why it could not be read since
    number: int = 0  # rises with every list of limits

    def now(self) -> datetime:
        """Return the store's time now."""
        assert self.status is not None, "read before"
        return self.status.now + timedelta(seconds=time.monotonic() - self.at)


class Rates:
    """Counts grants per second."""

    def __init__(self) -> None:
        """Nothing was counted yet."""
        self._samples: dict[str, tuple[float, int, float, int]] = {}  # an older and a newer count, and when

    def update(self, limits: tuple[LimitInfo, ...], now: float) -> dict[str, float]:
        """Take in counts; return the rates that can be told."""
        rates: dict[str, float] = {}
        samples: dict[str, tuple[float, int, float, int]] = {}
        for limit in limits:
            older_at, older, newer_at, newer = self._samples.get(
                limit.id, (now, limit.granted, now, limit.granted)
            )
            if limit.granted < newer:  # whoever counts began anew
                older_at, older, newer_at, newer = now, limit.granted, now, limit.granted
            if now - newer_at >= RATE_SECONDS:
                older_at, older, newer_at, newer = newer_at, newer, now, limit.granted
            if now - older_at >= RATE_SECONDS / 4:
                rates[limit.id] = (limit.granted - older) / (now - older_at)
            samples[limit.id] = (older_at, older, newer_at, newer)
        self._samples = samples
        return rates


Act = Callable[[Client], str]
"""Changes something; returns what to tell."""


class Source:
    """Reads, and acts, on a thread of its own."""

    def __init__(self, client: Client, prefix: str, focus: str | None) -> None:
        """Read nothing yet.

        Args:
            client: asks.
            prefix: only limits whose name begins so.
            focus: name or id of the limit that is looked at; None: none is.
        """
        self._client = client
        self._prefix = prefix
        self._focus = focus
        self._rates = Rates()
        self._list_at = 0.0
        self._acts: queue.SimpleQueue[Act] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._over = threading.Event()
        self._news: Callable[[], None] = _nobody
        self._thread = threading.Thread(target=self._run, name="ebbgate-top", daemon=True)
        self.reading = Reading()
        self.told = ""  # what became of the last act

    def read(self, *, list_all: bool = True) -> Reading:
        """Read how things stand.

        Raises:
            EbbgateError: that cannot be read.
        """
        client, before = self._client, self.reading
        limits, rates, number = before.limits, before.per_second, before.number
        status = client.status()
        if list_all:
            started = time.monotonic()
            limits = tuple(client.list_limits(self._prefix))
            now = time.monotonic()
            rates = self._rates.update(limits, now)
            self._list_at = now + min(max(TICK_SECONDS, LIST_SHARE * (now - started)), LIST_MAX_SECONDS)
            number += 1
        focus = None if self._focus is None else self._read_focus(self._focus)
        self.reading = Reading(limits, rates, status, focus, time.monotonic(), "", number)
        return self.reading

    def _read_focus(self, name_or_id: str) -> Focus:
        limit = self._client.read_limit(name_or_id)
        return Focus(limit, self._leases(limit.id, "held"), self._leases(limit.id, "waiting"))

    def _leases(self, limit_id: str, state: str) -> tuple[LeaseInfo, ...]:
        found = self._client._answer(ListLeases(limit_id, state, count=LEASES_MAX))
        assert isinstance(found, list), "as the question promises"
        return tuple(entry for entry in found if isinstance(entry, LeaseInfo))

    # --- on a thread

    def start(self, news: Callable[[], None]) -> None:
        """Read again and again from now on; `news` is called, on that thread, when there is any."""
        self._news = news
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._over.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(1)

    def look_at(self, limit_id: str | None) -> None:
        """Read the leases of this limit from now on."""
        if limit_id != self._focus:
            self._focus = limit_id
            self._wake.set()

    def act(self, act: Act) -> None:
        """Have something changed, and see what came of it."""
        self._acts.put(act)
        self._wake.set()

    def _run(self) -> None:
        while not self._over.is_set():
            acted = self._carry_out()
            try:
                self.read(list_all=acted or time.monotonic() >= self._list_at)
            except LimitNotFound:  # the one that was looked at was deleted
                self._focus = None
                self.reading = self.reading._replace(focus=None)
            except EbbgateError as error:
                self.reading = self.reading._replace(error=str(error))
            except Exception as error:  # noqa: BLE001 - what is on the screen stays there, and says so
                self.reading = self.reading._replace(error=f"a defect: {error!r}")
            self._news()
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    def _carry_out(self) -> bool:
        acted = False
        while not self._acts.empty():
            acted = True
            try:
                self.told = self._acts.get_nowait()(self._client)
            except EbbgateError as error:
                self.told = str(error)
        return acted


def _nobody() -> None:
    """Nobody wants to know."""
