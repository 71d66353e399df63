"""Everything that one server is made of, put together."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Final

from ebbgate.core.model import SECOND, Settings
from ebbgate.server.decider import Decider
from ebbgate.server.embedded_decider import EmbeddedDecider
from ebbgate.server.front import App
from ebbgate.server.hearing import Hearing
from ebbgate.server.history.history import History
from ebbgate.server.others import OtherServers
from ebbgate.server.prefect.app import PREFIX, WAIT_SECONDS, PrefectApi
from ebbgate.server.refusals import NO_UPGRADE, NO_WEBSOCKET, refuse
from ebbgate.server.rest.app import rest_app
from ebbgate.server.sessions import Sessions
from ebbgate.server.stream import Receive, Scope, Send, Stream
from ebbgate.server.tally import Tallies
from ebbgate.server.ui.app import ui_app
from ebbgate.stores import (
    is_network_url,
    open_history,
    open_network_store,
    open_store,
    path_of,
    without_password,
)
from ebbgate.stores.base import EMPTY
from ebbgate.stores.sqlite import Durability
from ebbgate.wire.stream import PATH

_log: Final = logging.getLogger("ebbgate.server")

METRICS_PATH: Final = "/metrics"
COME_BACK_SECONDS: Final = 0.5
"""When clients of a server that stops try again: another one may have taken its place by then."""


class Service:
    """One server's decider and all that it serves, as an ASGI application without a front."""

    def __init__(
        self,
        store: str,
        *,
        durability: Durability = "full",
        upgrade: bool = True,
        allow_empty: bool = False,
        settings: Settings | None = None,
        away_grace_seconds: float = 10.0,
        recovery_grace_seconds: float = 30.0,
        prefect_wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Open the store.

        Args:
            store: its URL.
            durability: for SQLite; see `open_store`.
            upgrade: for a store that servers share; see `open_network_store`.
            allow_empty: whether a file that lost its content may be opened.
            settings: of the store.
            away_grace_seconds: for how long a client whose connections broke may come back.
            recovery_grace_seconds: for how long nothing expires after nobody could renew.
            prefect_wait_seconds: how long a client of Prefect's is held open before it must ask again.

        Raises:
            InvalidRequest: `store` names none.
            StoreUnavailable: it cannot be opened.
        """
        recovery_grace_us = round(recovery_grace_seconds * SECOND)
        self.decider = (
            _shared(store, settings, recovery_grace_us, upgrade=upgrade)
            if is_network_url(store)
            else _alone(store, settings, recovery_grace_us, durability=durability, allow_empty=allow_empty)
        )
        self._store = store
        self.sessions = Sessions(self.decider, away_grace_us=round(away_grace_seconds * SECOND))
        self.hearing = Hearing(self.decider)
        self.others: OtherServers | None = None
        if self.decider.is_shared:
            self.others = OtherServers(self.decider, self.sessions, recovery_grace_us=recovery_grace_us)
        self._recovery_seconds = recovery_grace_seconds
        self._missing: asyncio.TimerHandle | None = None
        self._stream = Stream(self.decider, self.sessions)
        self._tallies = Tallies(self.decider)
        counted = Tallies(self.decider, own=True) if self.decider.is_shared else self._tallies
        self.history = History(self.decider, counted, partial(open_history, store))
        self._rest = rest_app(self.decider, self.hearing, self.history)
        self._metrics: App | None = None
        self._prefect = PrefectApi(self.decider, wait_seconds=prefect_wait_seconds)

    async def start(self) -> None:
        """Begin to decide, on the running loop.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        await self.decider.start()
        if self.decider.engine.version == EMPTY:
            _log.warning("created a new, empty store: %s", without_password(self._store))
        self.history.start()
        if self.others is not None:
            self.others.start()
            return
        loop = asyncio.get_running_loop()
        self._missing = loop.call_later(self._recovery_seconds, self.sessions.miss_absent)

    def drain(self) -> None:
        """Have everybody who waits come back, here when it runs again or at another server."""
        self.hearing.drain()
        self._prefect.drain()
        self.sessions.drain(COME_BACK_SECONDS)

    async def close(self) -> None:
        """Stop deciding; what is held stays held."""
        if self._missing is not None:
            self._missing.cancel()
        self.sessions.close()
        if self.others is not None:
            self.others.close()
        await self.history.finish()
        await self.decider.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "lifespan" and scope["path"].startswith(PREFIX):
            await self._prefect(scope, receive, send)
        elif scope["type"] == "websocket":
            if scope["path"] == PATH:
                await self._stream(scope, receive, send)
            else:
                await refuse(scope, send, NO_WEBSOCKET)
        elif scope["type"] == "http" and scope["path"] == PATH:
            await refuse(scope, send, NO_UPGRADE)
        elif scope["type"] == "http" and (scope["path"] == "/" or scope["path"].startswith("/ui/")):
            await ui_app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == METRICS_PATH:
            if self._metrics is None:
                self._metrics = await asyncio.to_thread(
                    _metrics_app, self.decider, self.sessions, self._tallies
                )
            await self._metrics(scope, receive, send)
        elif scope["type"] == "http":
            await self._rest(scope, receive, send)  # type: ignore[arg-type]  # its own, narrower ASGI types


def _shared(store: str, settings: Settings | None, recovery_grace_us: int, *, upgrade: bool) -> Decider:
    """Return one of those who decide on a store behind a network."""
    from ebbgate.server.network_decider import NetworkDecider

    opened = open_network_store(store, upgrade=upgrade)
    return NetworkDecider(opened, settings, recovery_grace_us=recovery_grace_us)


def _alone(
    store: str,
    settings: Settings | None,
    recovery_grace_us: int,
    *,
    durability: Durability,
    allow_empty: bool,
) -> Decider:
    """Return who decides on a store of this machine."""
    path: Path | None = path_of(store) if store.startswith("sqlite:") else None
    opened = open_store(store, durability=durability, allow_empty=allow_empty)
    try:
        return EmbeddedDecider(opened, path, settings, recovery_grace_us=recovery_grace_us)
    except BaseException:
        opened.close()
        raise


def _metrics_app(decider: Decider, sessions: Sessions, tallies: Tallies) -> App:
    """Load what shows metrics: nobody may ever scrape, and it takes as long as everything else to begin."""
    from ebbgate.server.metrics import Metrics, metrics_app

    return metrics_app(Metrics(decider, sessions, tallies), decider)
